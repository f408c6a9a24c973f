"""Images, their sources, normalisation and augmentation, and splits of their classes.

Imports `common`; `config`, `evaluation`, `training` and most packages above them import it.
"""
