"""Turns records into output for people: leaderboard.md, report, figures, `compare`, `show`, method pages.

Imports `run` (to draw episodes of a trained model) and everything below it; only `cli` imports it.
"""
