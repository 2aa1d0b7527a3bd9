import pytest

from kdjax.runs import manifest


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "1"
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "arrays").write_bytes(b"0123456789")
    (folder / "metadata").write_text("{}")
    (folder / "finished").write_text("")
    manifest.write(folder, ignore=("finished",))
    (folder / "finished").write_text("later")
    return folder


def test_an_unchanged_folder_is_complete(folder):
    assert manifest.verify(folder) is None


@pytest.mark.parametrize(
    ("content", "difference"),
    [
        (None, "state/arrays is missing"),
        (b"", "state/arrays has 0 bytes of 10"),
        (b"01234", "state/arrays has 5 bytes of 10"),
        (b"0123456780", "state/arrays has another checksum"),
    ],
)
def test_every_change_is_found_and_named(folder, content, difference):
    file = folder / "state" / "arrays"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    assert manifest.verify(folder) == difference


def test_a_truncated_manifest_is_a_difference(folder):
    (folder / "files.json").write_text('{"state')
    assert manifest.verify(folder).startswith("files.json is damaged: Unterminated")


def test_a_folder_without_a_manifest_counts_as_complete(tmp_path):
    assert manifest.verify(tmp_path) is None
