"""Turns records into output for people: leaderboard.md, report, figures, `compare`, `show`, method pages.

Imports `serving` and `run` (for the answers of a trained model) and everything below; `api`, `demo` and `cli`
import it.
"""
