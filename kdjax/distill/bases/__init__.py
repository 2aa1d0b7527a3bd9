"""What several methods have in common; each method names its bases."""
