"""All commands, in the order in which the help lists them: importing a module registers its own."""

# isort: off
from bench.cli import run, sweep, lists, records, data  # noqa: F401
from bench.cli.app import app
# isort: on

__all__ = ["app"]
