"""The web page: draw, compare, classify, browse. Imports everything below it; only `cli` imports it."""
