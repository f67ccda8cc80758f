"""`Executor`: who makes the parts. `ThisProcess` is the one that needs nothing else."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from .parts import PartFile
from .work import work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ...engine import Upscaler
    from . import Film, Segment
    from .parts import Part
    from .work import Step


class Executor(Protocol):
    """Makes the parts of segments, in any order.

    Attributes:
        workers: How many it makes at a time.
    """

    @property
    def workers(self) -> int:
        """See above."""
        ...

    def run(
        self,
        film: Film,
        segments: Sequence[Segment],
        upscaler: Upscaler,
        folder: Path,
        on_step: Callable[[Step], None],
    ) -> Iterator[Part]:
        """Make the parts, and yield each when it is whole.

        Args:
            film: What they are of.
            segments: In the order of their time; there may be gaps.
            upscaler: The network.
            folder: Where the parts go.
            on_step: To be called as the work goes on, in the calling thread.
        """
        ...


class ThisProcess:
    """Makes one part after the other, in this process."""

    workers = 1

    def run(
        self,
        film: Film,
        segments: Sequence[Segment],
        upscaler: Upscaler,
        folder: Path,
        on_step: Callable[[Step], None],
    ) -> Iterator[Part]:
        """As `Executor.run`."""
        for run in runs(segments):
            yield from work(film, run, upscaler, partial(PartFile, folder), on_step)


def runs(segments: Sequence[Segment]) -> Iterator[Sequence[Segment]]:
    """Those without a gap between them together: they are decoded in one go."""
    begin = 0
    for at, (before, after) in enumerate(pairwise(segments), 1):
        if after.number != before.number + 1:
            yield segments[begin:at]
            begin = at
    if segments:
        yield segments[begin:]
