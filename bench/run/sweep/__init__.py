"""Runs a grid on several processes or machines.

One job: which runs and shared trainings are to be made, in which order, by which engine. Imports what makes
a single run; is imported by the command line.
"""
