"""Records: their schema, files, validation, and which of them are of one configuration.

Imports `statistics`, `sampling`, `config` and `common`; `run` and `reporting` import it.
"""
