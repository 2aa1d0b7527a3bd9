"""Linear algebra of the methods that compress a feature map to singular vectors."""
