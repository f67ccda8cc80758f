"""The contract between the engine and the backends that run networks.

A `Backend` compiles a network for one shape; the resulting `Network` is called for every batch. A new backend is one
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

    from torch import Tensor

    from ..arrays import Array
    from ..models import NetworkSpec
    from ..samples import SampleFormat
    from ..sources import Source

Precision = Literal["float32", "float16", "bfloat16", "int8"]


class Device(str):
    """The name of a device, as torch has it: cpu, cuda, cuda:1. Torch's functions take it as a device.

    It equals the `torch.device` of its name, but as a key of a dictionary it is the name.

    Attributes:
        type: cpu or cuda.
        index: Which GPU; None for the current one, and for the CPU.
    """

    __slots__ = ()

    @property
    def type(self) -> str:
        """See above."""
        return self.partition(":")[0]

    @property
    def index(self) -> int | None:  # type: ignore[override] # as torch has it; a string's says where a part of it is
        """See above."""
        index = self.partition(":")[2]
        return int(index) if index else None

    def __eq__(self, other: object) -> bool:
        kind = type(other)
        torchs = (kind.__module__, kind.__name__) == ("torch", "device")  # without loading torch
        return str.__eq__(self, str(other) if torchs else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


class Network(Protocol):
    """A compiled network: deterministic; enqueues on the current stream and never synchronizes."""

    def __call__(self, x: Tensor) -> Tensor:
        """Run one batch.

        Args:
            x: float32 samples in [0, 1], of exactly the shape that the network was compiled for, on its device.

        Returns:
            float32 (N, C, H·scale, W·scale) on the same device, not clamped.

        Raises:
            OutOfMemoryError: the device has no room.
            BackendError: the network fails for any other reason.
        """
        ...

    def close(self) -> None:
        """Free the network's memory; it must not be called afterwards."""
        ...


@runtime_checkable
class SamplesNetwork(Network, Protocol):
    """A luma network that also takes samples as they are stored, and returns samples to store."""

    def upscale_samples(self, x: Array, samples: SampleFormat) -> Array:
        """Run one batch.

        Args:
            x: uint8 or uint16 (N, 1, H, W), of the shape that the network was compiled for; any strides. An array on
                the CPU, a tensor on a GPU, and so is the result.
            samples: Their format; samples above its peak are clamped.

        Returns:
            (N, 1, H·scale, W·scale) in the same format, clamped to [0, peak], and rounded. Samples that are nearer to
            the border than the network's overlap may be wrong.

        Raises:
            OutOfMemoryError: the device has no room.
            BackendError: the network fails for any other reason.
        """
        ...


class Backend(Protocol):
    """Compiles networks.

    Attributes:
        devices: Types of torch devices that it runs on.
        own_threads: Whether it computes on CPU threads of its own, which torch's threads should not disturb.
        has_cache: Whether its constructor takes a folder in which it keeps compiled networks.
        reads_samples: Whether it compiles to `SamplesNetwork`.
        is_lazy: Whether `compile` also takes a `Source`, whose module it may never need. Its networks then take arrays,
            too, and give what they take.
        largest_batch: The largest batch that is chosen automatically, in frames.
    """

    devices: tuple[str, ...]
    own_threads: bool
    has_cache: bool
    reads_samples: bool
    is_lazy: bool
    largest_batch: int

    def default_precision(self, sources: Iterable[Source], spec: NetworkSpec, device: Device) -> Precision:
        """The fastest precision in which these networks lose at most 0.02 dB of PSNR against float32.

        Flat areas must stay flat in it, too, as far as the backend can tell.
        """
        ...

    def compile(
        self,
        module: Any,  # nn.Module; or Source, if `is_lazy`
        spec: NetworkSpec,
        shape: tuple[int, int, int, int],
        precision: Precision,
        device: Device,
    ) -> Network:
        """Compile ``module`` for ``device`` and for inputs of ``shape`` (N, C, H, W).

        May be slow, and may cache on disk under a key of everything that the result depends on.

        Raises:
            OutOfMemoryError: the device has no room for this shape.
            BackendError: compiling fails for any other reason.
        """
        ...


class _Row(NamedTuple):
    """A backend's description, available before its libraries are imported."""

    place: str  # module:class
    precisions: tuple[Precision, ...]  # what `Backend.compile` takes
    devices: tuple[str, ...]  # as `Backend.devices`
    libraries: tuple[str, ...] = ()  # distributions that it computes with, beside torch


_FLOATS: tuple[Precision, ...] = ("float32", "float16", "bfloat16")
_BACKENDS = {
    "eager": _Row("eager:EagerBackend", _FLOATS, ("cpu", "cuda")),
    "openvino": _Row("openvino:OpenVINOBackend", ("float32", "bfloat16", "int8"), ("cpu",), ("openvino",)),
    "tensorrt": _Row("tensorrt.backend:TensorRTBackend", _FLOATS, ("cuda",), ("tensorrt", "tensorrt-rtx")),
    "triton": _Row("triton:TritonBackend", _FLOATS, ("cuda",), ("triton",)),
}
BACKEND_NAMES = tuple(_BACKENDS)


def precisions(name: str) -> tuple[Precision, ...]:
    """The precisions of a backend, by its name in `BACKEND_NAMES`."""
    return _BACKENDS[name].precisions


def devices(name: str) -> tuple[str, ...]:
    """Types of devices that a backend, by its name in `BACKEND_NAMES`, may run on."""
    interpreted = name == "triton" and "TRITON_INTERPRET" in os.environ  # on the CPU, as tests do
    return ("cpu", "cuda") if interpreted else _BACKENDS[name].devices


def check_precision(name: str, precision: str, **use: Any) -> Precision:
    """Return the precision, if a backend, by its name in `BACKEND_NAMES`, has it.

    Raises:
        UsageError: the backend lacks it; ``use`` are the arguments that would help.
    """
    for known in precisions(name):
        if known == precision:
            return known
    known_ones = ", ".join(precisions(name))
    raise UsageError(f"Backend {name!r} has no precision {precision!r}. Its precisions: {known_ones}", **use)


def versions(name: str) -> dict[str, str]:
    """Versions of the installed libraries that a backend, by its name in `BACKEND_NAMES`, computes with."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and rarely needed

    found = {}
    for distribution in ("torch", *_BACKENDS[name].libraries):
        with suppress(PackageNotFoundError):
            found[distribution] = version(distribution)
    return found


def open_backend(name: str, cache_dir: Path | None = None, threads: int | None = None) -> Backend:
    """Make the backend of this name.

    Args:
        name: A name in `BACKEND_NAMES`.
        cache_dir: A folder where a backend keeps compiled networks for later runs; backends that do not compile ignore
            it. By default tensorrt keeps engines in the user's cache folder, and openvino the graphs of our networks.
        threads: CPU threads for a backend with threads of its own (`Backend.own_threads`); by default all.

    Raises:
        UsageError: the name is unknown; or a backend needs a folder, and none is given, nor known.
        BackendError: a package that it needs is not installed, or does not load.
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
