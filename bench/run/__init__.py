"""One run, or a grid of runs: prepare, train, evaluate, record, and keep the model.

Imports `training`, `evaluation`, `records` and everything below them; `reporting` and `cli` import it.
"""
