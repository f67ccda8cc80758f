"""Moments of a video, and their names."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from ..stream import Source

if TYPE_CHECKING:
    from pathlib import Path

    from ..frames import Frame


def moments(source: str | Path, count: int) -> list[Fraction | None]:
    """``count`` moments spread evenly over a video, in seconds; [None] for an image, or if the length is unknown."""
    probe = Source(source)
    duration, frames = probe.container.duration, probe.expected_frames
    probe.close()
    if not duration or not frames or frames == 1:
        return [None]
    count = min(count, frames)
    return [Fraction(duration, 1_000_000) * (2 * index + 1) / (2 * count) for index in range(count)]


def clock(source: Source, frame: Frame) -> str:
    """The time of a frame from the beginning of the source, as 0:01:02.345."""
    time = frame.pts * frame.time_base + source.shift - Fraction(source.container.start_time or 0, 1_000_000)
    minutes, seconds = divmod(max(Fraction(0), time), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{float(seconds):06.3f}"
