"""Measure the network alone, frames through the `Upscaler`, and the machine's limits."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from .. import tiling
from ..backends import SamplesNetwork, open_backend
from ..device import torch_threads
from ..kernels import tuned_at_once
from ..models import build_model, find_model, read_model
from ..models.cost import macs
from ..samples import SampleFormat
from . import Ceiling, Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from ..arrays import Array
    from ..backends import Device, Precision
    from ..engine import Upscaler
    from ..frames import Frame
    from ..models import ModelSpec
    from . import Settings

_REPEATS, _LONGEST = 7, 5.0  # repeats of a frame, and seconds after which fewer are enough
_BUSY, _LARGEST = 0.02, 8192  # seconds and side of a matrix product that shows how fast the device is
_LEAST_SECONDS = 0.25  # of a run: shorter ones measure the clock and the scheduler


def seconds(work: Callable[[], object], device: Device) -> float:
    """Seconds that ``work`` takes, until the device is idle."""
    _finish(device)
    began = perf_counter()
    work()
    _finish(device)
    return perf_counter() - began


def has_weights(settings: Settings) -> bool:
    """Whether there are weights for the model; speed does not depend on their values."""
    return (
        settings.weights is not None or find_model(settings.model, settings.scale).weights(settings.scale) is not None
    )


def load_network(settings: Settings, precision: Precision = "float32") -> tuple[ModelSpec, nn.Module]:
    """The network to measure, with its weights; if it has none, with the same random ones each time."""
    quantized = precision == "int8"
    if quantized or has_weights(settings):
        return read_model(settings.model, settings.scale, settings.weights, quantized=quantized)
    spec = find_model(settings.model, settings.scale)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build_model(spec, settings.scale)
    return spec, module.eval().requires_grad_(requires_grad=False)


def flops_per_frame(settings: Settings) -> int:
    """Operations of the network's convolutions for one frame: two per multiply-accumulate, counted in the module."""
    if settings.execution.precision == "int8":  # such weights have the form of the catalogue
        module = build_model(find_model(settings.model, settings.scale), settings.scale)
    else:
        module = load_network(settings)[1]
    return 2 * macs(module) * settings.width * settings.height


def network(settings: Settings, upscaler: Upscaler) -> Timing:
    """The compiled network by itself, on all windows of a frame: no color conversion, no cutting and joining.

    A luma network gets and returns samples as a file has them, if the backend takes them.
    """
    spec = upscaler.spec
    grid = tiling.plan(settings.height, settings.width, upscaler.tile, spec.overlap[settings.scale], spec.multiple_of)
    batch = upscaler.batch or 1
    shape = (batch, spec.channels, *grid.size)
    module = load_network(settings, upscaler.precision)[1]
    backend = open_backend(upscaler.backend)
    compiled = backend.compile(module, spec, shape, upscaler.precision, upscaler.device)
    x: Array = torch.rand(shape, device=upscaler.device)
    work: Callable[[Array], Array] = compiled
    if spec.channels == spec.multiple_of == 1 and isinstance(compiled, SamplesNetwork):  # as in `Upscaler`
        x, work = (255 * x).to(torch.uint8), partial(compiled.upscale_samples, samples=SampleFormat(255, 8))
        x = x.numpy() if upscaler.device.type == "cpu" else x
    samples = settings.width * settings.height * spec.channels * (1 + settings.scale**2)
    with closing(compiled), torch_threads(1 if backend.own_threads else None):
        runs = tuple(taken * len(grid) for taken in repeat(lambda: work(x), upscaler.device, batch, settings.runs))
    return Timing("network alone", runs, flops_per_frame(settings), samples * x.itemsize)


def repeat(work: Callable[[], object], device: Device, batch: int, runs: int) -> tuple[float, ...]:
    """Seconds per frame of ``work``, which takes ``batch`` frames and is repeated in each run for `_LEAST_SECONDS`."""
    with tuned_at_once():
        once = min(seconds(work, device) for _ in range(3))  # the first ones warm up
    calls = max(1, round(_LEAST_SECONDS / once))
    return tuple(seconds(lambda: [work() for _ in range(calls)], device) / calls / batch for _ in range(runs))


def upscale(upscaler: Upscaler, frames: Sequence[Frame]) -> float:
    """Seconds per frame of preloaded frames through the `Upscaler`; the results are dropped."""

    def work() -> None:
        for _ in upscaler.stage(iter(frames)):
            pass

    return seconds(work, upscaler.device) / len(frames)


def warm_up(upscaler: Upscaler, frames: Sequence[Frame]) -> None:
    """Let the `Upscaler` compile and tune everything that it needs for such frames."""
    with tuned_at_once():
        upscale(upscaler, frames[: 2 * (upscaler.batch or 1)])


def fps(upscaler: Upscaler, frame: Frame) -> float:
    """Frames per second of one frame through the `Upscaler`, again and again: the median, after one that warms up."""
    group = [frame] * (upscaler.batch or 1)
    with tuned_at_once():
        first = seconds(lambda: upscaler.upscale(group), upscaler.device)
    runs: list[float] = []
    while not runs or (len(runs) < _REPEATS and first + sum(runs) < _LONGEST):
        runs.append(seconds(lambda: upscaler.upscale(group), upscaler.device))
    return len(group) / median(runs)


def ceiling(precision: Precision, device: Device, runs: int) -> Ceiling:
    """The best of several runs of a square matrix product, and of a copy larger than any cache.

    Args:
        precision: Precision of the matrices.
        device: The device to measure.
        runs: Number of runs; at least three are made.
    """

    def product(n: int) -> Callable[[], object]:
        if precision == "int8":
            bytes_, sums = torch.ones(n, n, dtype=torch.int8), torch.empty(n, n, dtype=torch.int32)
            return lambda: torch._int_mm(bytes_, bytes_, out=sums)
        dtype: torch.dtype = getattr(torch, precision)
        a, b = torch.rand(n, n, device=device).to(dtype), torch.rand(n, n, device=device).to(dtype)
        c = torch.empty_like(a)
        return lambda: torch.mm(a, b, out=c)

    source = torch.zeros(2**28 if device.type == "cuda" else 2**26, dtype=torch.float32, device=device)
    target = torch.empty_like(source)

    def best(work: Callable[[], object]) -> float:
        work()
        return min(seconds(work, device) for _ in range(max(3, runs)))

    with torch.inference_mode():
        n = 256  # doubled until it keeps the device busy: a millisecond's work for some takes others minutes
        while (multiply := best(product(n))) < _BUSY and n < _LARGEST:
            n *= 2
        copy = best(lambda: target.copy_(source))
    return Ceiling(2 * n**3 / multiply / 1e9, 2 * source.numel() * source.element_size() / copy / 1e9)


def _finish(device: Device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
