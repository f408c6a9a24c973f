"""A recorded run as something to use: predictor, calibration, export.

Imports `run` and everything below it; `reporting`, `demo` and `cli` import it.
"""
