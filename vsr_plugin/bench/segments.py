"""What it costs to make a film in segments, and what workers gain: the same film in each way, in turns."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from ..engine import Upscaler
from ..errors import UsageError
from ..stream import upscale_file
from ..stream.segments.cluster import Cluster
from ..stream.segments.plan import make_plan
from ..stream.selection import Selection
from .job import ENCODING
from .memory import Peaks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from fractions import Fraction
    from pathlib import Path

    from ..stream import Progress
    from . import Settings


@dataclass(frozen=True, slots=True)
class Way:
    """One way to make a film, next to the film in one go.

    Attributes:
        name: Name of the way.
        seconds: Seconds of each run, after one that is not counted.
        alone: Seconds of the run in one go before each.
        processor: Processor time of each run, over that of the run before; None with workers, whose time is theirs.
            Other work on the machine changes it less than the seconds.
        planning: Processor time of finding where to cut the film, in seconds.
        joining: Processor time of joining the parts into the file, in seconds, of each run.
        memory: Peak bytes of this process in any run; None if the system does not report them.
        memory_alone: The same, in one go.
        memory_of_worker: The same of the largest worker; 0 without any.
    """

    name: str
    seconds: tuple[float, ...]
    alone: tuple[float, ...]
    processor: tuple[float, ...] | None
    planning: float
    joining: tuple[float, ...]
    memory: int | None
    memory_alone: int | None
    memory_of_worker: int

    @property
    def ratio(self) -> float:
        """How many times as long it took: the median over the pairs."""
        return median(mine / other for mine, other in zip(self.seconds, self.alone, strict=True))


@dataclass(frozen=True, slots=True)
class _Run:
    """One run: seconds, seconds of the processor, those after the last frame, and bytes as in `Way`."""

    seconds: float
    processor: float
    joining: float
    memory: int | None
    memory_of_worker: int


def measure_segments(
    film: Path, folder: Path, settings: Settings, length: Fraction, workers: Sequence[int]
) -> Iterator[Way]:
    """Make a film in segments, and with workers, each in turns with one go: other work on the machine hits both alike.

    Args:
        film: The input.
        folder: Where outputs go.
        settings: The network, and the number of runs.
        length: Length of a segment in seconds.
        workers: Numbers of workers; each needs Ray.

    Raises:
        UsageError: the film is one segment.
    """
    began = time.process_time()
    whole = make_plan(str(film), Selection(), length).whole
    planning = time.process_time() - began
    if whole:
        raise UsageError(f"Expected a film of several segments, got one of {settings.frames} frames: {whole}")
    with Upscaler(settings.model, settings.scale, settings.execution, weights=settings.weights) as upscaler:

        def run(**how: Any) -> _Run:
            before, peaks = time.process_time(), Peaks()
            last = before

            def note(_: Progress) -> None:
                nonlocal last
                last = time.process_time()
                if "executor" in how:
                    peaks.look()

            report = upscale_file(
                film,
                folder / "out.mkv",
                upscaler,
                encoding=ENCODING,
                overwrite=True,
                segment_length=length,
                on_progress=note,
                **how,
            )
            now = time.process_time()
            return _Run(report.seconds, now - before, now - last, peaks.of_this, peaks.of_worker)

        for count in (0, *workers):
            name = f"{count} worker{'s' * (count > 1)}" if count else "in segments"
            with ExitStack() as cleanup:
                how = {"executor": cleanup.enter_context(Cluster(count))} if count else {"resume": True}
                run(), run(**how)  # loads and starts
                pairs = [(run(), run(**how)) for _ in range(settings.runs)]
            alone, cut = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            yield Way(
                name=name,
                seconds=tuple(one.seconds for one in cut),
                alone=tuple(one.seconds for one in alone),
                processor=None if count else tuple(one.processor / other.processor for other, one in pairs),
                planning=planning,
                joining=tuple(one.joining for one in cut),
                memory=max((one.memory for one in cut if one.memory), default=None),
                memory_alone=max((one.memory for one in alone if one.memory), default=None),
                memory_of_worker=max(one.memory_of_worker for one in cut),
            )
