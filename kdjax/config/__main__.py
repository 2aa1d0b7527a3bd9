"""Prints docs/configuration.md: `python -m kdjax.config`."""

from collections.abc import Iterator

from kdjax.config.fields import FIELDS


def page() -> Iterator[str]:
    """Yields the lines of docs/configuration.md."""
    yield from (
        "# Configuration",
        "",
        "Made by `make docs` (`python -m kdjax.config`) from the table in"
        " `kdjax/config/fields.py`.",
        "",
        "Any field is set on the command line, as in"
        " `--config.optimizer.learning_rate=0.05`. The values here are the defaults;"
        " the recipes in `kdjax/recipes.py` and the files in `configs/` fill them in.",
        "",
        "A work directory is only resumed with the configuration that it was started"
        " with, but for the fields marked *resume*. Runs that differ in nothing but the"
        " fields marked *repeat* count as repeats of one experiment in"
        " `experiments.report`.",
        "",
        "| Field | Default | Allowed | Meaning | |",
        "|---|---|---|---|---|",
    )
    for name, field in FIELDS.items():
        marks = ["*resume*"] * field.resume_may_differ
        marks += ["*repeat*"] * (not field.in_recipe)
        default = f"{field.default!r}".replace("'", '"')
        yield (
            f"| `{name}` | `{default}` | {field.allowed or field.type} | {field.doc} |"
            f" {' '.join(marks)} |"
        )
    yield from (
        "| `methods.NAME.*` | | | Hyperparameters of the distillation methods:"
        " [methods.md](methods.md). | |",
    )


if __name__ == "__main__":
    print("\n".join(page()))
