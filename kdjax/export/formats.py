"""Programs in files: how a format is written, run and timed on a CPU.

A program takes uint8 images [B, H, W, 3] and gives float32 logits [B, K].
"""

import contextlib
import importlib
import logging
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend.core import ClosedJaxpr, Literal

#: Calls that the time of a call is the median of, and those made before.
CALLS, _WARM_UP = 100, 10

#: What a program does: images in, logits out.
Program = Callable[[np.ndarray], np.ndarray]

#: Height, width and colors of an image.
Shape = tuple[int, int, int]

#: Later ones ask for an Orbax older than ours.
_EXPORTER = "jax2onnx==0.13.*"

_PADDING = "padding_config"


class Format(NamedTuple):
    """How programs are kept.

    Attributes:
      write: makes the content of a file of `image -> logits`, the shape of an image and
        the number of images, or None for any number.
      load: turns the content of a file into what runs it.
      runtime: names what runs it, and its version.
    """

    write: Callable[[Callable[[jax.Array], jax.Array], Shape, int | None], bytes]
    load: Callable[[bytes], Program]
    runtime: Callable[[], str]


def _images(shape: Shape, batch_size: int | None) -> jax.ShapeDtypeStruct:
    batch = (batch_size,) if batch_size else export.symbolic_shape("B")
    return jax.ShapeDtypeStruct((*batch, *shape), jnp.uint8)


def _write_stablehlo(function, shape, batch_size) -> bytes:
    make = export.export(jax.jit(function), platforms=("cpu", "cuda", "tpu"))
    return bytes(make(_images(shape, batch_size)).serialize())


def _load_stablehlo(content: bytes) -> Program:
    call = jax.jit(export.deserialize(bytearray(content)).call)
    return lambda image: np.asarray(call(image))


def _write_onnx(function, shape, batch_size) -> bytes:
    jax2onnx, image = _require("jax2onnx"), _images(shape, batch_size)
    # Of compiled parts the exporter does not know what JAX calls them in each version.
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
    return model.SerializeToString()


def _replay(jaxpr: ClosedJaxpr, *inputs: jax.Array) -> list[jax.Array]:
    """Runs a program by those functions that the exporter has operations for.

    It puts its own in the place of some functions of JAX and Flax while it looks on.
    The layers of Flax are kept from it: it would replace their methods, and what was
    folded into them would be lost.
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
            # onnxruntime joins a ReLU with the convolution before, a maximum not.
            found = jax.nn.relu(given[0]) if given[1] == 0 else jnp.maximum(*given)
        elif name == "reduce_window_max":
            # The operation itself is exported in more dimensions than onnxruntime has,
            # and the function without its padding.
            padding = [(*sizes, 0) for sizes in settings["padding"]]
            found = nn.max_pool(
                _pad(given[0], -jnp.inf, padding),
                window_shape=settings["window_dimensions"][1:-1],
                strides=settings["window_strides"][1:-1],
            )
        elif name == "pad" and not any(inner for *_, inner in settings[_PADDING]):
            # Exported for a fixed number of images only.
            found = _pad(*given, settings[_PADDING])
        else:
            found = equation.primitive.bind(*given, **settings)
        found = found if isinstance(found, list | tuple) else [found]
        values |= zip(equation.outvars, found, strict=True)
    return read(jaxpr.jaxpr.outvars)


def _pad(x: jax.Array, value: Any, sizes: Sequence[tuple[int, int, int]]) -> jax.Array:
    """Puts a value around an array: for each axis so much before and so much behind."""
    for axis, (before, behind, _) in enumerate(sizes):

        def edge(size, axis=axis, x=x):
            shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
            return [jnp.broadcast_to(value, shape).astype(x.dtype)] if size else []

        if before or behind:
            x = jnp.concatenate([*edge(before), x, *edge(behind)], axis)
    return x


def _load_onnx(content: bytes) -> Program:
    session = _require("onnxruntime").InferenceSession(
        content, providers=["CPUExecutionProvider"]
    )
    return lambda image: session.run(["logits"], {"image": image})[0]


def _onnx_runtime() -> str:
    _require("jax2onnx")
    return f"onnxruntime {_require('onnxruntime').__version__}"


def _require(name: str) -> Any:
    """Imports a package that only ONNX needs.

    Raises:
      ValueError: if it is missing; says what to install.
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
    """Silences what the exporter says of parts that are not used here."""
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


#: By the name of `--format`.
FORMATS = {
    "stablehlo": Format(
        _write_stablehlo, _load_stablehlo, lambda: f"jax {jax.__version__}"
    ),
    "onnx": Format(_write_onnx, _load_onnx, _onnx_runtime),
}


def milliseconds(call: Program, image: np.ndarray) -> tuple[float, float, float]:
    """Times calls of a program: first quartile, median and third, in ms."""
    times = []
    for _ in range(_WARM_UP + CALLS):
        start = time.perf_counter()
        call(image)
        times.append(1e3 * (time.perf_counter() - start))
    return tuple(np.percentile(times[_WARM_UP:], (25, 50, 75)))


def processor() -> str:
    """Names the CPU as well as the system lets us, and its number of cores."""
    name = platform.processor() or platform.machine()
    # Only Linux has it, where the name above is that of the architecture.
    if (listing := Path("/proc/cpuinfo")).exists():
        lines = (line.partition(":") for line in listing.read_text().splitlines())
        found = {key.strip(): value.strip() for key, _, value in lines}
        name = found.get("model name", name)
    return f"{name}, {os.cpu_count()} cores"
