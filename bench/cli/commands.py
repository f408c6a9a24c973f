"""All commands: importing them registers them with the command line."""

from bench.cli import data, lists, records, run  # noqa: F401
from bench.cli.app import app

__all__ = ["app"]
