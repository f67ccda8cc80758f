"""Which frames there is time for, and when they are due. Nothing here waits, and nothing knows of threads."""

from __future__ import annotations

from dataclasses import dataclass, replace

_HABIT = 0.2  # weight of the latest frame in what a frame is expected to cost
_PATIENCE = 1.0  # seconds that frames may be late before time waits for them


@dataclass(frozen=True, slots=True)
class Clock:
    """Plays a clip at its own timestamps.

    A frame is dropped when it would only be ready after the next one is due: frames are then as evenly spaced as their
    cost allows, and never later than one frame and its cost. Where even dropping does not help, since decoding alone is
    too slow, time waits, and frames go on.

    Attributes:
        zero: When position 0 would have been displayed; None while time stands still.
        cost: Seconds that a frame is expected to take, from the decoded frame on.
    """

    zero: float | None = None
    cost: float = 0.0

    def due(self, position: float, now: float) -> float:
        """When to display what belongs at ``position`` seconds of the clip and is ready now."""
        return now if self.zero is None or self._is_too_late(position, now) else self.zero + position

    def started(self, position: float, now: float) -> Clock:
        """The clock after a frame was displayed: the first one starts it, one that is far too late sets it back."""
        return replace(self, zero=self.due(position, now) - position)

    def has_time_for(self, position: float, duration: float, now: float) -> bool:
        """Whether a frame would be ready before the next one is due.

        Args:
            position: Of the frame, in seconds of the clip.
            duration: Until the next frame, in seconds.
            now: When it is decoded.
        """
        if self.zero is None or duration <= 0 or self._is_too_late(position, now):
            return True
        return now + self.cost <= self.zero + position + duration

    def spent(self, seconds: float) -> Clock:
        """Learn what a frame cost; the first one, which may have compiled a network, does not count."""
        if self.zero is None:
            return self
        return replace(self, cost=seconds if self.cost == 0 else self.cost + _HABIT * (seconds - self.cost))

    def _is_too_late(self, position: float, now: float) -> bool:
        """Whether time waits; a frame's own cost is no reason to."""
        return self.zero is not None and now > self.zero + position + _PATIENCE + 2 * self.cost
