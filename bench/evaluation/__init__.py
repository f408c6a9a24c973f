"""Evaluation of trained methods: episodes, pairs and triplets, new classes joining the base classes.

Imports `statistics`, `sampling`, `data` and `common`; `training` and `run` import it.
"""
