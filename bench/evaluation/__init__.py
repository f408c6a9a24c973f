"""Evaluation of trained methods: episodes, pairs and triplets, new classes joining the base classes.

Imports `records` (names), `statistics`, `sampling`, `data` and `common`; `training`, `run` and all above them
but `cli` import it.
"""
