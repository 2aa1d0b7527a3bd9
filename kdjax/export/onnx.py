"""Export to ONNX with jax2onnx; experimental.

jax2onnx does not translate some of JAX's primitives as needed here, and replaces
functions of Flax. So the traced function is evaluated once more with operations that
it does translate. Everything that depends on its version is in this file.
"""

import contextlib
import importlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal

from kdjax.export.program import Program

#: Later versions require an older Orbax.
_EXPORTER = "jax2onnx==0.13.*"

_PADDING = "padding_config"


def write(
    function: Callable[[jax.Array], jax.Array],
    image: jax.ShapeDtypeStruct,
    metadata: Mapping[str, str],
) -> bytes:
    """Returns the content of a file; arguments as `program.Format.write`."""
    jax2onnx = _require("jax2onnx")
    # jax2onnx does not know the current name of compiled parts.
    with jax.disable_jit():
        jaxpr = jax.make_jaxpr(function)(image)
    with _quiet():
        model = jax2onnx.to_onnx(
            lambda image: _replay(jaxpr, image)[0],
            [image],
            model_name="kdjax",
            input_names=["image"],
            output_names=["logits"],
        )
    for name, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, value
    return model.SerializeToString()


def _replay(jaxpr: ClosedJaxpr, *inputs: jax.Array) -> list[jax.Array]:
    """Evaluates a jaxpr with functions that jax2onnx has operations for.

    jax2onnx replaces functions of JAX and Flax while it traces. It must not see the
    layers of Flax: it would replace their methods, and what is folded into them would
    be lost.
    """
    values = dict(zip(jaxpr.jaxpr.invars, inputs, strict=True))
    values |= zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True)

    def read(variables):
        return [v.val if isinstance(v, Literal) else values[v] for v in variables]

    for equation in jaxpr.jaxpr.eqns:
        name, settings = equation.primitive.name, equation.params
        given = read(equation.invars)
        if name.startswith(("custom_jvp_call", "custom_vjp_call")):
            found = _replay(settings["call_jaxpr"], *given)
        elif name == "max" and isinstance(equation.invars[1], Literal):
            # onnxruntime fuses a ReLU with the convolution before it, but no maximum.
            found = jax.nn.relu(given[0]) if given[1] == 0 else jnp.maximum(*given)
        elif name == "reduce_window_max":
            # The primitive is exported with more dimensions than onnxruntime supports,
            # and the function without its padding.
            padding = [(*sizes, 0) for sizes in settings["padding"]]
            found = nn.max_pool(
                _pad(given[0], -jnp.inf, padding),
                window_shape=settings["window_dimensions"][1:-1],
                strides=settings["window_strides"][1:-1],
            )
        elif name == "pad" and not any(inner for *_, inner in settings[_PADDING]):
            # The primitive is exported for a fixed number of images only.
            found = _pad(*given, settings[_PADDING])
        else:
            found = equation.primitive.bind(*given, **settings)
        found = found if isinstance(found, list | tuple) else [found]
        values |= zip(equation.outvars, found, strict=True)
    return read(jaxpr.jaxpr.outvars)


def _pad(x: jax.Array, value: Any, sizes: Sequence[tuple[int, int, int]]) -> jax.Array:
    """Pads each axis by (before, after, 0) entries of a value, by concatenation."""
    for axis, (before, after, _) in enumerate(sizes):

        def edge(size, axis=axis, x=x):
            shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
            return [jnp.broadcast_to(value, shape).astype(x.dtype)] if size else []

        if before or after:
            x = jnp.concatenate([*edge(before), x, *edge(after)], axis)
    return x


def load(content: bytes) -> Program:
    """Returns the program in a file, run by onnxruntime."""
    session = _require("onnxruntime").InferenceSession(
        content, providers=["CPUExecutionProvider"]
    )
    return lambda image: session.run(["logits"], {"image": image})[0]


def runtime() -> str:
    """Returns the name and version of what runs the program."""
    _require("jax2onnx")
    return f"onnxruntime {_require('onnxruntime').__version__}"


def _require(name: str) -> Any:
    """Imports a package that only ONNX needs.

    Raises:
      ValueError: if it is missing; names the command that installs it.
    """
    try:
        with _quiet():
            return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"--format=onnx needs {name}: pip install '{_EXPORTER}' onnxruntime"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences irrelevant warnings of jax2onnx."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
