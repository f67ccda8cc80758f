"""All measurements together, in the order that keeps them comparable, and as plain data."""

from __future__ import annotations

import logging
import os
import platform
import tempfile
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..engine import Upscaler
from . import Absent, Ceiling, Settings, Timing, inference
from .clip import frames as made_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..backends import Device
    from ..frames import Frame

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured.

    Attributes:
        settings: The settings of the measurement.
        processor: Name of the CPU or GPU that ran the network.
        upscaler: Its backend, device, precision, batch and tile, in words.
        ceiling: The machine's limits.
        network: The network alone.
        upscale: Preloaded frames through the `Upscaler`.
        plain: Decode, bicubic enlargement, encode; None without PyAV.
        whole: The whole job; None without PyAV.
        plain_whole: The whole job with the encoder that OpenCV has; None without ``others``.
        others: Other programs at the same job.
    """

    settings: Settings
    processor: str
    upscaler: str
    ceiling: Ceiling
    network: Timing
    upscale: Timing
    plain: Timing | None = None
    whole: Timing | None = None
    plain_whole: Timing | None = None
    others: tuple[Timing | Absent, ...] = ()

    @property
    def own(self) -> tuple[Timing, ...]:
        """Our own measurements, from the network to the whole job."""
        own = (self.network, self.upscale, self.plain, self.whole, self.plain_whole)
        return tuple(timing for timing in own if timing is not None)

    @property
    def overlap(self) -> float | None:
        """Whole job ÷ (upscale + the job without a network): 1 if nothing is lost, less if the work overlaps."""
        if self.whole is None or self.plain is None:
            return None
        return self.whole.median / (self.upscale.median + self.plain.median)

    def speedup(self, other: Timing) -> float:
        """How many times as fast our whole job is, with the same encoder."""
        alike = (
            self.plain_whole if self.plain_whole is not None and other.codec == self.plain_whole.codec else self.whole
        )
        assert alike is not None, "others are measured only where the whole job is"
        return other.median / alike.median

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; times in seconds per frame."""
        settings = {
            key: str(value) if isinstance(value, Path) else value for key, value in asdict(self.settings).items()
        }
        rows = [_row(timing) for timing in self.own]
        others = [
            asdict(other) if isinstance(other, Absent) else _row(other) | {"speedup": self.speedup(other)}
            for other in self.others
        ]
        return {
            "settings": settings,
            "processor": self.processor,
            "upscaler": self.upscaler,
            "ceiling": asdict(self.ceiling),
            "measured": rows,
            "whole_over_parts": None if self.overlap is None else round(self.overlap, 3),
            "others": others,
        }


def _row(timing: Timing) -> dict[str, Any]:
    figures = {"median": timing.median, "fps": timing.fps, "gflops": timing.gflops, "gigabytes": timing.gigabytes}
    return asdict(timing) | figures


def measure(settings: Settings, *, others: bool) -> Report:
    """Measure everything; with ``others``, other programs, too.

    Raises:
        VsrError: as `Upscaler` and `upscale_file` raise it.
    """
    spec, module = inference.load_network(settings, settings.execution.precision or "float32")
    if not inference.has_weights(settings):
        _log.warning("no weights are shipped for %s ×%d: measured with random ones", spec.name, settings.scale)
    upscaler = Upscaler.from_module(module, spec, settings.scale, settings.execution)
    warn_if_busy()
    with upscaler:
        if find_spec("av") is not None:
            return _with_files(settings, upscaler, others=others)
        _log.info("no PyAV: the network and frames in memory are measured, but no whole files")
        frames = made_up(settings)
        inference.warm_up(upscaler, frames)
        upscale = tuple(inference.upscale(upscaler, frames) for _ in range(settings.runs))
        return _report(settings, upscaler, upscale, frames)


def _with_files(settings: Settings, upscaler: Upscaler, *, others: bool) -> Report:
    from . import job

    with tempfile.TemporaryDirectory() as folder:
        _log.info("making a clip of %d frames of %d×%d", settings.frames, settings.width, settings.height)
        clip = job.make_clip(Path(folder), settings)
        output = Path(folder) / "large.mp4"
        frames = job.load(clip)
        inference.warm_up(upscaler, frames)
        rounds = []
        for index in range(settings.runs):  # in turns, so that other work on the machine affects all alike
            _log.info("round %d of %d", index + 1, settings.runs)
            rounds.append(
                (
                    inference.upscale(upscaler, frames),
                    job.without_network(clip, output, settings.scale),
                    job.whole(clip, output, upscaler),
                )
            )
        upscale, plain, whole = zip(*rounds, strict=True)
        report = _report(settings, upscaler, upscale, frames)
        encoder = f"{job.CODEC} {job.PRESET} crf {job.CRF}"
        return replace(
            report,
            plain=Timing("decode, scale, encode", plain, note=f"bicubic in place of the network, {encoder}"),
            whole=Timing("whole job", whole, report.network.flops, codec=job.CODEC, note=encoder),
            plain_whole=_plain_whole(clip, output, settings, upscaler) if others else None,
            others=tuple(_others(clip, settings, upscaler.device)) if others else (),
        )


def _report(settings: Settings, upscaler: Upscaler, upscale: tuple[float, ...], frames: list[Frame]) -> Report:
    """The measurements that need no files."""
    _log.info("the network alone, and the machine's ceiling")
    network = inference.network(settings, upscaler)
    ceiling = inference.ceiling(upscaler.precision, upscaler.device, settings.runs)
    samples = sum(plane.nbytes for plane in frames[0].planes) * (1 + settings.scale**2)
    note = "frames in memory; colors, chroma and rounding included"
    alone = Timing("upscale alone", upscale, network.flops, samples, note=note)
    return Report(settings, processor_name(upscaler.device), _words(upscaler), ceiling, network, alone)


def _plain_whole(clip: Path, output: Path, settings: Settings, upscaler: Upscaler) -> Timing:
    from . import job

    encoding = job.plain_encoding(settings)
    runs = tuple(job.whole(clip, output, upscaler, encoding) for _ in range(settings.runs))
    return Timing("whole job, as MPEG-4 part 2", runs, codec=job.PLAIN_CODEC, note="as OpenCV would write it")


def _others(clip: Path, settings: Settings, device: Device) -> Iterator[Timing | Absent]:
    from . import peers

    for other in peers.compare(clip, settings, device):
        _log.info(
            "%s: %s", other.name, other.why if isinstance(other, Absent) else f"{other.fps:.3g} frames per second"
        )
        yield other


def warn_if_busy() -> None:
    """Log a warning if more programs want to run, averaged over a minute, than there are processors."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > (os.cpu_count() or 1):
        _log.warning("this machine is busy with other work (load %.1f): every figure will be worse than it is", load)


def processor_name(device: Device) -> str:
    """Name of the CPU and its number of threads, or name of the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    able = torch.cpu.get_capabilities()
    return f"{able.get('cpu_name', platform.processor())}, {torch.get_num_threads()} threads"


def _words(upscaler: Upscaler) -> str:
    tile = f"tiles of {upscaler.tile}" if upscaler.tile else "whole frames"
    return f"{upscaler.backend} on {upscaler.device}, {upscaler.precision}, batch {upscaler.batch}, {tile}"
