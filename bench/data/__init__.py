"""Images, their sources, and splits of their classes."""
