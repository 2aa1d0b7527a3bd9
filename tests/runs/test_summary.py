import pytest

from kdjax import recipes
from kdjax.data import datasets
from kdjax.runs import summary


@pytest.mark.parametrize(
    ("network", "cautioned"),
    [("resnet18@224", True), ("resnet50@224", True), ("wrn_10_1", False)],
)
def test_a_network_for_larger_images_is_said(network, cautioned):
    config = recipes.alone(f"{network},digits")
    lines = summary.describe(config, datasets.describe(config.data))
    text = " ".join(" ".join(lines).split())
    assert ("made for images of" in text) == cautioned
