"""`best_model`: finds the best network that is fast enough here by trying them on a few frames.

`choose` runs the trial with any function that makes a frame; the preview passes its own.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Self

from ..arguments import checked_arguments
from ..engine import Upscaler
from ..errors import UsageError, VsrError
from ..models import CLEAN, MODELS, check_tuning
from ..models.guide import psnr, usable
from ..sizes import Size
from .decode import Source
from .input import can_seek
from .selection import Selection
from .upscale import upscale_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ..execution import Execution
    from ..frames import Frame
    from .encoding import Encoding

_log = logging.getLogger(__name__)

LEAST_FPS = 4.0  # two hours of film in twelve hours
_TRIAL = 1.0  # seconds for all models that are tried, without the first frame of each
_HOPELESS = 3.0  # if a model is this many times too slow, models with more work are not tried
_SAMPLE = 12  # frames from which the cost of decoding and encoding is measured


@dataclass(frozen=True, slots=True)
class Chosen:
    """The chosen model, and the reason.

    Attributes:
        model: Name of the model.
        fps: Measured speed here, in frames per second; None if the model does not run.
        enough: Whether that is fast enough; if not, the model is the one with the least work.
        psnr: PSNR of its weights on Set5, in dB, at the first of the scales.
        scales: Scales of the networks that a frame passes through, in order.
    """

    model: str
    fps: float | None
    enough: bool
    psnr: float
    scales: tuple[int, ...]

    def reason(self, fps: float) -> str:
        """The reason for the choice, in one sentence; ``fps`` is the requested number of frames per second."""
        name = f"{self.model} {' '.join(f'×{scale}' for scale in self.scales)}"
        speed = "" if self.fps is None else f", about {self.fps:.3g} fps"
        if self.enough:
            quality = f"{self.psnr:.2f} dB on Set5 at ×{self.scales[0]}"
            return f"{name}{speed} here: the best of those that make {fps:g} fps ({quality})"
        return f"{name}{speed} here: no model makes {fps:g} fps, and this one has the least work"


@dataclass(frozen=True, slots=True)
class Trial:
    """The models to try.

    Attributes:
        models: Names of one or more models, the one with the least work first.
        scales: Scales of the networks that a frame passes through, in order.
        tuned_for: Kind of input that their weights are for.
        quantized: Whether their weights are in 8 bits.
    """

    models: tuple[str, ...]
    scales: tuple[int, ...]
    tuned_for: str = CLEAN
    quantized: bool = False

    @classmethod
    def of(cls, times: int | Size, frame: Frame, tuned_for: str = CLEAN, *, quantized: bool = False) -> Self:
        """Select models that can be compared: if they need different scales to reach a size, take the commonest ones.

        Args:
            times: The enlargement, or the size.
            frame: One of the frames to enlarge.
            tuned_for: As for `Upscaler`.
            quantized: Select only models that have weights in 8 bits.

        Raises:
            UsageError: no model has weights for the scale, the frame has the size already, or no model reaches it.
        """
        able = usable(tuned_for, quantized=quantized)
        fixed = times.scale if isinstance(times, Size) else times
        if fixed is not None:
            able = {name: scales for name, scales in able.items() if fixed in scales}
        if not able:
            kind = " in 8 bits" if quantized else ""
            raise UsageError(f"Expected a scale that a model has weights{kind} for, got {fixed}", scale=...)
        plans: dict[str, tuple[int, ...]] = {}
        failure: UsageError | None = None
        for name, scales in sorted(able.items(), key=lambda item: max(item[1])):
            try:
                plans[name] = times.of(frame, scales).scales if isinstance(times, Size) else (times,)
            except UsageError as error:
                failure = error
        if failure is not None and not plans:
            raise failure
        found = Counter(plans.values())
        common = min(found, key=lambda plan: (-found[plan], math.prod(plan), plan))
        models = (name for name, plan in plans.items() if plan == common)
        return cls(tuple(sorted(models, key=lambda name: _work(name, common))), common, tuned_for, quantized)

    def psnr(self, model: str) -> float:
        """PSNR of a model's weights on Set5, in dB, at the first of the scales."""
        return psnr(model, self.scales[0], self.tuned_for, quantized=self.quantized) or 0.0


