"""The network alone, frames through the `Upscaler`, and what the machine could do at best."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from .. import tiling
from ..backends import BACKEND_NAMES, open_backend
from ..errors import VsrError
from ..models import build_model, find_model, read_model
from ..models.cost import macs
from . import Absent, Ceiling, Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from ..backends import Network, Precision
    from ..engine import Upscaler
    from ..frames import Frame
    from ..models import ModelSpec
    from . import Settings

_REPEATS, _LONGEST = 7, 5.0  # of a frame, and seconds after which fewer are enough
_BUSY, _LARGEST = 0.02, 8192  # seconds and side of a matrix product that shows how fast the device is
_LEAST_SECONDS = 0.25  # of a run: shorter ones measure the clock and the scheduler


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long ``work`` takes, until the device has nothing left to do."""
    _finish(device)
    began = perf_counter()
    work()
    _finish(device)
    return perf_counter() - began


def has_weights(settings: Settings) -> bool:
    """Whether the model has weights to measure it with; no speed depends on what they are."""
    return (
        settings.weights is not None or find_model(settings.model, settings.scale).weights(settings.scale) is not None
    )


def load_network(settings: Settings) -> tuple[ModelSpec, nn.Module]:
    """The network to measure: with its weights, or where it has none with random ones, the same each time."""
    if has_weights(settings):
        return read_model(settings.model, settings.scale, settings.weights)
    spec = find_model(settings.model, settings.scale)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build_model(spec, settings.scale)
    return spec, module.eval().requires_grad_(requires_grad=False)


def flops_per_frame(settings: Settings) -> int:
    """Operations of the network's convolutions for one picture: two per multiply-accumulate, counted in the module."""
    return 2 * macs(load_network(settings)[1]) * settings.width * settings.height


def network(settings: Settings, upscaler: Upscaler) -> Timing:
    """The compiled network by itself, on all windows of a picture: no colour conversion, no cutting and joining."""
    spec, module = load_network(settings)
    return _alone("network alone", settings, upscaler, _compiler(upscaler.backend, module, spec, upscaler.precision))


def rivals(settings: Settings, upscaler: Upscaler) -> Iterator[Timing | Absent]:
    """The same network in every other backend that this device has, and through torch.compile, which takes minutes."""
    spec, module = load_network(settings)
    for backend in BACKEND_NAMES:
        if backend == upscaler.backend:
            continue
        name = f"network alone, {backend}"
        try:
            able = open_backend(backend)
            if upscaler.device.type not in able.devices:
                continue
            same = upscaler.precision in able.precisions
            precision = upscaler.precision if same else able.default_precision(spec, upscaler.device)
            compile_network = _compiler(backend, module, spec, precision)
            yield replace(_alone(name, settings, upscaler, compile_network), note=precision)
        except VsrError as error:
            yield Absent(name, str(error).splitlines()[0])
    name = "network alone, torch.compile"
    mode = "max-autotune" if upscaler.device.type == "cuda" else "default"
    try:
        timing = _alone(name, settings, upscaler, partial(_TorchCompiled, module, mode, upscaler.precision))
    except Exception as error:  # noqa: BLE001 - whatever keeps it from running is its own affair
        yield Absent(name, f"fails: {(str(error).splitlines() or [type(error).__name__])[0]}")
    else:
        yield replace(timing, note=f"{upscaler.precision}, channels last, mode {mode}")


class _TorchCompiled:
    """A module as torch.compile runs it; called like any `Network`."""

    def __init__(
        self, module: nn.Module, mode: str, precision: Precision, _: tuple[int, ...], device: torch.device
    ) -> None:
        self._dtype: torch.dtype = getattr(torch, precision)
        module = copy.deepcopy(module).to(device, self._dtype).to(memory_format=torch.channels_last)
        self._module = torch.compile(module, mode=mode)

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        result: Tensor = self._module(x.to(self._dtype, memory_format=torch.channels_last))
        return result.to(torch.float32)

    def close(self) -> None:
        torch.compiler.reset()


def _compiler(
    backend: str, module: nn.Module, spec: ModelSpec, precision: Precision
) -> Callable[[tuple[int, int, int, int], torch.device], Network]:
    return lambda shape, device: open_backend(backend).compile(module, spec, shape, precision, device)


def _alone(
    name: str,
    settings: Settings,
    upscaler: Upscaler,
    compile_network: Callable[[tuple[int, int, int, int], torch.device], Network],
) -> Timing:
    """A network on the windows that the `Upscaler` would give it."""
    spec = upscaler.spec
    height, width = (-(-length // spec.multiple_of) * spec.multiple_of for length in (settings.height, settings.width))
    grid = tiling.plan(height, width, upscaler.tile, spec.overlap[settings.scale], spec.multiple_of)
    batch = upscaler.batch or 1
    shape = (batch, spec.channels, *grid.size)
    x = torch.rand(shape, device=upscaler.device)
    samples = settings.width * settings.height * spec.channels * (1 + settings.scale**2)
    compiled = compile_network(shape, upscaler.device)
    try:
        once = min(seconds(lambda: compiled(x), upscaler.device) for _ in range(3))  # the first ones warm up
        calls = max(1, round(_LEAST_SECONDS / once))
        runs = tuple(
            seconds(lambda: [compiled(x) for _ in range(calls)], upscaler.device) / calls / batch * len(grid)
            for _ in range(settings.runs)
        )
    finally:
        compiled.close()
    return Timing(name, runs, flops_per_frame(settings), samples * x.element_size())


def upscale(upscaler: Upscaler, frames: Sequence[Frame]) -> float:
    """Seconds per frame of preloaded frames through the `Upscaler`; the results are dropped."""

    def work() -> None:
        for _ in upscaler.stage(iter(frames)):
            pass

    return seconds(work, upscaler.device) / len(frames)


def fps(upscaler: Upscaler, frame: Frame) -> float:
    """Frames per second of one frame through the `Upscaler`, again and again: the median, after one that warms up."""
    group = [frame] * (upscaler.batch or 1)
    first = seconds(lambda: upscaler.upscale(group), upscaler.device)
    runs: list[float] = []
    while not runs or (len(runs) < _REPEATS and first + sum(runs) < _LONGEST):
        runs.append(seconds(lambda: upscaler.upscale(group), upscaler.device))
    return len(group) / median(runs)


def ceiling(precision: Precision, device: torch.device, runs: int) -> Ceiling:
    """The best of several runs of a square matrix product, and of a copy that no cache holds.

    Args:
        precision: Of the matrices.
        device: Where.
        runs: How often.
    """
    dtype: torch.dtype = getattr(torch, precision)

    def product(n: int) -> Callable[[], object]:
        a, b = torch.rand(n, n, device=device).to(dtype), torch.rand(n, n, device=device).to(dtype)
        c = torch.empty_like(a)
        return lambda: torch.mm(a, b, out=c)

    source = torch.zeros(2**28 if device.type == "cuda" else 2**26, dtype=torch.float32, device=device)
    target = torch.empty_like(source)

    def best(work: Callable[[], object]) -> float:
        work()
        return min(seconds(work, device) for _ in range(max(3, runs)))

    with torch.inference_mode():
        n = 256  # doubled until it keeps the device busy: what some do in a millisecond takes others minutes
        while (multiply := best(product(n))) < _BUSY and n < _LARGEST:
            n *= 2
        copy = best(lambda: target.copy_(source))
    return Ceiling(2 * n**3 / multiply / 1e9, 2 * source.numel() * source.element_size() / copy / 1e9)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
