"""KeyboardInterrupt where it is safe."""

from __future__ import annotations

import _thread
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

leave: Callable[[], None] | None = None
"""What ends a program that is interrupted while it loads torch, which takes seconds; by default it is loaded first."""


def interrupt(number: int, frame: FrameType | None) -> None:
    """A signal handler like `signal.default_int_handler`, but an import is finished first.

    torch imports numpy from C, and drops what is raised there: the program would go on, with half of numpy.
    """
    frames = list(_callers(frame))
    if leave is not None and any(
        each.f_code.co_name == "<module>" and each.f_globals.get("__name__") == "torch" for each in frames
    ):
        leave()
    if any(each.f_code.co_filename.startswith("<frozen importlib.") for each in frames):
        threading.Timer(0.05, _thread.interrupt_main, (number,)).start()
    else:
        raise KeyboardInterrupt


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
