"""Raises KeyboardInterrupt only where it is safe."""

from __future__ import annotations

import _thread
import _weakrefset
import signal
import sys
import threading
import weakref
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

leave: Callable[[], None] | None = None
"""Ends a program that is interrupted while it imports torch, which takes seconds; by default the import ends first."""

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
_LATER = 0.05  # seconds
_LOCKING = {threading.Condition.__enter__.__code__, threading.Condition.__exit__.__code__}
_IGNORING = {weakref.__file__, _weakrefset.__file__}


def interrupt(number: int, frame: FrameType | None) -> None:
    """A signal handler like `signal.default_int_handler`, which first lets code finish that must not be cut short.

    An import: torch imports numpy from C and drops exceptions raised there, so the program would go on with half of
    numpy. Code that has just taken a lock, and has not yet entered the block that releases it: other threads would wait
    for ever. And code that runs when an object is freed, where Python drops exceptions.
    """
    frames = list(_callers(frame))
    if leave is not None and any(
        each.f_code.co_name == "<module>" and each.f_globals.get("__name__") == "torch" for each in frames
    ):
        leave()
    if (frames and frames[0].f_code in _LOCKING) or any(_drops(each) for each in frames):
        with suppress(RuntimeError):  # the program ends already, and starts no thread any more
            threading.Timer(_LATER, _send, (number,)).start()
            return
    raise KeyboardInterrupt


def _send(number: int) -> None:
    """Send a signal to the main thread, which may wait in the meantime: only a real signal wakes it."""
    thread = threading.main_thread().ident
    if sys.platform == "win32" or thread is None:
        _thread.interrupt_main(signal.Signals(number))
    else:
        signal.pthread_kill(thread, number)


@contextmanager
def interrupting(stop: Callable[[], object]) -> Iterator[None]:
    """Inside the block, signals that would raise KeyboardInterrupt call ``stop`` instead; in the main thread only.

    For code that an exception must not leave at any line, such as an asyncio loop or a library with callbacks.
    """
    with ExitStack() as after:
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)):
                if signal.getsignal(number) in (signal.default_int_handler, interrupt):
                    after.callback(signal.signal, number, signal.signal(number, lambda *_: stop()))
        yield


def _drops(frame: FrameType) -> bool:
    """Whether an exception that is raised below this stack frame may get lost."""
    name, file = frame.f_code.co_name, frame.f_code.co_filename
    return file.startswith("<frozen importlib.") or name == "__del__" or file in _IGNORING


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
