"""What a command shows while it works: a spinner, a bar, an estimate; plain lines without a terminal."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column

from . import terminal
from .stop import clear_if_stopped
from .terminal import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..stream import Progress

_SECONDS_BETWEEN_LINES = 5.0
_LABEL = 28  # columns of a label beside a bar
_PATIENCE = 2.0  # seconds before a line is printed where there is no spinner
_LONG = 60.0  # seconds; for longer jobs, an estimate is printed at the beginning
_SETTLED = 4.0, 12.0  # seconds until the speed is known; and seconds to wait for an estimate of the size
_BYTES = {"MB": 1e6, "GB": 1e9}
_TYPICAL = 50  # packets needed to estimate the size of the others; encoders look as far ahead


class Wait:
    """Shows what is going on: as a spinner on a terminal, elsewhere as a line if it takes long."""

    def __init__(self, *, quiet: bool) -> None:
        console = terminal.console()
        self._quiet = quiet
        self._status = console.status("") if console.is_terminal and not console.is_dumb_terminal else None
        self._timer: threading.Timer | None = None

    def say(self, what: str) -> None:
        """Show something else that is going on."""
        if self._quiet:
            return
        if self._status is not None:
            self._status.update(escape(printable(what)))
            self._status.start()
            clear_if_stopped(self.end)
            return
        self.end()
        line = f"{printable(what)} …"
        self._timer = threading.Timer(_PATIENCE, terminal.console().print, [line], {"markup": False})
        self._timer.daemon = True
        self._timer.start()

    def update(self, what: str) -> None:
        """Change the text on a terminal; elsewhere, the first line is enough."""
        if self._status is not None and not self._quiet:
            self._status.update(escape(printable(what)))

    def end(self) -> None:
        """Stop showing anything; harmless when called again."""
        if self._status is not None:
            self._status.stop()
        if self._timer is not None:
            self._timer.cancel()


@contextmanager
def waiting(what: str, *, quiet: bool = False) -> Iterator[Wait]:
    """Show what is going on: at once as a spinner on a terminal, elsewhere as a line if it takes long.

    Args:
        what: What is going on, in words.
        quiet: Say nothing.
    """
    wait = Wait(quiet=quiet)
    wait.say(what)
    try:
        yield wait
    finally:
        wait.end()


def load_torch() -> None:
    """Load torch, which takes seconds on a busy machine, and show a message."""
    if "torch" not in sys.modules:
        with waiting("loading torch"):
            import_module("torch")


def load_optimizers() -> None:
    """Load what torch would load with its first optimizer, which takes seconds, and show a message.

    In a thread: in the main one, Ctrl-C would have no effect until the import ends.
    """
    with waiting("loading torch"):
        thread = threading.Thread(target=_load, args=("torch._dynamo",), daemon=True)
        thread.start()
        while thread.is_alive():  # a signal just before a wait does not end it: Python 3.12 hears it after the wait
            thread.join(0.1)


def _load(name: str) -> None:
    with suppress(Exception):  # the code that needs it imports it again and reports the error
        import_module(name)


@contextmanager
def progress(label: str, first: str, *, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, a plain line every few seconds elsewhere, nothing if ``quiet``.

    Args:
        label: What is worked on.
        first: What is done before the first frame.
        quiet: Say nothing.
    """
    label = printable(label)
    if quiet:
        yield lambda _: None
        return
    estimate = _Estimate(label)
    if terminal.console().is_terminal:
        short = _shortened(label)
        with _bar() as bar:
            task = bar.add_task(escape(f"{short}: {first}"), total=None, fps="", size="", workers="")

            def show(now: Progress) -> None:
                if not bar.tasks[0].completed and now.kept:  # earlier frames do not count as speed
                    bar.reset(task, completed=now.kept)
                bar.update(
                    task,
                    description=escape(short),
                    completed=now.frame,
                    total=now.total,
                    fps=f"{now.fps:.1f} fps" if now.fps else "",
                    size=_sizes(now),
                    workers=_workers(now),
                )
                estimate.show(now)

            yield show
    else:
        with waiting(f"{label}: {first}") as wait:
            yield _Lines(label, estimate, wait).show


class _Estimate:
    """Prints once, when the speed is known, how long a job will take, if it is a long one."""

    def __init__(self, label: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._label = label
        self._clock = clock
        self._began: float | None = None
        self._said = False

    def show(self, now: Progress) -> None:
        """Take the progress so far."""
        self._began = self._began or self._clock()
        passed = self._clock() - self._began
        expected = _expected_size(now)
        if self._said or passed < _SETTLED[0] or (expected is None and passed < _SETTLED[1]):
            return
        self._said = True
        if now.eta is None or now.eta < _LONG:
            return
        size = "" if expected is None else f"; about {_size(expected)} of video, if all is like the beginning"
        text = f"{self._label}: about {duration(now.eta)} at {now.fps:.1f} fps{size}"
        terminal.console().print(text, markup=False)


class _Lines:
    """Prints progress as lines where a bar cannot move: in a log file or a pipe."""

    def __init__(self, label: str, estimate: _Estimate, wait: Wait) -> None:
        self._label = label
        self._estimate = estimate
        self._wait = wait
        self._said = time.monotonic()

    def show(self, progress: Progress) -> None:
        self._wait.end()
        self._estimate.show(progress)
        now = time.monotonic()
        if now - self._said < _SECONDS_BETWEEN_LINES:
            return
        self._said = now
        left = "" if progress.eta is None else f", {duration(progress.eta)} left"
        of = f"{progress.frame} of {progress.total}" if progress.total else f"{progress.frame}"
        others = f", {_workers(progress)}" if _workers(progress) else ""
        speed = f", {progress.fps:.1f} fps" if progress.fps else ""  # none is known at the first frame
        text = f"{self._label}: {of} frames{left}{speed}, {_sizes(progress)}{others}"
        terminal.console().print(text, markup=False)


def _bar() -> Bar:
    """On a narrow terminal, only the bar itself becomes shorter: it is the only column that may wrap."""
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[fps]}"),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[size]}"),
        TextColumn("{task.fields[workers]}"),
        console=terminal.console(),
        transient=True,
    )


def _shortened(label: str) -> str:
    """A label with its middle left out where it would leave no room for the bar on 80 columns."""
    if cell_len(label) <= _LABEL:
        return label
    begin, end = label[: _LABEL // 2], label[-(_LABEL // 2 - 1) :]
    while cell_len(begin) + 1 + cell_len(end) > _LABEL:  # characters that take two columns
        begin, end = begin[:-1], end[1:]
    return f"{begin}…{end}"


def duration(seconds: float) -> str:
    """40 s, 12 min, 1 h 50 min, 3 days 4 h."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours = round(seconds / 3600)
    return f"{minutes // 60} h {minutes % 60} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


def _expected_size(now: Progress) -> float | None:
    """Bytes of the whole video, judged by those so far; None if these are too few, or the number of frames unknown."""
    encoded = now.written.encoded
    return None if encoded < _TYPICAL or now.total is None else now.written.size * now.total / encoded


def _sizes(now: Progress) -> str:
    """The size written so far, and the expected size of the whole where it is known."""
    expected = _expected_size(now)
    if expected is None:
        return _size(now.written.size)
    number, unit = _size(expected).split()
    return f"{now.written.size / _BYTES[unit]:.1f}/~{number} {unit}"


def _size(size: float) -> str:
    unit = "MB" if size < 1e9 else "GB"
    return f"{size / _BYTES[unit]:.1f} {unit}"


def _workers(now: Progress) -> str:
    return f"{now.workers} workers" if now.workers > 1 else ""
