"""Commands, flags and help; no logic. Imports everything below it; only `bench.__main__` imports it."""
