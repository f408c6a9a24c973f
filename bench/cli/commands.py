"""All commands, in the order of the help: importing a module registers its commands."""

# isort: off
from bench.cli import run, rank, sweep, lists, records, serving, demo, methods, data  # noqa: F401
from bench.cli.app import app
# isort: on

__all__ = ["app"]
