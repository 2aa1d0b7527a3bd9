"""Linear algebra of the losses that compress a feature map to singular vectors."""
