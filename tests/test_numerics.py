"""What a configuration asks of matrix products and of kernels on a GPU."""

import jax
import jax.numpy as jnp
import pytest

from kdjax import numerics, recipes, train


@pytest.fixture
def config():
    return recipes.alone("wrn_10_1,digits")


@pytest.mark.parametrize(
    ("name", "precision"),
    [("default", "DEFAULT"), ("tensorfloat32", "HIGH"), ("float32", "HIGHEST")],
)
def test_products_are_traced_with_the_configured_precision(
    config, tmp_path, monkeypatch, name, precision
):
    """Whatever a run compiles, it compiles after its experiment is built."""

    class StoppedError(Exception):
        pass

    def build(*_):
        x = jnp.ones((2, 2))
        text = jax.jit(lambda x: x @ x).lower(x).as_text()
        assert f"precision = [{precision}, {precision}]" in text
        raise StoppedError

    monkeypatch.setattr(train, "build_experiment", build)
    config.matmul_precision = name
    with pytest.raises(StoppedError):
        train.train_and_evaluate(config, tmp_path / "run")


def test_determinism_on_a_gpu_is_requested_before_the_backend_starts(
    config, tmp_path, monkeypatch
):
    monkeypatch.setenv("XLA_FLAGS", "--xla_some=1")
    config.deterministic = True
    numerics.check_determinism(config)  # Of CPUs there is nothing to ask.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(ValueError, match="--xla_gpu_deterministic_ops=true in the"):
        train.train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for _ in range(2):
        numerics.request_determinism()
    numerics.check_determinism(config)
    monkeypatch.setenv("XLA_FLAGS", "")
    config.deterministic = False
    numerics.check_determinism(config)
