"""Images, their sources, normalisation and augmentation, and splits of their classes.

Imports `common`, and `methods` to reach the Hugging Face hub; `config`, `evaluation`, `training` and most
packages above them import it.
"""
