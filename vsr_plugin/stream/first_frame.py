"""`FirstFrame`: properties of the first frame that apply to the whole film, because an output states them once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

    import av

    from .color import Reading


@dataclass(slots=True)
class FirstFrame:
    """Properties of the first frame; each is None until it is known.

    Attributes:
        size: Decoded width and height in pixels, which the header may state otherwise.
        ratio: Width : height of a pixel; the first ratio that the decoder states.
        flagged: Whether the frame is flagged as interlaced.
        reading: How its samples are read.
        assumed: What was assumed because the file has no tag for it: ``BT.601``, ``limited range``.
    """

    size: tuple[int, int] | None = None
    ratio: Fraction | None = None
    flagged: bool | None = None
    reading: Reading | None = None
    assumed: tuple[str, ...] = ()

    def changes(self, frame: av.VideoFrame, ratio: Fraction | None) -> str | None:
        """Set unknown properties from a decoded frame, and describe a change of its size or ratio; None if none.

        Args:
            frame: The frame.
            ratio: Width : height of its pixels, as the decoder states it.
        """
        size = (frame.width, frame.height)
        self.size = self.size or size
        self.ratio = self.ratio or ratio
        if self.flagged is None:
            self.flagged = bool(frame.interlaced_frame)
        if size != self.size:
            return f"size from {_by(self.size)} to {_by(size)}"
        if ratio and ratio != self.ratio:
            assert self.ratio is not None
            old, new = (f"{value.numerator}:{value.denominator}" for value in (self.ratio, ratio))
            return f"pixel aspect ratio from {old} to {new}"
        return None


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
