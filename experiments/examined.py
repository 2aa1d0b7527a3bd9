"""What `experiments.examine` measured of a run, as elements of a page."""

import json

from . import pairs, run_charts
from .elements import figure, table, text

#: The file in the run folder.
FILE = "examined.json"


def elements(row: pairs.Row) -> list[str]:
    """Returns the elements of what `experiments.examine` measured of a row, if it did.

    Raises:
      ValueError: if its file is no JSON.
    """
    file = next((f for r in row.runs.values() if (f := r.path / FILE).exists()), None)
    if file is None:
        return []
    try:
        measured = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    seed = next(seed for seed, r in row.runs.items() if r.path == file.parent)
    networks = measured["networks"]
    maps = f"{measured['examined_images']} test images"
    parts = [
        f"<h3>{text(row.label)}, seed {seed}</h3>",
        figure(
            run_charts.reliability(networks),
            "Accuracy by confidence in fifteen bins, larger dots for more images; "
            "below the line a network is surer than it is right.",
        ),
    ]
    if "teacher" in networks:
        parts.append(table(_right(measured["right"])))
        parts.append(
            figure(
                run_charts.classes(
                    measured["class_names"],
                    networks["student"]["class_accuracy"],
                    networks["teacher"]["class_accuracy"],
                ),
                "Accuracy on the classes where student and teacher differ most, at "
                "most twenty; on top those that the student has gained.",
            )
        )
    parts.append(
        figure(
            run_charts.spectra(networks),
            f"Singular values of the maps after the ReLU that ends a stage, mean over "
            f"{maps}.",
        )
    )
    if "responses" in measured:
        parts.append(
            figure(
                run_charts.responses(measured["responses"]),
                f"The teacher's responses before the ReLU on {maps}, in units of the "
                "size of their channels' margins: the margin ReLU clips those left of "
                "the line. Beyond the ends of the axis they are counted at the ends.",
            )
        )
    for number, pair in enumerate(measured.get("graphs", ()), start=1):
        parts.append(
            figure(
                run_charts.graphs(pair),
                f"Attention graphs of stages {number} and {number + 1}, mean of the "
                f"heads; KL(student || teacher) {pair['divergence']:.3f} nats over all "
                "heads.",
            )
        )
    return parts


def _right(counts: dict[str, int]) -> list[dict[str, str]]:
    """Returns the table of the images that student and teacher classify correctly."""
    total = sum(counts.values())

    def cell(name: str) -> str:
        return f"{counts[name]:,} ({100 * counts[name] / total:.1f} %)"

    return [
        {
            "test images": f"student {verdict}",
            "teacher right": cell(both),
            "teacher wrong": cell(one),
        }
        for verdict, both, one in (
            ("right", "both", "student alone"),
            ("wrong", "teacher alone", "none"),
        )
    ]
