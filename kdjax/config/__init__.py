"""The fields of a configuration, and what is checked of their values."""
