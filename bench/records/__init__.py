"""Records: schema, files, validation, and which records share a configuration.

Imports `statistics`, `sampling`, `config`, `data` (names), `common` and `methods` (its registry);
`evaluation`, `training`, `run` and all above import it.
"""
