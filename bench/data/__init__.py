"""Images, their sources, normalisation and augmentation, and splits of their classes.

Imports `common`, and `methods` to reach the Hugging Face hub; `config`, `records` and all above
them but `demo` import it.
"""
