"""`best_model`: the best network that is fast enough here, found by trying them on a few frames.

`choose` is the trial, for any way of making a frame; the preview has its own.
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

LEAST_FPS = 4.0  # two hours of film in twelve
_TRIAL = 1.0  # seconds for all models that are tried, besides the first frame of each
_HOPELESS = 3.0  # times too slow, after which what has more work to do is not tried
_SAMPLE = 12  # frames that tell what decoding and encoding cost


@dataclass(frozen=True, slots=True)
class Chosen:
    """A model, and why.

    Attributes:
        model: Its name.
        fps: Frames per second that it was measured to make here; None if it does not run.
        enough: Whether that is as fast as it had to be; if not, the model is the one with the least work.
        psnr: What its weights measure on Set5, in dB, at the first of the scales.
        scales: Of the networks that a frame passes, one after the other.
    """

    model: str
    fps: float | None
    enough: bool
    psnr: float
    scales: tuple[int, ...]

    def reason(self, fps: float) -> str:
        """Why it is this one, in a sentence, where ``fps`` frames per second were asked for."""
        name = f"{self.model} {' '.join(f'×{scale}' for scale in self.scales)}"
        speed = "" if self.fps is None else f", about {self.fps:.3g} fps"
        if self.enough:
            quality = f"{self.psnr:.2f} dB on Set5 at ×{self.scales[0]}"
            return f"{name}{speed} here: the best of those that make {fps:g} fps ({quality})"
        return f"{name}{speed} here: no model makes {fps:g} fps, and this one has the least work"


@dataclass(frozen=True, slots=True)
class Trial:
    """The models that are tried, by their names, the one with the least work first.

    Attributes:
        models: One or more.
        scales: Of the networks that a frame passes, one after the other.
        tuned_for: The kind of input that their weights are for.
        quantized: Whether those are in 8 bits.
    """

    models: tuple[str, ...]
    scales: tuple[int, ...]
    tuned_for: str = CLEAN
    quantized: bool = False

    @classmethod
    def of(cls, times: int | Size, frame: Frame, tuned_for: str = CLEAN, *, quantized: bool = False) -> Self:
        """Those that can be compared: of models that reach a size by different scales, those of the commonest ones.

        Args:
            times: The enlargement, or the size.
            frame: One of those that are enlarged.
            tuned_for: As for `Upscaler`.
            quantized: Only those that have weights in 8 bits.

        Raises:
            UsageError: a scale that no model has weights for, or a size that the frame has already or none reaches.
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
    """The model of the highest PSNR that makes a frame within ``limit`` seconds; if none does, the one with least work.

    From the least work on, each is tried for its share of a second, up to the first that is far too slow. What is no
    better than one that is fast enough is left out.

    Args:
        trial: The models.
        limit: Seconds.
        open_model: Opens one by its name.
        make_frame: Makes one frame, and says how many seconds that took; the first time, it may compile.
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
    """The model of the highest PSNR that enlarges a file at so many frames per second here.

    Decoding and encoding are included: some frames from within the file are enlarged and encoded in a temporary folder,
    which takes seconds.

    Args:
        source: A file, or a pattern of images; it is read twice.
        scale: The enlargement, or the size that frames are to have.
        fps: Frames per second.
        output: What it would be encoded into; it is not written.
        selection: As for `upscale_file`.
        encoding: ″
        execution: As for `Upscaler`.
        tuned_for: ″

    Raises:
        UsageError: a source that can be read only once, a scale that no model has weights for, or a size out of reach.
        VsrError: as `upscale_file` raises it.
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
    # What shares the cores with the network adds to its time; what runs beside it on a GPU does not.
    rest = max(whole - one, 0.0) if on_cpu else whole

    def make_frame(upscaler: Upscaler) -> float:
        taken = network_seconds(upscaler)
        return taken + rest if on_cpu else max(taken, rest)

    return choose(trial, 1 / fps, open_model, make_frame)


def _work(model: str, scales: tuple[int, ...]) -> float:
    """Multiplications per pixel of the original of one network after the other."""
    work, pixels = 0.0, 1
    for scale in scales:
        work += pixels * MODELS[model].cost[scale][1]
        pixels *= scale**2
    return work


def _sample(source: str | Path, selection: Selection) -> Selection:
    """Some frames from within what is selected: films begin with titles, which cost little."""
    with closing(Source(source, selection)) as probe:
        length = probe.container.duration
        count = probe.expected_frames
    taken = min(_SAMPLE, selection.frames or _SAMPLE)
    if not length or not count or count < 4 * _SAMPLE or selection.frames is not None or selection.frame_rate:
        return replace(selection, frames=taken, duration=None)
    begin = selection.start or Fraction(0)
    left = selection.duration or Fraction(length, 1_000_000) - begin
    return replace(selection, start=begin + left / 3, duration=None, frames=taken)