def choose(
    trial: Trial,
    limit: float,
    open_model: Callable[[str], AbstractContextManager[Upscaler]],
    make_frame: Callable[[Upscaler], float],
) -> Chosen:
    """Choose the model with the highest PSNR that makes a frame within ``limit`` seconds, or else the least work.

    Models are tried in order of their work, each for an equal share of a second, up to the first that is far too slow.
    A model whose PSNR is no higher than that of one that is fast enough is skipped.

    Args:
        trial: The models.
        limit: Seconds per frame.
        open_model: Opens a model by its name.
        make_frame: Makes one frame, and returns the seconds it took; the first call may compile.
    """
    taken: dict[str, float] = {}
    best: str | None = None
    for model in trial.models:
        if best is not None and trial.psnr(model) <= trial.psnr(best):
            continue
        try:
            with open_model(model) as upscaler:
                make_frame(upscaler)
                times: list[float] = []
                while sum(times) < _TRIAL / len(trial.models):
                    times.append(make_frame(upscaler))
        except VsrError as error:
            _log.info("%s: %s", model, error)
            continue
        taken[model] = seconds = median(times)
        figures = 1e3 * seconds, 1e3 * limit, trial.psnr(model)
        _log.debug("%s: %.1f ms a frame, of %.1f at most; %.1f dB", model, *figures)
        if seconds <= limit:
            best = model
        elif seconds > _HOPELESS * limit:
            break
    model = best or trial.models[0]
    fps = 1 / taken[model] if model in taken else None
    return Chosen(model, fps, best is not None, trial.psnr(model), trial.scales)


@checked_arguments(scale="Size", selection="Selection", encoding="Encoding", execution="Execution")
def best_model(
    source: str | Path,
    scale: int | Size = 2,
    fps: float = LEAST_FPS,
    *,
    output: str | Path = "out.mkv",
    selection: Selection | None = None,
    encoding: Encoding | str | None = None,
    execution: Execution | None = None,
    tuned_for: str = CLEAN,
) -> Chosen:
    """Choose the model with the highest PSNR that enlarges a file at ``fps`` frames per second or faster here.

    The speed includes decoding and encoding: some frames from inside the file are enlarged and encoded in a temporary
    folder, which takes seconds.

    Args:
        source: A file, or a pattern of images; it is read twice.
        scale: The enlargement, or the size of the enlarged frames.
        fps: Frames per second.
        output: Name of the output, which determines the encoding; it is not written.
        selection: As for `upscale_file`.
        encoding: ″
        execution: As for `Upscaler`.
        tuned_for: ″

    Raises:
        UsageError: the source can be read only once, no model has weights for the scale, or none reaches the size.
        VsrError: as for `upscale_file`.
    """
    if not fps > 0:
        raise UsageError(f"Expected fps above 0, got {fps:g}")
    check_tuning(tuned_for)
    if str(source) == "-" or not can_seek(source):
        raise UsageError(f"Expected a model for {source}, which can be read only once, got 'auto'", model=...)
    sample = _sample(source, selection or Selection())
    with closing(Source(source, sample)) as frames:
        frame = next(frames)
    trial = Trial.of(scale, frame, tuned_for, quantized=execution is not None and execution.precision == "int8")

    def open_model(model: str) -> Upscaler:
        return Upscaler(model, scale, execution, tuned_for=tuned_for)

    def network_seconds(upscaler: Upscaler) -> float:
        batch = [frame] * (upscaler.batch or 1)
        began = perf_counter()
        upscaler.upscale(batch)
        return (perf_counter() - began) / len(batch)

    with open_model(trial.models[0]) as upscaler, TemporaryDirectory() as folder:
        network_seconds(upscaler)
        one = network_seconds(upscaler)
        place = Path(folder) / ("out.y4m" if str(output) == "-" else Path(output).name)
        report = upscale_file(source, place, upscaler, sample, encoding=encoding)
        on_cpu = upscaler.device.type == "cpu"
    whole = report.seconds / report.frames
    # Decoding and encoding share the cores with a network on the CPU, so their time is added; beside a GPU it is not.
    rest = max(whole - one, 0.0) if on_cpu else whole

    def make_frame(upscaler: Upscaler) -> float:
        taken = network_seconds(upscaler)
        return taken + rest if on_cpu else max(taken, rest)

    return choose(trial, 1 / fps, open_model, make_frame)


def _work(model: str, scales: tuple[int, ...]) -> float:
    """Multiplications per pixel of the original, summed over the networks that run one after the other."""
    work, pixels = 0.0, 1
    for scale in scales:
        work += pixels * MODELS[model].cost[scale][1]
        pixels *= scale**2
    return work


def _sample(source: str | Path, selection: Selection) -> Selection:
    """Select some frames from inside the selection: films begin with titles, which are cheap to encode."""
    with closing(Source(source, selection)) as probe:
        length = probe.container.duration
        count = probe.expected_frames
    taken = min(_SAMPLE, selection.frames or _SAMPLE)
    if not length or not count or count < 4 * _SAMPLE or selection.frames is not None or selection.frame_rate:
        return replace(selection, frames=taken, duration=None)
    begin = selection.start or Fraction(0)
    left = selection.duration or Fraction(length, 1_000_000) - begin
    return replace(selection, start=begin + left / 3, duration=None, frames=taken)
