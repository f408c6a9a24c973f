"""Pictures of the records: as files, and for the page.

What the records alone tell is drawn from them. Embeddings, confusions and episodes take a checkpoint and the
data besides; torch is imported only if a checkpoint is there.
"""

from bench.reporting.figures.collect import Options, collect, write
from bench.reporting.figures.picture import Gap, Picture

__all__ = ["Gap", "Options", "Picture", "collect", "write"]
