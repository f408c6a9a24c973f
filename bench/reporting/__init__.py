"""From records to what people read: leaderboard.md, report, figures, `compare`, `show`, method pages.

Imports `run` (to draw episodes of a trained model) and all below it; only `cli` imports it.
"""
