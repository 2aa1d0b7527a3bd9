"""Data sets, and batches of them on the device."""
