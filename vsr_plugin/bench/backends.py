"""One network by every backend that runs on a device, and by torch.compile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..backends import BACKEND_NAMES, open_backend, precisions
from ..device import default_backend, find_device
from ..errors import BackendError
from ..sources import Source
from . import Absent, Settings, Timing, inference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from ..backends import Device, Precision
    from ..models import NetworkSpec

_BATCH = 4


def measure_backends(settings: Settings) -> Iterator[Timing | Absent]:
    """Time the network alone, whole frames: the default backend first, plain torch and torch.compile last.

    Args:
        settings: Model, scale, size, runs; device, precision and batch, unless they are to be chosen here. A backend
            without the precision takes its default; the note names it.
    """
    device = find_device(settings.execution.device)
    spec, module = inference.load_network(settings)
    m = spec.multiple_of
    height, width = (-(-length // m) * m for length in (settings.height, settings.width))
    shape = (settings.execution.batch or (_BATCH if device.type == "cuda" else 1), spec.channels, height, width)
    first = default_backend(device)
    for name in sorted(BACKEND_NAMES, key=lambda name: (name == "eager", name != first)):
        yield _backend(name, module, spec, shape, settings, device)
    yield _compiled(module, shape, settings, device)


def _backend(
    name: str,
    module: nn.Module,
    spec: NetworkSpec,
    shape: tuple[int, int, int, int],
    settings: Settings,
    device: Device,
) -> Timing | Absent:
    try:
        backend = open_backend(name)
        if device.type not in backend.devices:
            return Absent(name, f"runs on {' and '.join(backend.devices)}")
        default = backend.default_precision([Source.of(module)], spec, device)
        precision = settings.execution.precision if settings.execution.precision in precisions(name) else default
        assert precision is not None
        if precision == "int8":
            module = inference.load_network(settings, precision)[1]
        network = backend.compile(module, spec, shape, precision, device)
        try:
            x = torch.rand(shape, device=device)
            runs = inference.repeat(lambda: network(x), device, shape[0], settings.runs)
        finally:
            network.close()
    except BackendError as error:
        return Absent(name, str(error))
    return Timing(name, runs, inference.flops_per_frame(settings), note=precision)


def _compiled(
    module: nn.Module, shape: tuple[int, int, int, int], settings: Settings, device: Device
) -> Timing | Absent:
    name = "torch.compile"
    default: Precision = "float16" if device.type == "cuda" else "float32"
    precision = settings.execution.precision or default
    dtype: torch.dtype = getattr(torch, precision)
    module = module.to(device, dtype).to(memory_format=torch.channels_last)
    x = torch.rand(shape, device=device).to(dtype, memory_format=torch.channels_last)
    try:
        function = torch.compile(module, mode="max-autotune" if device.type == "cuda" else "default")

        @torch.inference_mode()
        def run() -> Tensor:
            result: Tensor = function(x)
            return result

        runs = inference.repeat(run, device, shape[0], settings.runs)
    except Exception as error:  # noqa: BLE001 - it needs a compiler, and fails in many ways
        return Absent(name, (str(error).strip().splitlines() or [type(error).__name__])[0])
    return Timing(name, runs, inference.flops_per_frame(settings), note=precision)
