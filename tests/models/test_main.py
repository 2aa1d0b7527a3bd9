import pytest

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
        "size": "32",
        "parameters": "83,700",
        "GMACs": f"{(stem + group1 + group2 + group3 + 64 * 100) / 1e9:.4f}",
        "margins": "bn",
        "features": "16@32 16@32 32@16 64@8 64",
    }
    assert row("mhgd_vgg7")["margins"] == "data"


def test_prints_the_networks_that_are_asked_for(capsys):
    assert main(["wrn_10_1", "resnet8", "--classes=10"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["network", "size", "parameters"]
    assert first.split()[:3] == ["wrn_10_1", "32", "77,850"]
    assert second.startswith("resnet8 ")


def test_the_widest_rows_fit_100_columns(capsys):
    """In a table with the longest name."""
    longest = max(models.STANDARD, key=len)
    assert main([longest, "resnet50@224", "pyramidnet_200_240"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


def test_an_unknown_network_is_one_line_before_any_row(capsys):
    assert main(["wrn_10_1", "lenet"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("kdjax.models: no network is called 'lenet'")


def test_help_lists_the_known_networks(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "wrn_<depth>_<widen>[@64]" in capsys.readouterr().out


def test_the_standard_networks_can_be_built_and_are_in_order_of_family():
    assert len(set(models.STANDARD)) == len(models.STANDARD)
    for name in models.STANDARD:
        models.build(name, 100)
