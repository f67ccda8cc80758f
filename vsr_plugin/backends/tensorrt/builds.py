"""Logs the progress of a build, and cancels it on Ctrl-C."""

from __future__ import annotations

import atexit
import logging
import threading
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from ...interruption import interrupting

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 5.0


class Watch:
    """Receives the progress reports of a builder, from any thread.

    It logs warnings, because a build may take minutes: a script without logging set up, or vspipe, should show why
    nothing happens.

    Args:
        what: The engine, in words.

    Attributes:
        stopped: Whether the builder has to stop.
    """

    def __init__(self, what: str) -> None:
        self.stopped = False
        self._what = what
        self._phases: dict[str, tuple[int, int]] = {}  # name → (steps done, of), the outermost first
        self._began = self._said = monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since it was made."""
        return monotonic() - self._began

    def start(self, phase: str, steps: int) -> None:
        """A phase begins, inside the one before."""
        self._phases[phase] = (0, steps)

    def step(self, phase: str, step: int) -> bool:
        """A step of a phase is done; False tells the builder to stop."""
        self._phases[phase] = (step + 1, self._phases.get(phase, (0, 0))[1])
        if monotonic() - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = monotonic()
            last = list(self._phases.items())[-2:]
            phases = ", ".join(f"{name.lower()} {done}/{steps}" for name, (done, steps) in last)
            _log.warning("still building %s after %.0f s: %s", self._what, self.seconds, phases)
        return not self.stopped

    def finish(self, phase: str) -> None:
        """A phase ends."""
        self._phases.pop(phase, None)


@contextmanager
def watched(what: str) -> Iterator[Watch]:
    """Log the start and the end of a build; Ctrl-C or SIGTERM stops it at its next step.

    An exception in a library's callback would end the program. So the signal only tells the builder to stop, and
    KeyboardInterrupt is raised here once it has stopped. A thread gets no signals: in one, the end of the program
    stops the build, and waits for it.

    Args:
        what: The engine, in words.
    """
    watch, ended = Watch(what), threading.Event()

    def stop() -> None:
        watch.stopped = True

    def stop_and_wait() -> None:
        watch.stopped = True
        ended.wait()

    _log.warning("building %s, this first time only", what)
    with ExitStack() as after:
        after.enter_context(interrupting(stop))
        if threading.current_thread() is not threading.main_thread():
            atexit.register(stop_and_wait)
            after.callback(ended.set)
            after.callback(atexit.unregister, stop_and_wait)
        yield watch
    if watch.stopped:
        raise KeyboardInterrupt
    _log.warning("built in %.1f s", watch.seconds)
