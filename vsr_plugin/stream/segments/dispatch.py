"""`dispatch`: distributes segments to the workers, and those of a lost worker to the others.

A worker that does not respond for long is logged, and later counts as lost: after ten minutes, or twenty times the
longest time that any worker has needed for a frame, if that is more. A segment that fails is tried again after a pause,
unless that would not help, as on a full disk.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from ...errors import BackendError, VsrError
from .messages import Failed
from .original import check_unchanged
from .parts import store_part

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from . import Segment
    from .executor import Task
    from .messages import Given, Made, Sign
    from .parts import Part
    from .ship import Shipped
    from .work import Step


log = logging.getLogger(__name__)

_TRIES = 3  # tries of a segment before the job fails with its error, and of a worker to load the network
_PAUSES = (2.0, 15.0)  # seconds before the second try of a segment that failed, and before the third
_IN_FLIGHT = 2  # segments assigned to a worker at a time: the next one is there when it is needed
_POLL = 0.02  # seconds between checks for finished work
_STEP = 0.5  # seconds between queries of a worker's progress
_PATIENCE = 30.0  # seconds without any worker before a message is logged
_SILENT = 120.0  # seconds without a response from a worker before a message is logged
_HUNG = 600.0  # minimum seconds without a response before another worker gets its segment;
_HUNG_FIRST = 3600.0  # the same while the time for a frame is unknown;
_SLOW = 20  # then this many times the longest time for a frame, if that is more


@dataclass(eq=False)
class Handle:
    """The local state of one worker.

    Attributes:
        kind: Ray's actor class, which starts a worker.
        given: What it needs for the network; Ray keeps that as long as it is referenced here.
        actor: Ray's actor.
        starting: Reference to the pending call that loads the network; None when it is loaded.
        making: References to the calls that make parts, the current one first → their segments.
        watching: Reference to the pending query of its progress, if any.
        asked: When that was sent, on the clock of `time.monotonic`.
        sign: Its last sign of life.
        heard: When it last responded with something new, on the same clock.
        silent: Whether its silence was logged.
        reading: Reference to the pending query of which pieces of the input it waits for, if any.
    """

    kind: Any
    given: Given
    actor: Any = None
    starting: Any = None
    making: dict[Any, Segment] = field(default_factory=dict)
    watching: Any = None
    asked: float = 0.0
    sign: Sign | None = None
    heard: float = 0.0
    silent: bool = False
    reading: Any = None

    def __post_init__(self) -> None:
        self.actor = self.kind.remote()
        self._start()

    def _start(self) -> None:
        self.starting = self.actor.ready.options(max_task_retries=_TRIES - 1).remote(self.given)

    def make(self, film: Any, segment: Segment, folder: Path | None) -> None:
        """Make the worker make a part."""
        if not self.making:
            self.heard = monotonic()
        make = self.actor.make.options(max_task_retries=0)
        self.making[make.remote(self.given, [film], segment, folder)] = segment

    def ends(self) -> list[Any]:
        """References to pending calls that take long."""
        return [*self.making, *([] if self.starting is None else [self.starting])]

    def refs(self) -> list[Any]:
        """References to all pending calls."""
        return [*self.ends(), *(ref for ref in (self.watching, self.reading) if ref is not None)]

    def forget(self, ref: Any) -> None:
        """Remove a call that has ended."""
        self.heard = monotonic()
        self.silent = False
        if ref == self.starting:
            self.starting = None
        self.making.pop(ref, None)

    def lost(self, *, hung: bool = False) -> list[Segment]:
        """Reset a lost worker, or replace one that hangs, which then loads the network again; return its segments."""
        segments = list(self.making.values())
        self.making.clear()
        self.watching = self.reading = self.sign = None
        self.silent = False
        if hung:  # a busy worker may not notice that it is to end
            self.stop()
            self.actor = self.kind.remote()
        self._start()
        return segments

    def stop(self) -> None:
        """Stop the worker, even if it is busy."""
        import ray

        with suppress(Exception):  # the worker, or the whole cluster, may be gone
            ray.kill(self.actor)

    def step(self, done: set[Any]) -> Step | None:
        """Return the worker's progress if it is new, and query it; the answer is returned by a later call."""
        import ray

        found: Step | None = None
        now = monotonic()
        if self.watching in done:
            with suppress(ray.exceptions.RayError):
                sign: Sign = ray.get(self.watching)
                if sign != self.sign:
                    self.sign, self.heard, self.silent = sign, now, False
                    found = sign.step
            self.watching = None
        if self.watching is None and self.making and now > self.asked + _STEP:
            self.asked = now
            self.watching = self.actor.sign.options(max_task_retries=0).remote()
        return found if found and any(found.number == segment.number for segment in self.making.values()) else None

    def serve(self, file: Shipped, done: set[Any]) -> None:
        """Send the pieces of the input that the worker waits for."""
        import ray

        if self.reading in done:
            with suppress(ray.exceptions.RayError):
                token, wanted = ray.get(self.reading)
                if token == file.token:
                    self.actor.give.remote(token, wanted, file.read(wanted), file.piece)
            self.reading = None
        if self.reading is None and self.making:
            self.reading = self.actor.wanted.options(max_task_retries=0).remote()


