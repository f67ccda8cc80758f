"""KeyboardInterrupt where it is safe."""

from __future__ import annotations

import _thread
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


def interrupt(number: int, frame: FrameType | None) -> None:
    """A signal handler like `signal.default_int_handler`, but an import is finished first.

    torch imports numpy from C, and drops what is raised there: the program would go on, with half of numpy.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            threading.Timer(0.05, _thread.interrupt_main, (number,)).start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt
