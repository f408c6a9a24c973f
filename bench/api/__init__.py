"""The Python API: `bench.run`, `bench.evaluate`, `bench.Episodes`.

`bench.results` and `bench.load` are in `reporting` and `serving`. Imports `reporting` and everything
below it; `cli` and ``bench/__init__.py`` import it.
"""
