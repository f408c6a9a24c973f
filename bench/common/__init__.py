"""What every package uses: errors, files, progress, clocks, the machine.

Imports nothing else of bench; everything may import it.
"""