def dispatch(handles: list[Handle], task: Task, film: Any, file: Shipped | None) -> Iterator[Part]:
    """Make workers make the parts of segments, and yield each part when it is complete.

    Args:
        handles: The workers; those that cannot be started are removed.
        task: The task.
        film: Ray's reference to the film.
        file: The input, if it is sent to the workers, and the parts back; None if they read and write the same paths.

    Raises:
        BackendError: every worker was lost three times while it loaded the network; a segment was lost with its worker
            three times; a worker cannot start, because its machine lacks something.
        VsrError: the error with which a segment failed three times, or once if trying again would not help.
    """
    import ray

    work = _Work(handles, task.waiting)
    idle = monotonic()
    while work.waiting or any(handle.making for handle in handles):
        work.give(film, task.folder if file is None else None)
        refs = [ref for handle in handles for ref in handle.refs()]
        done = set(ray.wait(refs, num_returns=len(refs), timeout=0)[0]) if refs else set()
        if not done:  # Ctrl-C interrupts a sleep at once, and Ray's own waiting after a second
            sleep(_POLL)
        for handle in list(handles):
            if file is not None:
                handle.serve(file, done)
            for ref in handle.ends():
                if ref not in done or ref not in handle.ends():  # lost together with an earlier one
                    continue
                if (made := work.take(handle, ref)) is not None:
                    if file is not None:
                        check_unchanged(task.film)
                    yield _keep(made, task.folder)
            work.notice(handle)
            if (step := handle.step(done)) is not None:
                task.on_step(step)
        if any(handle.starting is None for handle in handles):
            idle = monotonic()
        elif monotonic() > idle + _PATIENCE:
            log.warning("No worker is ready yet: they load the network, or wait until a CPU or GPU is free")
            idle = float("inf")


