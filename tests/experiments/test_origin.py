import hashlib

from experiments import origin, pack, report
from experiments.records import FILE
from tests.commands import run

from .run_folders import blocks_of, runs, write_pair


def test_the_card_of_a_table_names_all_that_made_it(tmp_path):
    """Of 12 runs that took a minute, and a second more for each seed."""
    write_pair(tmp_path)
    found, _ = runs.read_runs(tmp_path)
    assert origin.card(found, tmp_path, "make it") == {
        "Devices": "2 x cpu",
        "Versions": "jax 1.2.3",
        "Git revision": "abc123",
        "Seeds": "0, 1, 2",
        "Time": "12.2 min of 12 runs, the median of which took 1.0 min",
        "Records": "run folders, which `experiments.pack` makes one file of",
        "Made by": "`make it`",
    }


def test_packed_records_have_their_checksum_on_both_pages(tmp_path, capsys):
    write_pair(tmp_path / "runs")
    out = tmp_path / "out"
    flags = (f"--runs={tmp_path / 'runs'}", f"--out={out}")
    assert run(pack.main, capsys, *flags)[0] == 0
    checksum = hashlib.sha256((out / FILE).read_bytes()).hexdigest()
    report.write(out, out, as_html=True)
    for name in ("table.md", "report.html"):
        assert f"{FILE} SHA-256 {checksum}" in (out / name).read_text()
    assert "<code>python -m experiments.report" in (out / "report.html").read_text()
    # A run that stands in several blocks is one run.
    assert "of 12 runs" in (out / "table.md").read_text()
    assert len(blocks_of(out)) == 1
