"""`dispatch`: segments to the workers, and what a lost one has had to the others."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import BackendError, UsageError, VsrError
from .parts import store_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from . import Segment
    from .parts import Part
    from .work import Step
    from .worker import Given, Made

log = logging.getLogger(__name__)

_TRIES = 3  # of a segment, before the job ends with its error, and of a worker to load the network
_IN_FLIGHT = 2  # segments that a worker has at a time: the next one waits where it is needed
_POLL = 0.02  # seconds between two looks whether something has ended
_STEP = 0.5  # seconds between two questions how far a worker is
_PATIENCE = 30.0  # seconds without any worker, before it is said


@dataclass(eq=False)
class Handle:
    """One worker, as it is known here.

    Attributes:
        actor: Ray's.
        given: What it needs for the network; as long as it is here, Ray keeps it.
        starting: What tells that it has loaded the network; None when it has.
        making: What it makes, and then what waits there.
        watching: What tells how far it is, if it was asked.
        asked: When that was, on the clock of `time.monotonic`.
    """

    actor: Any
    given: Given
    starting: Any = None
    making: dict[Any, Segment] = field(default_factory=dict)
    watching: Any = None
    asked: float = 0.0

    def __post_init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self.starting = self.actor.ready.options(max_task_retries=_TRIES - 1).remote(self.given)

    def make(self, film: Any, segment: Segment, folder: Path | None) -> None:
        """Let it make a part."""
        make = self.actor.make.options(max_task_retries=0)
        self.making[make.remote(self.given, [film], segment, folder)] = segment

    def refs(self) -> list[Any]:
        """All that may end."""
        return [*self.making, *([] if self.starting is None else [self.starting])]

    def forget(self, ref: Any) -> None:
        """That has ended."""
        if ref == self.starting:
            self.starting = None
        self.making.pop(ref, None)

    def lost(self) -> list[Segment]:
        """It is gone with these; if it comes again, it will say that it is ready."""
        segments = list(self.making.values())
        self.making.clear()
        self.watching = None
        self._start()
        return segments

    def stop(self) -> None:
        """Stop it, whatever it does."""
        import ray

        with suppress(Exception):  # it, or the whole cluster, may be gone
            ray.kill(self.actor)

    def steps(self) -> Iterator[Step]:
        """How far it is; asked now, answered at a later call."""
        import ray

        if self.watching is not None and ray.wait([self.watching], timeout=0)[0]:
            with suppress(ray.exceptions.RayError):
                step = ray.get(self.watching)
                if step is not None and any(step.number == segment.number for segment in self.making.values()):
                    yield step
            self.watching = None
        if self.watching is None and self.making and time.monotonic() > self.asked + _STEP:
            self.asked = time.monotonic()
            self.watching = self.actor.step.options(max_task_retries=0).remote()


def dispatch(
    handles: list[Handle],
    film: Any,
    segments: Sequence[Segment],
    folder: Path,
    on_step: Callable[[Step], None],
    *,
    ship: bool,
) -> Iterator[Part]:
    """Let workers make the parts of segments, and yield each when it is whole.

    Args:
        handles: The workers; those that cannot be started are removed.
        film: Where Ray keeps what the segments are of.
        segments: In the order in which they are begun.
        folder: Where the parts go.
        on_step: Called as the work goes on.
        ship: Whether the workers send the parts; else they write to the folder.

    Raises:
        BackendError: every worker was lost three times while it loaded the network; a segment was lost with its worker
            three times.
        VsrError: whatever a segment failed with three times.
    """
    import ray

    work = _Work(handles, deque(segments))
    idle = time.monotonic()
    while work.waiting or any(handle.making for handle in handles):
        work.give(film, None if ship else folder)
        refs = [ref for handle in handles for ref in handle.refs()]
        done, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        if not done:  # Ctrl-C interrupts a sleep at once, and Ray's own waiting after a second
            time.sleep(_POLL)
        for handle in list(handles):
            for step in handle.steps():
                on_step(step)
            for ref in handle.refs():
                if ref not in done or ref not in handle.refs():  # it may be lost with the one before
                    continue
                if (made := work.take(handle, ref)) is not None:
                    yield _keep(made, folder)
        if any(handle.starting is None for handle in handles):
            idle = time.monotonic()
        elif time.monotonic() > idle + _PATIENCE:
            log.warning("No worker is ready yet: they load the network, or wait until a CPU or GPU is free")
            idle = float("inf")


@dataclass(eq=False)
class _Work:
    """What is to be done.

    Attributes:
        handles: Who does it.
        waiting: Segments that no worker has.
        tries: Number of a segment → how often it failed, or was lost with its worker.
    """

    handles: list[Handle]
    waiting: deque[Segment]
    tries: Counter[int] = field(default_factory=Counter)

    def give(self, film: Any, folder: Path | None) -> None:
        """Give the workers what they can take."""
        for handle in sorted(self.handles, key=lambda handle: len(handle.making)):
            # At the end, a second one would wait behind the first while others have nothing to do.
            most = _IN_FLIGHT if len(self.waiting) > len(self.handles) else 1
            if self.waiting and handle.starting is None and len(handle.making) < most:
                handle.make(film, self.waiting.popleft(), folder)

    def take(self, handle: Handle, ref: Any) -> Made | None:
        """What a worker has made; None if it is something else that has ended."""
        import ray

        segment = handle.making.get(ref)
        try:
            made: Made | None = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            handle.forget(ref)
            self._failed(segment, error)
            return None
        except ray.exceptions.RayError as error:
            self._lost(handle, segment, error)
            return None
        handle.forget(ref)
        return made

    def _failed(self, segment: Segment | None, error: Any) -> None:
        """Let it be tried again; raise the error if the worker cannot work, or that was the last time."""
        cause = error.cause
        if segment is not None:
            self.tries[segment.number] += 1
            if self.tries[segment.number] < _TRIES and not isinstance(cause, UsageError):
                self.waiting.appendleft(segment)
                return
        if isinstance(cause, VsrError):
            raise cause from error
        what = "A worker cannot start" if segment is None else f"Segment {segment.number} failed {_TRIES} times"
        raise BackendError(f"{what} ({_last_line(cause or error)})") from error

    def _lost(self, handle: Handle, segment: Segment | None, error: Exception) -> None:
        """Let others make what a worker has had, which is gone."""
        if segment is None:
            self.handles.remove(handle)
            handle.stop()
            what = f"A worker was lost {_TRIES} times while it loaded the network"
            if not self.handles:
                raise BackendError(f"{what}, and none is left ({_last_line(error)})") from error
            log.warning("%s: going on without it", what)
            return
        first, *others = handle.lost()
        log.warning("A worker is lost: segment %d is made again", first.number)
        self.tries[first.number] += 1
        if self.tries[first.number] == _TRIES:
            raise BackendError(f"Segment {first.number} was lost with its worker {_TRIES} times") from error
        self.waiting.extendleft(reversed([first, *others]))


def _keep(made: Made, folder: Path) -> Part:
    """Put what a worker has made on the disk here, and log what was logged there."""
    for level, line in made.said:
        log.log(level, "%s", line)
    if made.payload is not None:
        store_part(folder, made.part, made.payload)
    return made.part


def _last_line(error: BaseException) -> str:
    """The last line of an error of others, which says most."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1].strip()}" if lines else type(error).__name__
