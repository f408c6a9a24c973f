"""Figures of the records, as files and for the report.

Most figures need only records. Embeddings, confusions and episodes also need a checkpoint and the data; torch
is imported only if there is a checkpoint.
"""

from bench.reporting.figures.collect import Options, collect, write
from bench.reporting.figures.picture import Gap, Picture

__all__ = ["Gap", "Options", "Picture", "collect", "write"]
