"""Training batches, Lightning's loop, its callbacks and checkpoints.

Imports `evaluation` (for the validation), `records` (names), `sampling`, `data` and `common`; `run` imports
it.
"""
