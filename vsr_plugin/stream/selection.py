"""`Selection`: which frames of a source are taken, and how they are decoded."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ..errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which frames of a source are taken, and how they are decoded; by default all of them, as they are.

    Times and the rate may be given as any number; they are kept as fractions.

    Attributes:
        start: Where to begin, in seconds from the beginning of the file; the output then counts time from 0.
        duration: How many seconds to take.
        frames: How many frames to take at most.
        frame_rate: Of image sequences and of streams without timestamps.
        deinterlace: Make one frame of every two fields (bwdif); without it interlaced input is refused.
        hwaccel: Decode on this kind of device (``cuda``) where it can, in software where it cannot.

    Raises:
        UsageError: a value out of its range.
    """

    start: Fraction | None = None
    duration: Fraction | None = None
    frames: int | None = None
    frame_rate: Fraction | None = None
    deinterlace: bool = False
    hwaccel: str | None = None

    def __post_init__(self) -> None:
        for name in ("start", "duration", "frame_rate"):
            value = getattr(self, name)
            if value is None:
                continue
            try:
                value = Fraction(value)
            except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
                raise UsageError(f"Expected {name} to be a number, got {value!r}") from error
            if value < 0 or (name == "frame_rate" and value == 0):
                least = "above 0" if name == "frame_rate" else "of 0 or more"
                raise UsageError(f"Expected {name} to be a number {least}, got {value}")
            object.__setattr__(self, name, value)
        if self.frames is not None and self.frames < 1:
            raise UsageError(f"Expected frames to be 1 or more, got {self.frames}")
