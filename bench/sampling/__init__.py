"""Episodes, pairs and triplets, and the keys that determine them.

Imports nothing else of bench; `evaluation`, `training`, `records` and `reporting` import it.
"""
