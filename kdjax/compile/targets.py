"""Accelerators that XLA compiles for where there is none.

The compilers are in the plugins of JAX, which need no driver to compile:
`requirements-targets.txt`. The figures are those of the makers' data sheets; products
of matrices without sparsity, float32 as JAX computes it by default: in TF32 on a GPU
that has it, in bfloat16 on a TPU.
"""

import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Mapping, Sequence

import jax
from jax.experimental import topologies

_PLUGINS = {"cuda": "jax_cuda12_plugin", "tpu": "libtpu"}

#: How libtpu calls a machine with four TPUs.
_ACCELERATOR_TYPES = {
    "v4": "v4-8",
    "v5e": "v5litepod-4",
    "v5p": "v5p-8",
    "v6e": "v6e-4",
}

#: Seconds that a GPU takes to start a kernel which does nothing.
_LAUNCH_S = 4e-6


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of accelerator.

    Attributes:
      name: on the command line.
      description: as its maker calls it.
      platform: "cuda" or "tpu".
      memory: bytes of a device.
      usable: fraction of the memory that JAX lets a program have by default.
      bandwidth: of the memory, bytes/s.
      flops: operations/s of matrix products by the type that a network computes in.
      launch_s: seconds to start a kernel.
      gpu: what XLA needs to know of a GPU: fields of its GpuDeviceInfoProto.
    """

    name: str
    description: str
    platform: str
    memory: int
    bandwidth: float
    flops: Mapping[str, float]
    usable: float = 1.0
    launch_s: float = 0.0
    gpu: Mapping[str, int] = dataclasses.field(default_factory=dict)


def _gpu(
    name: str,
    description: str,
    capability: tuple[int, int],
    *,
    memory_gib: float,
    bandwidth: float,
    tflops: tuple[float, float],
    cores: int,
    ghz: float,
    l2_mib: int,
    shared_kib: int,
    fpus: int,
    threads: int,
) -> Target:
    """Describes a GPU; `tflops` are those in float32 and in bfloat16."""
    memory = int(memory_gib * 2**30)
    info = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 48 * 1024,
        "shared_memory_per_core": shared_kib * 1024,
        "shared_memory_per_block_optin": (shared_kib - 1) * 1024,
        "threads_per_core_limit": threads,
        "core_count": cores,
        "fpus_per_core": fpus,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 65535,
        "block_dim_limit_z": 65535,
        "memory_bandwidth": int(bandwidth),
        "l2_cache_size": l2_mib * 2**20,
        "clock_rate_ghz": ghz,
        "device_memory_size": memory,
        "cuda_compute_capability": dict(
            zip(("major", "minor"), capability, strict=True)
        ),
        "registers_per_core_limit": 65536,
        "registers_per_block_limit": 65536,
    }
    return Target(
        name,
        description,
        "cuda",
        memory,
        bandwidth,
        {"float32": tflops[0] * 1e12, "bfloat16": tflops[1] * 1e12},
        usable=0.75,  # Of XLA_PYTHON_CLIENT_MEM_FRACTION.
        launch_s=_LAUNCH_S,
        gpu=info,
    )


def _tpu(
    name: str, description: str, memory_gib: int, bandwidth: float, tflops: float
) -> Target:
    flops = {"float32": tflops * 1e12, "bfloat16": tflops * 1e12}
    memory = memory_gib * 2**30
    return Target(name, description, "tpu", memory, bandwidth, flops)


_HOPPER = dict(cores=132, ghz=1.98, l2_mib=50, shared_kib=228, fpus=128, threads=2048)
_AMPERE = dict(cores=108, ghz=1.41, l2_mib=40, shared_kib=164, fpus=64, threads=2048)

#: By name.
TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        _gpu(
            "h100",
            "NVIDIA H100 SXM, 80 GB",
            (9, 0),
            memory_gib=79.1,
            bandwidth=3.352e12,
            tflops=(494.7, 989.4),
            **_HOPPER,
        ),
        _gpu(
            "h200",
            "NVIDIA H200 SXM, 141 GB",
            (9, 0),
            memory_gib=139.8,
            bandwidth=4.8e12,
            tflops=(494.7, 989.4),
            **_HOPPER,
        ),
        _gpu(
            "a100",
            "NVIDIA A100 SXM, 80 GB",
            (8, 0),
            memory_gib=79.3,
            bandwidth=2.039e12,
            tflops=(156, 312),
            **_AMPERE,
        ),
        _gpu(
            "a100-40gb",
            "NVIDIA A100 SXM, 40 GB",
            (8, 0),
            memory_gib=39.4,
            bandwidth=1.555e12,
            tflops=(156, 312),
            **_AMPERE,
        ),
        _gpu(
            "l4",
            "NVIDIA L4, 24 GB",
            (8, 9),
            memory_gib=22.2,
            bandwidth=0.3e12,
            tflops=(60.5, 121),
            cores=58,
            ghz=2.04,
            l2_mib=48,
            shared_kib=100,
            fpus=128,
            threads=1536,
        ),
        _tpu("v4", "TPU v4", 32, 1.228e12, 275),
        _tpu("v5e", "TPU v5e", 16, 0.819e12, 197),
        _tpu("v5p", "TPU v5p", 95, 2.765e12, 459),
        _tpu("v6e", "TPU v6e", 32, 1.64e12, 918),
    )
}


def find(name: str, num_devices: int | None) -> tuple[Target, str]:
    """Returns the target that a name stands for, and the shape of its devices.

    Args:
      name: such as "h100", or "v5e:2x2" with the shape of a TPU's slice.
      num_devices: of a GPU; None is one. A TPU's slice says how many it has.

    Raises:
      ValueError: if there is no such target, or it has not so many devices.
    """
    kind, colon, shape = name.partition(":")
    if kind not in TARGETS:
        raise ValueError(f"--target={name!r} is none of {', '.join(TARGETS)}")
    target = TARGETS[kind]
    if num_devices is not None and num_devices < 1:
        raise ValueError(f"--devices={num_devices} is less than 1")
    if target.platform == "cuda":
        if colon:
            raise ValueError(f"--target={name!r}: --devices=N says how many GPUs")
        return target, f"1x1x{num_devices or 1}"
    shape = shape or ("2x2x1" if kind in ("v4", "v5p") else "2x2")
    if not re.fullmatch(r"\d+(x\d+){1,2}", shape):
        raise ValueError(f"--target={name!r}: a slice is written as in {kind}:2x2")
    size = math.prod(map(int, shape.split("x")))
    if num_devices not in (None, size):
        raise ValueError(f"--devices={num_devices}, but {kind}:{shape} has {size}")
    return target, shape


def devices(target: Target, shape: str) -> Sequence[jax.Device]:
    """Returns descriptions of devices to compile for.

    Args:
      target: their kind.
      shape: as `find` returns it.

    Raises:
      ValueError: if the plugin of the target is not installed, or knows no such shape.
    """
    plugin = _PLUGINS[target.platform]
    if importlib.util.find_spec(plugin) is None:
        raise ValueError(
            f"compiling for {target.name} needs {plugin}: install "
            "requirements-targets.txt, best in an environment of its own: make targets"
        )
    if target.platform == "cuda":
        options = {"topology": shape, "target_config": _target_config(target)}
        name = target.name
    else:
        _skip_machine_query(target)
        options, name = {}, f"{target.name}:{shape}"
    try:
        found = topologies.get_topology_desc(
            platform=target.platform, topology_name=name, **options
        )
    except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"--target={target.name}:{shape}: {reason}") from None
    return found.devices


def compiler_options(target: Target, *, deterministic: bool) -> dict[str, int | bool]:
    """Returns the options to compile with: no kernel can be timed."""
    if target.platform != "cuda":
        return {}
    return {"xla_gpu_autotune_level": 0, "xla_gpu_deterministic_ops": deterministic}


def _target_config(target: Target) -> str:
    """Returns a GpuTargetConfigProto as text."""
    info = " ".join(
        f"{name} {{ {' '.join(f'{k}: {v}' for k, v in value.items())} }}"
        if isinstance(value, Mapping)
        else f"{name}: {value}"
        for name, value in target.gpu.items()
    )
    return (
        f'gpu_device_info {{ {info} }} platform_name: "CUDA" '
        "dnn_version_info { major: 9 minor: 8 } "
        f'device_description_str: "{target.description}"'
    )


def _skip_machine_query(target: Target) -> None:
    """Keeps libtpu from asking the machine, for minutes, which TPU it has."""
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", _ACCELERATOR_TYPES[target.name])
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
