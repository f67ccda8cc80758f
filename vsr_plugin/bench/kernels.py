"""Measure our kernels one by one, next to the machine's limits and to torch, all in the same run."""

from __future__ import annotations

import logging
import subprocess
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import import_module, metadata
from math import inf
from statistics import median
from time import monotonic
from typing import TYPE_CHECKING, Any

import torch

from ..backends import Device
from ..errors import UsageError
from ..kernels import tuned_at_once
from . import Ceiling, inference, prediction
from .kernel_cases import architecture_of, timed_cases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..backends import Precision

_log = logging.getLogger(__name__)

_LEAST_SECONDS = 0.1  # of a run


@dataclass(frozen=True, slots=True)
class KernelTiming:
    """One kernel on one kind of input.

    Attributes:
        kernel: Name of the kernel.
        case: What is special about this use.
        seconds: Seconds of a call; the median of the runs.
        bytes: Bytes that have to be read and written, each once.
        flops: Operations that have to be computed.
        floor: Seconds that the machine needs for these at best: for the slower of both.
        rivals: Seconds of others for the same work, by name, without those that could not run.
        predicted: (least, most) seconds by machine code, if requested and the GPU is a known one.
    """

    kernel: str
    case: str
    seconds: float
    bytes: int
    flops: int
    floor: float
    rivals: dict[str, float]
    predicted: tuple[float, float] | None = None

    @property
    def of_floor(self) -> float:
        """How near the floor it is: 1 is the machine's own limit."""
        return self.floor / self.seconds

    @property
    def speedup(self) -> float | None:
        """How many times as fast as the fastest rival of torch."""
        others = [seconds for name, seconds in self.rivals.items() if name != "our layers"]
        return min(others) / self.seconds if others else None


@dataclass(frozen=True, slots=True)
class KernelReport:
    """What was measured.

    Attributes:
        device: Name of the device.
        versions: Versions of torch, Triton, CUDA and the driver.
        size: (batch, height, width) of the inputs.
        precision: Precision of the arithmetic.
        ceiling: The machine's limits, measured in the same run.
        timings: One for each case.
    """

    device: str
    versions: dict[str, str]
    size: tuple[int, int, int]
    precision: str
    ceiling: Ceiling
    timings: tuple[KernelTiming, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; times in seconds."""
        data = asdict(self)
        for row, timing in zip(data["timings"], self.timings, strict=True):
            row |= {"of_floor": timing.of_floor, "speedup": timing.speedup}
        return data


def measure_kernels(
    device: torch.device,
    *,
    precision: Precision = "float16",
    batch: int = 8,
    height: int = 1080,
    width: int = 1920,
    runs: int = 5,
    others: bool = True,
    compiled: bool = True,
    only: str = "",
    predictions: bool = False,
    until: float = inf,
) -> KernelReport:
    """Time every kernel that is worth measuring.

    Args:
        device: A CUDA device; or, for tests, the CPU, if Triton interprets its kernels.
        precision: Precision of the arithmetic.
        batch: Frames at once.
        height: Height of a frame, before it is enlarged.
        width: ″
        runs: Number of runs of each measurement.
        others: Whether torch, and our layers one by one, are measured, too.
        compiled: Whether torch.compile is among them, which takes minutes.
        only: Part of a kernel's name or of a case's.
        predictions: Whether machine code is counted, too.
        until: Time of `time.monotonic` after which nothing more is begun; the rest is left out.

    Raises:
        UsageError: a device that the kernels do not run on; no such kernel.
    """
    from ..backends import open_backend

    if device.type not in open_backend("triton").devices:
        raise UsageError(f"Expected a CUDA device for the kernels, got {device.type}: run this where there is one")
    dtype: torch.dtype = getattr(torch, precision)
    cases = timed_cases(only, device, dtype)
    ceiling = inference.ceiling(precision, Device(str(device)), runs)
    timings = []
    for case in cases:
        if monotonic() >= until:
            _log.info("%s: %s is left out: the time is up", case.kernel, case.name)
            continue
        _log.info("%s: %s", case.kernel, case.name)
        with torch.inference_mode(), _tuned_cudnn(), tuned_at_once():
            work = case.prepare(batch, height, width, dtype, device)
            seconds = _time(work.kernel, device, runs)
            rivals = {}
            for name, rival in _rivals(work, dtype, compiled=compiled) if others else ():
                if monotonic() >= until:
                    break
                try:
                    rivals[name] = _time(rival, device, runs)
                except Exception as error:  # noqa: BLE001 - a rival may fail in any way
                    _log.info("%s: %s does not run: %s", case.name, name, (str(error).splitlines() or [""])[0])
        floor = max(work.bytes / (ceiling.gigabytes * 1e9), work.flops / (ceiling.gflops * 1e9))
        predicted = _predict(case, work, device, ceiling) if predictions else None
        timings.append(KernelTiming(case.kernel, case.name, seconds, work.bytes, work.flops, floor, rivals, predicted))
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return KernelReport(_name(device), _versions(device), (batch, height, width), precision, ceiling, tuple(timings))


def _predict(case: Any, work: Any, device: torch.device, ceiling: Ceiling) -> tuple[float, float] | None:
    known = [gpu for gpu in prediction.GPUS if gpu.architecture == architecture_of(device)]
    if not known:
        return None
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    gpu = replace(known[0], processors=processors, bandwidth=ceiling.gigabytes * 1e9, flops=ceiling.gflops * 1e9)
    with import_module("vsr_plugin.kernels.launch").recorded(processors) as launches:
        work.kernel()
    (launch,) = launches
    if launch.steps is None:
        return None
    found = prediction.predict(case, work, launch, gpu)
    return found.least, found.most


def _rivals(work: Any, dtype: torch.dtype, *, compiled: bool) -> Iterator[tuple[str, Callable[[], object]]]:
    if work.layers is not None:
        yield "our layers", work.layers
    plain = work.plain(dtype)
    yield "eager", plain
    if compiled:
        torch.compiler.reset()
        yield "torch.compile", torch.compile(plain)  # without CUDA graphs of its own: here all are recorded in one


@contextmanager
def _tuned_cudnn() -> Iterator[None]:
    """Let cuDNN measure which of its algorithms is fastest, as our kernels do."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _time(work: Callable[[], object], device: torch.device, runs: int) -> float:
    """Seconds of a call; on CUDA, by a recorded graph, so that Python's time to launch it does not count."""
    for _ in range(3):
        work()  # compiles, tunes, warms up
    where = Device(str(device))
    once = inference.seconds(work, where)
    calls = max(1, round(_LEAST_SECONDS / max(once, 1e-6)))
    repeat: Callable[[], object] = work
    each = 1
    if device.type == "cuda":
        graph, each = torch.cuda.CUDAGraph(), 10
        with torch.cuda.graph(graph):
            for _ in range(each):
                work()
        repeat = graph.replay
    replays = -(-calls // each)
    repeat()
    times = [inference.seconds(lambda: [repeat() for _ in range(replays)], where) for _ in range(runs)]
    return median(times) / replays / each


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu, interpreted"


def _versions(device: torch.device) -> dict[str, str]:
    versions = {"torch": torch.__version__, "triton": metadata.version("triton"), "cuda": str(torch.version.cuda)}
    if device.type == "cuda":
        versions["driver"] = _driver()
    return versions


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]  # noqa: S603
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"
