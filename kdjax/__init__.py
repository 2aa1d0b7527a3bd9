"""Knowledge distillation of image classifiers in JAX.

Axis letters used in every docstring: A heads, B batch, D devices, H height, W width,
C channels, K classes, N examples of a split, S steps of an epoch.
"""
