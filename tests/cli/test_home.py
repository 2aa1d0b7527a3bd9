"""Paths that are given with "~", or as a URL."""

import importlib
import pathlib

import pytest

from kdjax.cli import home

RUN = "--workdir=run"
COMMANDS = {
    "kdjax.evaluate.__main__": [RUN, "--predictions={}"],
    "kdjax.export.__main__": [RUN, "--format=stablehlo", "--out={}"],
    "kdjax.interop.torch_export": [RUN, "--out={}"],
    "kdjax.interop.torch_import": ["a.pth", "--model=resnet8", "--out={}"],
    "experiments.compare": ["--data=digits", "--pairs=resnet8-wrn_10_1", "--out={}"],
    "experiments.report": ["--runs={}"],
}


@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_a_url_is_no_local_path(kind):
    with pytest.raises(ValueError, match=r"^gs:/+bucket/run is a URL: only "):
        home.expanded(kind("gs://bucket/run"))
    assert home.expanded(kind("c:/run")) == pathlib.Path("c:/run")


def test_a_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home.argument("~/run") == tmp_path / "run"


@pytest.mark.parametrize("module", COMMANDS)
def test_commands_write_to_no_url(module, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    *arguments, path = COMMANDS[module]
    main = importlib.import_module(module).main
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, path.format("s3://bucket/x")])
    assert "s3://bucket/x is a URL: only local files" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
