"""Watching an engine being built: what is done and for how long is said, and Ctrl-C stops it."""

from __future__ import annotations

import atexit
import logging
import signal
import threading
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 5.0


class Watch:
    """What a builder reports to; any thread may report.

    Lines are warnings, for a build may take minutes: who has set up no logging, in a script or under vspipe, should
    see why nothing moves.

    Args:
        what: Is built, in words.

    Attributes:
        stopped: Whether the builder is asked to stop.
    """

    def __init__(self, what: str) -> None:
        self.stopped = False
        self._what = what
        self._phases: dict[str, tuple[int, int]] = {}  # name → (steps done, of), outermost first
        self._began = self._said = monotonic()

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return monotonic() - self._began

    def start(self, phase: str, steps: int) -> None:
        """A phase begins, inside the one before."""
        self._phases[phase] = (0, steps)
        self._speak()

    def step(self, phase: str, step: int) -> bool:
        """A step of a phase is done; False asks the builder to stop."""
        _, steps = self._phases.get(phase, (0, 0))
        self._phases[phase] = (step + 1, steps)
        self._speak()
        return not self.stopped

    def finish(self, phase: str) -> None:
        """A phase ends."""
        self._phases.pop(phase, None)

    def _speak(self) -> None:
        now = monotonic()
        if now - self._said < _SECONDS_BETWEEN_LINES:
            return
        self._said = now
        phases = ", ".join(f"{name.lower()} {done}/{steps}" for name, (done, steps) in list(self._phases.items())[-2:])
        _log.warning("still building %s after %.0f s: %s", self._what, self.seconds, phases)


@contextmanager
def watched(what: str) -> Iterator[Watch]:
    """Say that a build begins and ends; Ctrl-C, or being ended, stops it at its next step.

    While a library's own code runs, an exception thrown into its callbacks would end the program: the signal only
    asks the builder to stop, and KeyboardInterrupt is raised here, when it has. In a daemon thread, which hears no
    signals, the end of the program does the same, and waits for it.

    Args:
        what: Is built, in words.
    """
    watch = Watch(what)
    _log.warning("building %s, this first time only", what)
    with _signals_to(watch) if threading.current_thread() is threading.main_thread() else _exit_after(watch):
        yield watch
    if watch.stopped:
        raise KeyboardInterrupt
    _log.warning("built in %.1f s", watch.seconds)


@contextmanager
def _signals_to(watch: Watch) -> Iterator[None]:
    def stop(*_: Any) -> None:
        watch.stopped = True

    numbers = (signal.SIGINT, signal.SIGTERM)
    theirs = {n: signal.signal(n, stop) for n in numbers if signal.getsignal(n) is signal.default_int_handler}
    try:
        yield
    finally:
        for number, handler in theirs.items():
            signal.signal(number, handler)


@contextmanager
def _exit_after(watch: Watch) -> Iterator[None]:
    ended = threading.Event()

    def stop() -> None:
        watch.stopped = True
        ended.wait()

    atexit.register(stop)
    try:
        yield
    finally:
        atexit.unregister(stop)
        ended.set()
