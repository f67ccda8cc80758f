"""The contract between the engine and whatever runs a network.

A `Backend` compiles a network for one shape; the `Network` it gives is called for every batch. Adding a backend is one
file beside this one and one row in `_BACKENDS`; its third-party import stays inside that file.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from ..errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from ..kernels import SampleFormat
    from ..models import NetworkSpec

Precision = Literal["float32", "float16", "bfloat16", "int8"]


class Network(Protocol):
    """A compiled network: same input, same output; enqueues on the current stream and never synchronises."""

    def __call__(self, x: Tensor) -> Tensor:
        """Run one batch.

        Args:
            x: float32 samples in [0, 1] of exactly the shape the network was compiled for, on its device.

        Returns:
            float32 (N, C, H·scale, W·scale) on the same device, not clamped.

        Raises:
            OutOfMemoryError: the device has no room.
            BackendError: anything else that went wrong.
        """
        ...

    def close(self) -> None:
        """Free what the network holds; it must not be called afterwards."""
        ...


@runtime_checkable
class SamplesNetwork(Network, Protocol):
    """A network of luma that also takes samples as they are stored, and leaves them as they will be."""

    def upscale_samples(self, x: Tensor, samples: SampleFormat) -> Tensor:
        """Run one batch.

        Args:
            x: uint8 or uint16 (N, 1, H, W) of the shape the network was compiled for, on its device, in any strides.
            samples: Their format; larger ones than its peak are clamped.

        Returns:
            (N, 1, H·scale, W·scale) in the same format, clamped to [0, peak], and rounded.

        Raises:
            OutOfMemoryError: the device has no room.
            BackendError: anything else that went wrong.
        """
        ...


class Backend(Protocol):
    """Compiles networks.

    Attributes:
        devices: Types of torch devices it runs on.
        own_threads: Whether it computes on CPU threads of its own, that torch's should keep out of the way of.
        has_cache: Whether it is made with a folder in which it keeps what it has compiled.
        reads_samples: Whether what it compiles are networks of the kind `SamplesNetwork`.
        largest_batch: Most frames of a batch whose size is chosen automatically.
    """

    devices: tuple[str, ...]
    own_threads: bool
    has_cache: bool
    reads_samples: bool
    largest_batch: int

    def default_precision(self, modules: Iterable[nn.Module], spec: NetworkSpec, device: torch.device) -> Precision:
        """The fastest precision in which these modules lose at most 0.02 dB of PSNR against float32.

        And in which flat areas stay flat, as far as the backend can tell.
        """
        ...

    def compile(
        self,
        module: nn.Module,
        spec: NetworkSpec,
        shape: tuple[int, int, int, int],
        precision: Precision,
        device: torch.device,
    ) -> Network:
        """Make ``module`` run on ``device`` for inputs of ``shape`` (N, C, H, W).

        May be slow, and may cache on disk under a key of everything it depends on.

        Raises:
            OutOfMemoryError: the device has no room for this shape.
            BackendError: anything else that went wrong.
        """
        ...


class _Row(NamedTuple):
    """What is known of a backend before its libraries are imported."""

    place: str  # module:class
    precisions: tuple[Precision, ...]  # what `Backend.compile` takes
    devices: tuple[str, ...]  # as `Backend.devices`
    libraries: tuple[str, ...] = ()  # distributions it computes with, beside torch


_FLOATS: tuple[Precision, ...] = ("float32", "float16", "bfloat16")
_BACKENDS = {
    "eager": _Row("eager:EagerBackend", _FLOATS, ("cpu", "cuda")),
    "openvino": _Row("openvino:OpenVINOBackend", ("float32", "bfloat16", "int8"), ("cpu",), ("openvino",)),
    "tensorrt": _Row("tensorrt.backend:TensorRTBackend", _FLOATS, ("cuda",), ("tensorrt", "tensorrt-rtx")),
    "triton": _Row("triton:TritonBackend", _FLOATS, ("cuda",), ("triton",)),
}
BACKEND_NAMES = tuple(_BACKENDS)


def precisions(name: str) -> tuple[Precision, ...]:
    """What a backend, named out of `BACKEND_NAMES`, can compute in."""
    return _BACKENDS[name].precisions


def devices(name: str) -> tuple[str, ...]:
    """Types of devices that a backend, named out of `BACKEND_NAMES`, may run on."""
    interpreted = name == "triton" and "TRITON_INTERPRET" in os.environ  # on the CPU, as tests do
    return ("cpu", "cuda") if interpreted else _BACKENDS[name].devices


def check_precision(name: str, precision: str, **use: Any) -> Precision:
    """The precision, if a backend named out of `BACKEND_NAMES` has it.

    Raises:
        UsageError: it has not; ``use`` are the arguments that would help.
    """
    for known in precisions(name):
        if known == precision:
            return known
    known_ones = ", ".join(precisions(name))
    raise UsageError(f"Backend {name!r} has no precision {precision!r}. Its precisions: {known_ones}", **use)


def versions(name: str) -> dict[str, str]:
    """Of the libraries that a backend, named out of `BACKEND_NAMES`, computes with, as far as they are installed."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and seldom needed

    found = {}
    for distribution in ("torch", *_BACKENDS[name].libraries):
        with suppress(PackageNotFoundError):
            found[distribution] = version(distribution)
    return found


def open_backend(name: str, cache_dir: Path | None = None, threads: int | None = None) -> Backend:
    """The backend of this name.

    Args:
        name: Out of `BACKEND_NAMES`.
        cache_dir: A folder where a backend that compiles keeps the result for the next time; others keep nothing.
            By default tensorrt keeps its engines in the user's cache folder, and openvino nothing.
        threads: CPU threads for a backend with threads of its own (`Backend.own_threads`); by default all.

    Raises:
        UsageError: an unknown name.
        BackendError: the package it needs is not installed, or does not load.
    """
    if name not in _BACKENDS:
        raise UsageError(f"Unknown backend {name!r}. Known backends: {', '.join(BACKEND_NAMES)}")
    module_name, class_name = _BACKENDS[name].place.split(":")
    backend_class = getattr(import_module(f".{module_name}", __name__), class_name)
    arguments: dict[str, Any] = {"cache_dir": cache_dir} if backend_class.has_cache else {}
    if backend_class.own_threads and threads is not None:
        arguments["threads"] = threads
    backend: Backend = backend_class(**arguments)
    return backend
