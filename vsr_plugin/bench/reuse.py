"""What `Reuse` gains where little changes from frame to frame: a clip with and without it, in turns."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from ..engine import Upscaler
from ..errors import UsageError
from ..reuse import Reuse
from ..stream.decode import Source
from ..stream.selection import Selection
from .inference import seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..execution import Execution
    from ..frames import Frame


@dataclass(frozen=True, slots=True)
class Gain:
    """The gain on one clip, whose frames are decoded beforehand.

    Attributes:
        frames: Number of frames.
        width: Width of the clip.
        height: ″
        precision: Precision of the network.
        share: Part of the network's work that was saved.
        seconds: Seconds of each run.
        without: Seconds of the run without reuse before each.
    """

    frames: int
    width: int
    height: int
    precision: str
    share: float
    seconds: tuple[float, ...]
    without: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """How many times as fast it is: the median over the pairs."""
        return median(other / mine for mine, other in zip(self.seconds, self.without, strict=True))


def measure_reuse(clip: str, model: str, scale: int, execution: Execution, frames: int, runs: int) -> Gain:
    """Enlarge a clip, each time as a new stream, and compare the frames once.

    Args:
        clip: The input.
        model: Name.
        scale: One that it has.
        execution: How it runs.
        frames: Number of frames to take at most.
        runs: Number of runs, after one that is not counted.

    Raises:
        UsageError: a clip without frames.
        AssertionError: the results differ.
    """
    given = list(Source(clip, Selection(frames=frames)))
    if not given:
        raise UsageError(f"Expected a clip with frames, got {clip}")
    reuse = Reuse()
    with ExitStack() as opened:
        without, using = (
            opened.enter_context(Upscaler(model, scale, replace(execution, reuse=how))) for how in ("off", "auto")
        )
        for plain, mine in zip(without.stage(iter(given)), using.stage(iter(given), reuse), strict=True):
            assert plain.repeats(mine), f"frame {plain.pts} differs"
        pairs = [tuple(_seconds(upscaler, given) for upscaler in (without, using)) for _ in range(runs)]
    alone, took = zip(*pairs, strict=True)
    first = given[0]
    return Gain(len(given), first.width, first.height, using.precision, round(reuse.share, 3), took, alone)


def _seconds(upscaler: Upscaler, frames: Sequence[Frame]) -> float:
    def work() -> None:
        for _ in upscaler.stage(iter(frames)):
            pass

    return seconds(work, upscaler.device)
