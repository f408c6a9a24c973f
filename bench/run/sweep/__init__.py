"""Runs a grid on several processes or machines: which runs and shared trainings, in which order, and where.

Imports the rest of `run`; `cli` imports it.
"""
