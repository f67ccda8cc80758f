"""`Executor`: makes the parts. `ThisProcess` is the one that needs nothing else."""

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
    """The task of an executor.

    Attributes:
        film: The film of the parts.
        waiting: Segments to make, the most urgent one first; an executor removes those that it makes. More may be added
            after each part.
        upscaler: The network.
        folder: The folder for the parts.
        on_step: To be called after each frame, in the calling thread.
    """

    film: Film
    waiting: deque[Segment]
    upscaler: Upscaler
    folder: Path
    on_step: Callable[[Step], None]


class Executor(Protocol):
    """Makes the parts of segments, in any order.

    Attributes:
        workers: Number of parts that it makes at a time.
    """

    @property
    def workers(self) -> int:
        """Number of parts that it makes at a time."""
        ...

    def run(self, task: Task) -> Generator[Part]:
        """Make parts until no segment is waiting, and yield each when it is complete; stop when closed."""
        ...


class ThisProcess:
    """Makes one part after the other, in this process."""

    workers = 1

    def run(self, task: Task) -> Generator[Part]:
        """See `Executor.run`."""
        while task.waiting:
            segments = take_run(task.waiting)
            yield from work(task.film, segments, task.upscaler, partial(PartFile, task.folder), task.on_step)


def take_run(waiting: deque[Segment]) -> list[Segment]:
    """Remove and return the first segment and those that follow it without a gap: they are decoded in one go."""
    segments = [waiting.popleft()]
    while waiting and waiting[0].number == segments[-1].number + 1:
        segments.append(waiting.popleft())
    return segments
