"""Typed configurations, presets, hyperparameters, files with a grid of runs.

Imports `data` (names of data sets and splits) and `common`; `records`, `run`, `serving`, `reporting`, `api`
and `cli` import it.
"""
