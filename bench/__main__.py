"""`python -m bench`."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, cast

INTERRUPTED = (
    "interrupted; an unfinished run is not recorded: the same command resumes from its last checkpoint"
)

INTERRUPT = 130
"""Exit code of an interrupted command; the parser uses it for Ctrl-C."""


def main() -> NoReturn:
    """Run the command line: errors are one line on stderr, with the documented exit codes."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)
        _put_own_folder_last()
        from bench.common.streams import Tolerant

        out = Tolerant(sys.stdout)
        sys.stdout, sys.stderr = out, Tolerant(sys.stderr)
        code = _run()
        out.flush()
    except KeyboardInterrupt:
        code = INTERRUPT
    if code == INTERRUPT:
        _fail(INTERRUPTED, code)
    if isinstance(out.failed, OSError) and not isinstance(out.failed, BrokenPipeError):
        _fail(f"stdout: cannot be written ({out.failed.strerror})", 2)
    sys.exit(code)


def _put_own_folder_last() -> None:
    """`python -m` searches the working directory first: its `methods/` or `yaml.py` would be imported."""
    with suppress(OSError):  # it may be deleted
        here = Path.cwd()
        if sys.path[0] == str(here) and Path(__file__).parents[1] != here:
            sys.path.append(sys.path.pop(0))


def _run() -> int:
    """The exit code of the command line; imports are here because Ctrl-C may interrupt them too."""
    import typer

    from bench.cli.commands import app
    from bench.common.errors import UserError

    # Print the table even if the terminal cannot show ±.
    cast(io.TextIOWrapper, sys.stdout).reconfigure(errors="replace")
    try:
        return app(sys.argv[1:] or ["--help"], prog_name="python -m bench", standalone_mode=False) or 0
    except UserError as error:
        _fail(str(error), 2)
    except typer.Abort:
        return INTERRUPT
    except Exception as error:
        if not hasattr(error, "format_message"):  # not a usage error
            raise
        _fail(_usage(error), 2)


def _stop(*signal_and_frame: Any) -> NoReturn:
    """Handle SIGTERM like Ctrl-C; a second one ends at once, without another word."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(INTERRUPT))
    raise KeyboardInterrupt


def _usage(error: Any) -> str:
    """The parser's error as one line that names the flag, the value and what is allowed."""
    from bench.common.errors import one_line, one_of

    message = one_line(error.format_message()).rstrip(".")
    flag, parameter = getattr(error, "option_name", None), getattr(error, "param", None)
    if type(error).__name__ == "NoSuchOption":
        flags = [name for own in error.ctx.command.params for name in own.opts if name.startswith("--")]
        return f"{flag}: no such flag; {one_of(flag, [*flags, '--help'])}"
    if flag:  # a value is missing, or the flag takes none
        return f"{flag}: {message.removeprefix(f'Option {flag!r} ')}"
    if type(error).__name__ == "MissingParameter" and parameter is not None:
        name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
        return f"{name}: is missing; {parameter.help.rstrip('.')}"
    if message == "Missing command":
        return f"{error.ctx.info_name}: needs a command; {one_of('', error.ctx.command.commands)}"
    return f"{message[0].lower()}{message[1:]}; see {error.ctx.command_path} --help"


def _fail(message: str, code: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
