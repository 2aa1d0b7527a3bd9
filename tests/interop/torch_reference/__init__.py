"""The networks in PyTorch, and what they answer: the other side of the comparison.

Each file holds one family as public PyTorch code has it, written for this purpose.
`python -m tests.interop.torch_reference.write` runs them (PyTorch is not among the
requirements) and stores what they answer under tests/golden/torch; weights and images
are not stored, since `drawing.py` gives both sides the same.
"""
