"""What all commands share: their ends, their output, paths and optional packages."""
