from kdjax import models
from kdjax.models.__main__ import main, row


def test_a_row_says_what_a_network_costs():
    """Multiply-adds by hand: output sites times kernel times channels."""
    stem = 32**2 * 9 * 3 * 16
    group1 = 32**2 * 2 * 9 * 16 * 16
    group2 = 16**2 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32)
    group3 = 8**2 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64)
    assert row("wrn_10_1") == {
        "network": "wrn_10_1",
        "image": 32,
        "classes": 100,
        "parameters": "83,700",
        "multiply-adds": f"{stem + group1 + group2 + group3 + 64 * 100:,}",
        "features": "16@32 16@32 32@16 64@8 64",
        "margins": "batch norms",
    }
    assert row("mhgd_vgg7")["margins"] == "measured"


def test_prints_the_networks_that_are_asked_for(capsys):
    assert main(["wrn_10_1", "resnet8", "--classes=10"]) == 0
    head, _, first, second = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["network", "image", "classes"]
    assert first.split()[:4] == ["wrn_10_1", "32", "10", "77,850"]
    assert second.startswith("resnet8 ")


def test_an_unknown_network_is_one_line(capsys):
    assert main(["lenet"]) == 2
    assert capsys.readouterr().err.startswith("models: no network is called 'lenet'")


def test_the_standard_networks_can_be_built_and_are_in_order_of_family():
    assert len(set(models.STANDARD)) == len(models.STANDARD)
    for name in models.STANDARD:
        models.build(name, 100)
