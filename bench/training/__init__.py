"""Training batches, Lightning's loop, its callbacks and checkpoints.

Imports `evaluation` (for the validation), `records` (names), `sampling`, `data`, `common` and `methods`
(the contract); `run` imports it.
"""
