"""Few-shot methods, one a file; nothing here imports `bench`."""
