import re

import pytest

from experiments import page, report

from .run_folders import OVERHAUL, RKD, write_run

#: Accuracies of three seeds, so that both gains are known.
ALONE, OFD, OTHER = (0.70, 0.71, 0.72), (0.74, 0.76, 0.75), (0.71, 0.72, 0.76)


@pytest.fixture
def comparison(tmp_path):
    """Three seeds of a student alone and of two methods."""
    for name, accuracies, methods in (
        ("alone", ALONE, None),
        ("ofd", OFD, OVERHAUL),
        ("rkd", OTHER, RKD),
    ):
        for seed, accuracy in enumerate(accuracies):
            write_run(
                tmp_path / f"{name}_{seed}",
                accuracy,
                seed=seed,
                methods=methods,
                teacher="wrn_16_2" if methods else "",
            )
    return tmp_path


def test_page_has_figures_and_charts_of_its_own(comparison, capsys):
    arguments = [f"--runs={comparison}", "--html"]
    assert report.main(arguments) == 0
    assert "report.html" in capsys.readouterr().out
    text = (comparison / "report.html").read_text()
    # Gains of 4, 5 and 3 points: 4.303 standard errors of 1 / sqrt(3).
    assert "+4.00 [1.52, 6.48]" in text
    # The curves, the gains and the speeds; the runs have no agreement.
    assert text.count("<figure>") == text.count("<svg") == 3
    assert "overhaul" in re.sub(r"<table.*?</table>", "", text, flags=re.S)
    # Nothing is loaded, and every color of text follows the theme.
    loaded = re.findall(r'(?:src|href)="(?!#)([^"]*)"', text)
    assert loaded == []
    assert "var(--ink)" in text
    assert not re.search("#010203|#040506|#070809", text)


def test_p_is_corrected_for_the_number_of_methods(comparison):
    (block,), _ = report.collect(comparison)
    found = page._corrected_p(block)
    # t = 4 sqrt(3) and t = 2 / (sqrt(3) / sqrt(3)) with two degrees of freedom.
    assert found["overhaul"] == pytest.approx(2 * 0.020204, rel=1e-3)
    assert found["rkd"] == pytest.approx(0.183503, rel=1e-3)


def test_names_are_escaped(comparison):
    (block,), _ = report.collect(comparison)
    text = page.page([block], ["unfinished: <b>\x1b[31m\n"], "x & y")
    assert "unfinished: &lt;b&gt;\\x1b[31m\\n" in text
    assert "x &amp; y" in text
