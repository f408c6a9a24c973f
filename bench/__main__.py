"""`python -m bench`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, with mistakes as one line on stderr and the exit codes of the documentation."""
    from bench.cli import app
    from bench.errors import UserError

    try:
        sys.exit(app(standalone_mode=False) or 0)
    except UserError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("interrupted; nothing was recorded", 130)
    except BrokenPipeError:  # `bench list | head`
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if not hasattr(error, "format_message"):  # not a mistake in the command line
            raise
        _fail(_usage(error), getattr(error, "exit_code", 2))


def _usage(error) -> str:  # type: ignore[no-untyped-def]
    """The parser's complaint as one line that names the flag, the value and what is allowed."""
    from bench.errors import one_of

    message = " ".join(error.format_message().split())
    option = getattr(error, "option_name", None)
    if option and not getattr(error, "param", None) and error.ctx is not None:
        flags = [flag for p in error.ctx.command.params for flag in p.opts if flag.startswith("--")]
        if option not in flags:
            return f"{option}: no such flag; {one_of(option, flags)}"
    return message


def _fail(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
