import pytest

from experiments import verify


def test_every_figure_is_that_of_its_records(capsys):
    """Renaming a field of the configuration must rename it in the records, too."""
    assert verify.main() == 0
    assert capsys.readouterr().out == "every figure is that of its records\n"


def test_a_figure_of_other_records_is_named(monkeypatch, capsys):
    sections = {("README.md", "Quickstart"): ("cifar100_ofd_c",)}
    monkeypatch.setattr(verify, "SECTIONS", sections)
    monkeypatch.setattr(verify, "_without_command", lambda page: page.splitlines()[:3])
    assert verify.main() == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("README.md, Quickstart: ")
    assert "96.32" in line
    assert line.endswith(" not in cifar100_ofd_c")


def test_a_table_that_is_not_made_anew_is_named(monkeypatch, capsys):
    monkeypatch.setattr(verify, "SECTIONS", {})
    monkeypatch.setattr(verify.report, "markdown", lambda *_: "another")
    assert verify.main() == 1
    found = capsys.readouterr().out.splitlines()
    assert "experiments/results/digits_overhaul/table.md is not of its records" in found


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("WRN-16-2 at 250 images/s gives 75.92 %, 1,241 kernels", ["75.92"]),
        ("| `f_12` | 1,241 | 0.9 | WRN-16-2 |", ["1,241", "0.9"]),
        ("    overhaul    3  96.32 ± 0.69  +6.40 [1.60, 11.20]  gain [95 %]", None),
        ("    python -m experiments.report --runs=12", []),
    ],
)
def test_numbers_of_tables_and_those_with_two_decimals_are_read(text, numbers):
    if numbers is None:
        numbers = ["3", "96.32", "0.69", "+6.40", "1.60", "11.20"]
    assert list(verify.printed(text)) == numbers


def test_a_number_is_compared_as_it_is_printed():
    known = [0.9856, 1241.0, -3.72]
    for number in ("0.99", "0.986", "1,241", "-3.72", "-3.7"):
        assert verify.is_given(number, known)
    for number in ("0.98", "0.9", "1,242", "3.72"):
        assert not verify.is_given(number, known)
