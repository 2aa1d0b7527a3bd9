import pytest

from kdjax.runs import manifest


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "1"
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "arrays").write_bytes(b"0123456789")
    (folder / "metadata").write_text("{}")
    manifest.write(folder)
    # As Orbax does.
    (folder / "commit_success.txt").write_text("later")
    return folder


def test_a_folder_is_as_it_was_written(folder):
    assert manifest.fault(folder) is None


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "state/arrays is missing"),
        (b"", "state/arrays has 0 bytes of 10"),
        (b"01234", "state/arrays has 5 bytes of 10"),
        (b"0123456780", "state/arrays has another checksum"),
    ],
)
def test_every_change_is_found_and_named(folder, content, fault):
    file = folder / "state" / "arrays"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    assert manifest.fault(folder) == fault


def test_a_manifest_that_is_damaged_itself_is_a_fault(folder):
    (folder / "files.json").write_text('{"state')
    assert manifest.fault(folder) == "files.json is cut short"


def test_a_folder_without_a_manifest_is_believed(tmp_path):
    assert manifest.fault(tmp_path) is None
