"""`Executor`: who makes the parts. `ThisProcess` is the one that needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from .parts import PartFile
from .work import work

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Generator
    from pathlib import Path

    from ...engine import Upscaler
    from . import Film, Segment
    from .parts import Part
    from .work import Step


@dataclass(frozen=True, slots=True)
class Task:
    """What an executor has to do.

    Attributes:
        film: What the parts are of.
        waiting: Segments that are to be made, the most urgent one first; whoever makes one takes it out. Between two
            parts, others may be added.
        upscaler: The network.
        folder: Where the parts go.
        on_step: To be called as the work goes on, in the calling thread.
    """

    film: Film
    waiting: deque[Segment]
    upscaler: Upscaler
    folder: Path
    on_step: Callable[[Step], None]


class Executor(Protocol):
    """Makes the parts of segments, in any order.

    Attributes:
        workers: How many it makes at a time.
    """

    @property
    def workers(self) -> int:
        """See above."""
        ...

    def run(self, task: Task) -> Generator[Part]:
        """Make the parts, until no segment is waiting, and yield each when it is whole; closed, stop."""
        ...


class ThisProcess:
    """Makes one part after the other, in this process."""

    workers = 1

    def run(self, task: Task) -> Generator[Part]:
        """As `Executor.run`."""
        while task.waiting:
            segments = take_run(task.waiting)
            yield from work(task.film, segments, task.upscaler, partial(PartFile, task.folder), task.on_step)


def take_run(waiting: deque[Segment]) -> list[Segment]:
    """Take the first of some segments, and those that follow it without a gap: they are decoded in one go."""
    segments = [waiting.popleft()]
    while waiting and waiting[0].number == segments[-1].number + 1:
        segments.append(waiting.popleft())
    return segments