@dataclass(eq=False)
class _Work:
    """The work that is left.

    Attributes:
        handles: The workers.
        waiting: Segments that are not assigned to a worker.
        tries: Number of a segment → how often it failed, or was lost with its worker.
        pauses: Number of a segment → when it may be tried again, on the clock of `time.monotonic`.
        slowest: Longest time that a worker has needed for a frame, in seconds; 0 before the first.
    """

    handles: list[Handle]
    waiting: deque[Segment]
    tries: Counter[int] = field(default_factory=Counter)
    pauses: dict[int, float] = field(default_factory=dict)
    slowest: float = 0.0

    def give(self, film: Any, folder: Path | None) -> None:
        """Assign segments to workers that have room."""
        for handle in sorted(self.handles, key=lambda handle: len(handle.making)):
            # At the end, a second segment would wait for the first while other workers are idle.
            most = _IN_FLIGHT if len(self.waiting) > len(self.handles) else 1
            if handle.starting is not None or len(handle.making) >= most:
                continue
            now = monotonic()
            ready = (place for place, segment in enumerate(self.waiting) if self.pauses.get(segment.number, 0) <= now)
            if (place := next(ready, None)) is not None:
                handle.make(film, self.waiting[place], folder)
                del self.waiting[place]

    def take(self, handle: Handle, ref: Any) -> Made | None:
        """Return what a worker has made; None if the call failed, or was another one."""
        import ray

        segment = handle.making.get(ref)
        try:
            made: Made | Failed | None = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            handle.forget(ref)
            self._failed(segment, error.cause or error)
            return None
        except ray.exceptions.RayError as error:
            self._lost(handle, segment, error)
            return None
        handle.forget(ref)
        if isinstance(made, Failed):
            self._failed(segment, made.error, lasting=made.lasting)
            return None
        return made

    def notice(self, handle: Handle) -> None:
        """Log that a worker does not respond, and in the end assign its segments to others."""
        if not handle.making:
            return
        if handle.sign is not None:
            self.slowest = max(self.slowest, handle.sign.slowest)
        quiet = monotonic() - handle.heard
        first = next(iter(handle.making.values()))
        if quiet > _SILENT and not handle.silent:
            handle.silent = True
            log.warning("A worker has not responded for %d s while processing segment %d", quiet, first.number)
        if quiet > (max(_HUNG, _SLOW * self.slowest) if self.slowest else _HUNG_FIRST):
            log.warning("A worker seems to hang: segment %d is made by another", first.number)
            self._again(handle.lost(hung=True), BackendError("it stopped responding"))

    def _failed(self, segment: Segment | None, error: BaseException, *, lasting: bool = False) -> None:
        """Have the segment tried again; raise the error if the worker cannot start, or this was the last try."""
        if segment is not None and not lasting:
            self.tries[segment.number] += 1
            if (tries := self.tries[segment.number]) < _TRIES:
                self.pauses[segment.number] = monotonic() + _PAUSES[tries - 1]
                self.waiting.appendleft(segment)
                log.info("Segment %d failed, and is tried again: %s", segment.number, _last_line(error))
                return
        if isinstance(error, VsrError):
            raise error
        what = "A worker cannot start" if segment is None else f"Segment {segment.number} failed {_TRIES} times"
        raise BackendError(f"{what} ({_last_line(error)})") from error

    def _lost(self, handle: Handle, segment: Segment | None, error: Exception) -> None:
        """Assign the segments of a lost worker to others."""
        if segment is None:
            if getattr(error, "actor_init_failed", False):  # it was not lost: its machine lacks something
                raise BackendError(
                    f"A worker cannot start{_place(error)} ({_reason(error)}): all machines need the same versions of "
                    "vsr_plugin and of what it uses"
                ) from error
            self.handles.remove(handle)
            handle.stop()
            what = f"A worker was lost {_TRIES} times while it loaded the network"
            if not self.handles:
                raise BackendError(f"{what}, and none is left ({_last_line(error)})") from error
            log.warning("%s: going on without it (%s)", what, _last_line(error))
            return
        segments = handle.lost()
        log.warning("A worker is lost: segment %d is made again", segments[0].number)
        self._again(segments, error)

    def _again(self, segments: list[Segment], error: Exception) -> None:
        """Put segments back, of which the first was being made when its worker was lost."""
        first = segments[0].number
        self.tries[first] += 1
        if self.tries[first] == _TRIES:
            raise BackendError(f"Segment {first} was lost with its worker {_TRIES} times") from error
        self.waiting.extendleft(reversed(segments))


def _keep(made: Made, folder: Path) -> Part:
    """Store on this disk what a worker has made and sent, and log here what was logged there."""
    for level, line in made.said:
        log.log(level, "%s", line)
    if made.payload is not None:
        store_part(folder, made.part, made.payload)
    return made.part


def _place(error: BaseException) -> str:
    """Return where a worker failed, if Ray's error tells."""
    found = re.search(r"\bip=([^,)\s]+)", str(error))
    return f" on {found[1]}" if found else ""


def _reason(error: BaseException) -> str:
    """Return the last line of another library's error, which is the most informative one."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def _last_line(error: BaseException) -> str:
    """Return the same after the error's type."""
    name = type(error).__name__
    return name if (reason := _reason(error)) == name else f"{name}: {reason}"
