"""Which frames there is time for, and when they are due. Nothing here waits or uses threads."""

from __future__ import annotations

from dataclasses import dataclass, replace

_HABIT = 0.2  # weight of the latest frame in the expected cost
_PATIENCE = 1.0  # seconds that frames may be late before the clock waits for them


@dataclass(frozen=True, slots=True)
class Clock:
    """Plays a clip at its own timestamps.

    A frame is dropped if it would be ready only after the next one is due. Frames are then as evenly spaced as their
    cost allows, and never later than one frame and its cost. If dropping does not help, because decoding alone is too
    slow, the clock waits for the frames.

    Attributes:
        zero: When position 0 would have been displayed; None while the clock is stopped.
        cost: Seconds that a frame is expected to take after it is decoded.
    """

    zero: float | None = None
    cost: float = 0.0

    def due(self, position: float, now: float) -> float:
        """When to display a frame at ``position`` seconds of the clip that is ready now."""
        return now if self.zero is None or self._is_too_late(position, now) else self.zero + position

    def started(self, position: float, now: float) -> Clock:
        """The clock after a frame was displayed: the first one starts it, one that is far too late sets it back."""
        return replace(self, zero=self.due(position, now) - position)

    def has_time_for(self, position: float, duration: float, now: float) -> bool:
        """Whether a frame would be ready before the next one is due.

        Args:
            position: Position of the frame, in seconds of the clip.
            duration: Seconds until the next frame.
            now: When the frame was decoded.
        """
        if self.zero is None or duration <= 0 or self._is_too_late(position, now):
            return True
        return now + self.cost <= self.zero + position + duration

    def spent(self, seconds: float) -> Clock:
        """Update the expected cost with a frame's; the first one, which may have compiled a network, does not count."""
        if self.zero is None:
            return self
        return replace(self, cost=seconds if self.cost == 0 else self.cost + _HABIT * (seconds - self.cost))

    def _is_too_late(self, position: float, now: float) -> bool:
        """Whether the clock waits for a frame; the time that the frame costs does not make it too late."""
        return self.zero is not None and now > self.zero + position + _PATIENCE + 2 * self.cost
