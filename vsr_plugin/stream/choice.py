"""`best_model`: the best network that is fast enough here, found by trying them on a few frames.

`choose` is the trial, for any way of making a frame; the preview has its own.
"""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING

from ..engine import Upscaler
from ..errors import UsageError, VsrError
from ..models import MODELS
from ..models.guide import psnr, usable
from .decode import Source
from .input import can_seek
from .selection import Selection
from .upscale import upscale_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from ..execution import Execution
    from .encoder import Encoding

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
        psnr: What its weights measure on Set5, in dB.
    """

    model: str
    fps: float | None
    enough: bool
    psnr: float

    def reason(self, fps: float) -> str:
        """Why it is this one, in a sentence, where ``fps`` frames per second were asked for."""
        speed = "" if self.fps is None else f", about {self.fps:.3g} fps"
        if self.enough:
            return f"{self.model}{speed} here: the best of those that make {fps:g} fps ({self.psnr:.2f} dB)"
        return f"{self.model}{speed} here: no model makes {fps:g} fps, and this one has the least work"


def choose(
    models: Sequence[str],
    scale: int,
    limit: float,
    open_model: Callable[[str], AbstractContextManager[Upscaler]],
    make_frame: Callable[[Upscaler], float],
) -> Chosen:
    """The model of the highest PSNR that makes a frame within ``limit`` seconds; if none does, the one with least work.

    From the least work on, each is tried for its share of a second, up to the first that is far too slow. What is no
    better than one that is fast enough is left out.

    Args:
        models: Names, of models that have weights at this scale.
        scale: The enlargement.
        limit: Seconds.
        open_model: Opens one by its name.
        make_frame: Makes one frame, and says how many seconds that took; the first time, it may compile.

    Raises:
        UsageError: no model.
    """
    if not models:
        raise UsageError(f"Expected a scale that a model has weights for, got {scale}", scale=...)
    by_work = sorted(models, key=lambda name: MODELS[name].cost[scale][1])
    taken: dict[str, float] = {}
    best: str | None = None
    for model in by_work:
        if best is not None and _psnr(model, scale) <= _psnr(best, scale):
            continue
        try:
            with open_model(model) as upscaler:
                make_frame(upscaler)
                times: list[float] = []
                while sum(times) < _TRIAL / len(models):
                    times.append(make_frame(upscaler))
        except VsrError as error:
            _log.info("%s: %s", model, error)
            continue
        taken[model] = seconds = median(times)
        figures = 1e3 * seconds, 1e3 * limit, _psnr(model, scale)
        _log.debug("%s: %.1f ms a frame, of %.1f at most; %.1f dB", model, *figures)
        if seconds <= limit:
            best = model
        elif seconds > _HOPELESS * limit:
            break
    model = best or by_work[0]
    fps = 1 / taken[model] if model in taken else None
    return Chosen(model, fps, best is not None, _psnr(model, scale))


def best_model(
    source: str | Path,
    scale: int = 2,
    fps: float = LEAST_FPS,
    *,
    output: str | Path = "out.mkv",
    selection: Selection | None = None,
    encoding: Encoding | str | None = None,
    execution: Execution | None = None,
) -> Chosen:
    """The model of the highest PSNR that enlarges a file at so many frames per second here.

    Decoding and encoding are included: some frames from within the file are enlarged and encoded in a temporary folder,
    which takes seconds.

    Args:
        source: A file, or a pattern of images; it is read twice.
        scale: The enlargement.
        fps: Frames per second.
        output: What it would be encoded into; it is not written.
        selection: As for `upscale_file`.
        encoding: ″
        execution: As for `Upscaler`.

    Raises:
        UsageError: a source that can be read only once, or a scale that no model has weights for.
        VsrError: as `upscale_file` raises it.
    """
    if not fps > 0:
        raise UsageError(f"Expected fps above 0, got {fps:g}")
    models = usable(scale)
    if not models:
        raise UsageError(f"Expected a scale that a model has weights for, got {scale}", scale=...)
    if not can_seek(source):
        raise UsageError(f"Expected a model for {source}, which can be read only once, got 'auto'", model=models[0])
    sample = _sample(source, selection or Selection())
    with closing(Source(source, sample)) as frames:
        frame = next(frames)

    def open_model(model: str) -> Upscaler:
        return Upscaler(model, scale, execution)

    def network_seconds(upscaler: Upscaler) -> float:
        batch = [frame] * (upscaler.batch or 1)
        began = perf_counter()
        upscaler.upscale(batch)
        return (perf_counter() - began) / len(batch)

    with open_model(models[0]) as upscaler, TemporaryDirectory() as folder:
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

    return choose(models, scale, 1 / fps, open_model, make_frame)


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


def _psnr(model: str, scale: int) -> float:
    return psnr(model, scale) or 0.0
