"""A recorded run as something to use: predictor, calibration, export.

Imports `run` and everything below it; `api` and `cli` import it.
"""
