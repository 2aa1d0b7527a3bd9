"""File formats of exported networks, by the name of `--format`."""

from kdjax.export import onnx, stablehlo
from kdjax.export.program import Format

FORMATS = {
    "stablehlo": Format(
        stablehlo.write, stablehlo.load, stablehlo.runtime, stablehlo.NOTE
    ),
    "onnx": Format(onnx.write, onnx.load, onnx.runtime),
}
