"""From records to ranked rows: combined seeds, tracks, paired tests, ranks."""
