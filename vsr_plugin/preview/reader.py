"""Decode ahead of what is shown.

Unlike `stream.buffered`, `Reader` stops decoding when the viewer seeks, and keeps only the newest frame of a camera.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING

from .stages import DecodedFrame

if TYPE_CHECKING:
    from . import Clip

_AHEAD = 2  # frames
_SILENT = 1.0  # seconds to wait for a source to close


class Reader:
    """Decodes ahead in a thread of its own; of a camera, only the newest frame is kept.

    Attributes:
        missed: Frames that were replaced by a newer one.

    Args:
        clip: The clip to read.
        position: Where to begin, in seconds: at the frame displayed there.
        changed: Guards the reader's state, and is notified when it changes.
    """

    def __init__(self, clip: Clip, position: float, changed: threading.Condition) -> None:
        self.missed = 0
        self._changed, self._live = changed, clip.live
        self._decoded: deque[DecodedFrame] = deque()
        self._error: BaseException | None = None
        self._done = self._closed = False
        self._frames = clip.frames(position, lambda: self._closed)
        self._thread = threading.Thread(target=self._work, name="vsr preview reader", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether there is something to take: a frame, an error or the end."""
        return bool(self._decoded) or self._done

    @property
    def ended(self) -> bool:
        """Whether there is no further frame."""
        return self._done and not self._decoded and self._error is None

    def take(self) -> DecodedFrame | None:
        """The next frame; None at the end."""
        with self._changed:
            if self._decoded:
                self._changed.notify_all()
                return self._decoded.popleft()
            if self._error is not None:
                raise self._error
            return None

    def close(self) -> None:
        """Close the clip; if no frame comes for now, the thread ends with the next one."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(_SILENT)

    def _work(self) -> None:
        try:
            with closing(self._frames):
                began = time.perf_counter()
                for frame, position in self._frames:
                    if not self._keep(DecodedFrame(frame, position, time.perf_counter() - began)):
                        return
                    began = time.perf_counter()
        except BaseException as error:  # noqa: BLE001 - `take` raises it
            self._error = error
        finally:
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def _keep(self, item: DecodedFrame) -> bool:
        with self._changed:
            if self._live:
                self.missed += len(self._decoded)
                self._decoded.clear()
            self._changed.wait_for(lambda: self._closed or len(self._decoded) < _AHEAD)
            self._decoded.append(item)
            self._changed.notify_all()
            return not self._closed
