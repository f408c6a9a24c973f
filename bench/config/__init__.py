"""Typed configurations, presets, hyperparameters, files with a grid of runs.

Imports `data` (names of data sets and splits), `common` and `methods` (its registry and names of backbones);
`records`, `run`, `serving`, `reporting`, `api` and `cli` import it.
"""
