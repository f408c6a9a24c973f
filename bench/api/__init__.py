"""The Python API: `bench.run`, `bench.evaluate`, `bench.Episodes`.

`bench.results` and `bench.load` are in `reporting` and `serving`. Imports everything but `cli`.
"""
