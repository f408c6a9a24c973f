"""Records to ranked rows: the seeds of a configuration together, tracks, paired tests, ranks."""
