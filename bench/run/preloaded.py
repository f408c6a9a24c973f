"""What the server process of `start_method` imports, once for all processes that are forked from it."""

from bench.run import source_code
from bench.run.run_id import MEASURING, NOT_MEASURING
from bench.run.runner import run

__all__ = ["run"]

# The identity of later runs is that of the code that is loaded now, whatever its files become.
source_code.digest(*MEASURING, without=NOT_MEASURING)
