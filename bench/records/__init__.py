"""Records: schema, files, validation, and which records share a configuration.

Imports `statistics`, `sampling`, `config`, `data` (names) and `common`; `run` and all above import it.
"""
