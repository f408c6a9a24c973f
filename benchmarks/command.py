"""The command line that the benchmarks of speed share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from bench.common.errors import UserError


def run(name: str, doc: str, report: Callable[..., str], devices: bool = False) -> int:
    """Measure everything and print the table; returns the exit code.

    Args:
        name: the benchmark's module.
        doc: its first line is the command's help.
        report: folder of CIFAR-100, number of repeats, whether to do little of everything -> Markdown.
        devices: whether there is a choice of device, the report's last argument.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=doc.split("\n")[0])
    parser.add_argument("--data-root", type=Path, help="where CIFAR-100 lies (default: as for `bench run`)")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each side (default: 3)")
    parser.add_argument("--quick", action="store_true", help="little of everything: shows that it works")
    if devices:
        parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--output", type=Path, help="write the table to this file too")
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error("argument --repeats: at least 1")
    try:
        text = report(args.data_root, args.repeats, args.quick, *([args.device] if devices else []))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    if args.output:
        args.output.write_text(text + "\n", encoding="utf-8")
    return 0


def say(what: str) -> None:
    """Tell on stderr what was just measured."""
    print(what, file=sys.stderr, flush=True)
