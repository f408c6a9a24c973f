"""One run, or a grid of them: prepare it, train it, measure it, record it, and keep its model.

Imports `training`, `evaluation`, `records` and all below them; `reporting` and `cli` import it.
"""
