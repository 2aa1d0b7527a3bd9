"""Scripts that make tables, plots and benchmarks out of runs."""
