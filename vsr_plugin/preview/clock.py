"""Which frames there is time for, and when they are due. Nothing here waits, and nothing knows of threads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_HABIT = 0.2  # weight of the latest picture in what a picture is expected to cost
_PATIENCE = 1.0  # seconds that frames may be late before time waits for them


class Clock:
    """Plays a clip at its own timestamps.

    A frame is left out when its picture would only be ready after the next frame is due: pictures are then as evenly
    spaced as their cost allows, and never later than a frame and a picture take. Where even leaving out does not help,
    since decoding alone is too slow, time waits, and pictures go on.

    Attributes:
        cost: Seconds that a picture is expected to take, from the decoded frame on.
        dropped: Frames left out so far.

    Args:
        now: Seconds of a clock that only moves forward.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.cost = 0.0
        self.dropped = 0
        self._now = now
        self._zero: float | None = None  # when position 0 would have been shown

    def stop(self) -> None:
        """Forget the time: the next picture is due when it is there. After a jump, a pause, and for another network."""
        self._zero = None
        self.cost = 0.0

    def due(self, position: float) -> float:
        """When to show what belongs at ``position`` seconds of the clip, asked when it is there.

        The first picture is due at once, and starts the time.
        """
        now = self._now()
        if self._zero is None or now > self._zero + position + self._patience:
            self._zero = now - position
        return self._zero + position

    def has_time_for(self, position: float, duration: float) -> bool:
        """Whether a frame's picture would be ready before the next frame is due; counts it as dropped if not.

        Args:
            position: Of the frame, in seconds of the clip.
            duration: Until the next frame, in seconds.
        """
        zero, now = self._zero, self._now()
        if zero is None or duration <= 0:
            return True
        if now + self.cost <= zero + position + duration or now > zero + position + self._patience:
            return True
        self.dropped += 1
        return False

    @property
    def _patience(self) -> float:
        """Seconds that a picture may be late before time waits for it: its own cost is no reason to."""
        return _PATIENCE + 2 * self.cost

    def spent(self, seconds: float) -> None:
        """Learn what a picture cost; the first one after `stop`, which may have compiled a network, does not count."""
        if self._zero is not None:
            self.cost = seconds if self.cost == 0 else self.cost + _HABIT * (seconds - self.cost)
