"""What the commands say while they work: all of it on stderr, for stdout may be a video."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
import unicodedata
from contextlib import contextmanager
from types import EllipsisType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..errors import OutputError, VsrError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..stream import Progress as Done

_SECONDS_BETWEEN_LINES = 5.0
_PATIENCE = 2.0  # seconds that something may take without a word where nobody sees a spinner
# What the library calls otherwise; ``start`` is that of a training.
_FLAGS = {"output": "-o", "pixel_format": "--pix-fmt", "start": "--from"}

_DIRECTIONS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
console = Console(stderr=True, highlight=False, soft_wrap=True)


def speak(*, quiet: bool, verbose: bool, once: bool = False) -> None:
    """Send the package's log to stderr: what was assumed and dropped. FFmpeg's own lines are among ``verbose`` ones.

    Args:
        quiet: Errors only.
        verbose: Everything.
        once: Nothing twice, where a file is opened again and again.
    """
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO
    logger = logging.getLogger("vsr_plugin")
    logger.setLevel(level)
    if not logger.handlers:
        handler = _AboveTheBar()
        if once:
            handler.addFilter(_Once())
        logger.addHandler(handler)
        theirs = logging.getLogger("libav")  # where PyAV sends what FFmpeg says while another thread listens to it
        theirs.propagate = False
        theirs.addHandler(handler if verbose else logging.NullHandler())


def printable(text: str) -> str:
    """``text`` with what a terminal would obey written out: control characters, marks of direction, half characters."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _DIRECTIONS
        else character
        for character in text
    )


def say_error(error: Exception) -> None:
    """One line on stderr, and a traceback if everything is to be said."""
    if isinstance(error, VsrError):
        line = error.told(remedy)
    else:
        line = f"Unexpected {type(error).__name__}: {error} (--verbose shows where; please report it)"
    if logging.getLogger("vsr_plugin").isEnabledFor(logging.DEBUG):
        traceback.print_exception(error)
    print(f"Error: {printable(line)}", file=sys.stderr)  # noqa: T201 - the command line's own voice


def remedy(name: str, value: object) -> str:
    """What the command line calls an argument of the library that would help."""
    if name == "overwrite":
        return "add -y to overwrite it"
    if name == "weights":
        return f"use your own with --weights {value}, or make some with `vsr train`"
    flag = _FLAGS.get(name, f"--{name.replace('_', '-')}")
    if value is None:
        return f"leave {flag} out"
    if isinstance(value, EllipsisType):
        return f"use another {flag}"
    return f"use {flag}" if value is True else f"use {flag} {value}"


def say_result(line: str) -> None:
    """One line on stdout.

    Raises:
        OutputError: stdout is closed, or takes no more.
    """
    if sys.stdout is None:
        raise OutputError("Cannot write to standard output: it is closed")
    try:
        print(line, flush=True)  # noqa: T201
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer is lost in silence
        raise OutputError(f"Cannot write to standard output: {error.strerror}") from error


class _Once(logging.Filter):
    """Passes every line once."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        line = record.getMessage()
        new = line not in self._passed
        self._passed.add(line)
        return new


class _AboveTheBar(logging.Handler):
    """Log lines on the console, which keeps a progress bar below them."""

    def emit(self, record: logging.LogRecord) -> None:
        console.print(printable(self.format(record)), markup=False)


@contextmanager
def waiting(what: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Say what is going on: at once on a terminal, which shows that it goes on; elsewhere a line if it takes long.

    Args:
        what: In words.
        quiet: Say nothing.

    Yields:
        What takes other words, once something else is going on.
    """
    if quiet:
        yield lambda _: None
    elif console.is_terminal and not console.is_dumb_terminal:
        with console.status(escape(printable(what))) as status:
            yield lambda then: status.update(escape(printable(then)))
    else:
        line = _Late(what)
        try:
            yield line.say
        finally:
            line.cancel()


class _Late:
    """A line that is said after a while, unless something else is to be said by then."""

    def __init__(self, what: str) -> None:
        self._timer: threading.Timer | None = None
        self.say(what)

    def say(self, what: str) -> None:
        self.cancel()
        self._timer = threading.Timer(_PATIENCE, console.print, [f"{printable(what)} …"], {"markup": False})
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


@contextmanager
def progress(label: str, *, quiet: bool) -> Iterator[Callable[[Done], None]]:
    """A bar on a terminal, a plain line every few seconds elsewhere, nothing if ``quiet``."""
    label = printable(label)
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        with _bar() as bar:
            task = bar.add_task(label, total=None, fps="", size="", workers="")

            def show(done: Done) -> None:
                if not bar.tasks[0].completed and done.kept:  # what was there is no speed
                    bar.reset(task, completed=done.kept)
                elapsed = bar.tasks[0].elapsed or 0.0
                bar.update(
                    task,
                    completed=done.written.frames,
                    total=_total(done),
                    fps=f"{(done.written.frames - done.kept) / elapsed:.1f} fps" if elapsed else "",
                    size=_megabytes(done.written.size),
                    workers=_workers(done),
                )

            yield show
    else:
        yield _Lines(label).show


class _Lines:
    """Progress where nobody sees a bar move: a log file, a pipe."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._began = self._said = time.monotonic()

    def show(self, done: Done) -> None:
        now = time.monotonic()
        if now - self._said < _SECONDS_BETWEEN_LINES:
            return
        self._said = now
        frames, total = done.written.frames, _total(done)
        fps = (frames - done.kept) / (now - self._began)
        left = f", {(total - frames) / fps:.0f} s left" if total and fps else ""
        of = f"{frames} of {total}" if total else f"{frames}"
        others = f", {_workers(done)}" if _workers(done) else ""
        console.print(
            f"{self._label}: {of} frames{left}, {fps:.1f} fps, {_megabytes(done.written.size)}{others}", markup=False
        )


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[fps]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[size]}"),
        TextColumn("{task.fields[workers]}"),
        console=console,
        transient=True,
    )


def _total(done: Done) -> int | None:
    expected = done.expected_frames
    return None if expected is None else max(expected, done.written.frames)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _workers(done: Done) -> str:
    return f"{done.workers} workers" if done.workers > 1 else ""
