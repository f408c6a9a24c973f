"""Episodes, pairs and triplets, and the keys that determine them.

Imports nothing else of bench; `records`, `evaluation`, `training`, `run`, `reporting` and `api` import it.
"""
