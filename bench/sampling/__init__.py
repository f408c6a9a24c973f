"""Episodes, pairs and triplets, and the keys that they are drawn by.

Imports nothing else of bench; `evaluation`, `training`, `records` and `reporting` import it.
"""
