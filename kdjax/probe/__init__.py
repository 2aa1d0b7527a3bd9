"""Linear probes: what the frozen features of a trained network are good for.

`python -m kdjax.probe --help` says how they are measured.
"""
