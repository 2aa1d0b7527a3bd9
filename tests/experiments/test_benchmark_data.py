import contextlib

import pytest
from PIL import Image

from experiments import benchmark_data


def test_both_pipelines_are_timed(tmp_path):
    benchmark_data.make_folder(tmp_path, 20, (16, 16))
    config = benchmark_data.configure("wrn_10_1", tmp_path, 4, image_size=16, padding=2)
    for pipeline in ("in_memory", "streaming"):
        config.data.pipeline = pipeline
        with contextlib.closing(benchmark_data.Pipeline(config)) as timed:
            timed.run(2)
            timed.run(2)
            found = benchmark_data.report(timed, 4)
        assert {len(seconds) for seconds in timed.seconds.values()} == {2}
        assert min(found[f"{kind}_images_per_s"] for kind in ("pipeline", "train")) > 0
        assert found["make_batch_fraction"] > 0
        assert found["wait_fraction"] == pytest.approx(
            1 - found["train_images_per_s"] / found["step_images_per_s"], abs=1e-3
        )


def test_the_files_have_the_detail_of_photographs(tmp_path):
    """Those of ImageNet take about 110 kB for 500x375 pixels."""
    benchmark_data.make_folder(tmp_path, 20, (500, 375))
    files = list(tmp_path.glob("*/*/*.jpg"))
    assert len(files) == 22
    with Image.open(files[0]) as image:
        assert image.size == (500, 375)
    assert 60_000 < max(file.stat().st_size for file in files) < 160_000


def test_errors_are_one_line(capsys):
    assert benchmark_data.main(["--network=resnet1"]) == 2
    assert capsys.readouterr().err.startswith("benchmark_data: ")
