"""Decoding ahead of what is shown.

No `stream.buffered`: who waits here waits for a jump or another network, too; a jump gives up what is being decoded;
and of a camera only the newest frame counts.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..frames import Frame
    from . import Clip

    type Found = tuple[Frame, float, float]  # a frame, its position, and the seconds that it took

_AHEAD = 2  # frames
_SILENT = 1.0  # seconds to wait for a source to close


class Reader:
    """Frames that a thread of its own decodes ahead; of what is live, the newest alone is kept.

    Attributes:
        missed: Frames that a newer one has pushed out.

    Args:
        clip: What is read.
        position: From the frame on that is seen there, in seconds.
        changed: Guards everything here, and hears of it.
    """

    def __init__(self, clip: Clip, position: float, changed: threading.Condition) -> None:
        self.missed = 0
        self._changed, self._live = changed, clip.live
        self._found: deque[Found] = deque()
        self._error: BaseException | None = None
        self._done = self._closed = False
        self._frames = clip.frames(position, lambda: self._closed)
        self._thread = threading.Thread(target=self._work, name="vsr preview reader", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether `take` need not wait."""
        return bool(self._found) or self._done

    @property
    def ended(self) -> bool:
        """Whether there is no further frame."""
        return self._done and not self._found and self._error is None

    def take(self) -> Found | None:
        """The next frame; None at the end."""
        with self._changed:
            if self._found:
                self._changed.notify_all()
                return self._found.popleft()
            if self._error is not None:
                raise self._error
            return None

    def close(self) -> None:
        """Close what is read, unless it is silent: its thread ends with its next frame."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(_SILENT)

    def _work(self) -> None:
        try:
            with closing(self._frames):
                began = time.perf_counter()
                for frame, position in self._frames:
                    if not self._keep((frame, position, time.perf_counter() - began)):
                        return
                    began = time.perf_counter()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to who takes
            self._error = error
        finally:
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def _keep(self, item: Found) -> bool:
        with self._changed:
            if self._live:
                self.missed += len(self._found)
                self._found.clear()
            self._changed.wait_for(lambda: self._closed or len(self._found) < _AHEAD)
            self._found.append(item)
            self._changed.notify_all()
            return not self._closed
