"""Puts configs/ and experiments/ into the installed package; see pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["kdjax*"]), "kdjax.configs", "kdjax.experiments"],
    package_dir={"kdjax.configs": "configs", "kdjax.experiments": "experiments"},
    package_data={"kdjax.experiments": ["*.csv"]},
)
