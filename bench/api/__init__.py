"""The Python API: `bench.run`, `bench.evaluate`, `bench.Episodes`.

`bench.results` and `bench.load` are in `reporting` and `serving`. Imports `reporting` and everything
below it; ``bench/__init__.py`` and a call of ``bench.run(...)`` import it, by name.
"""
