"""A few-shot image classification benchmark: one command, reproducible comparisons, honest uncertainty."""

from importlib.metadata import PackageNotFoundError, version

PROTOCOL_VERSION = 1
"""Raised whenever a change of splits, episodes or metrics makes old and new numbers incomparable."""

try:
    __version__ = version("fewshot-bench")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
