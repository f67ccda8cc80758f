"""`FirstFrame`: what the first frame of a film decides for all others, for an output states it once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

    import av

    from .color import Reading


@dataclass(slots=True)
class FirstFrame:
    """What the first frame decides; None of each until there is one.

    Attributes:
        size: Width and height in pixels, whatever the header says.
        ratio: Width : height of a pixel, as the decoder states it; the first one that it does state.
        flagged: Whether it is flagged as interlaced.
        reading: How its samples are read.
        assumed: What of that nothing says, in words: ``BT.601``, ``limited range``.
    """

    size: tuple[int, int] | None = None
    ratio: Fraction | None = None
    flagged: bool | None = None
    reading: Reading | None = None
    assumed: tuple[str, ...] = ()

    def changes(self, frame: av.VideoFrame, ratio: Fraction | None) -> str | None:
        """Take what is not decided yet from a decoded frame; what of it differs from what is, in words.

        Args:
            frame: The frame.
            ratio: Of its pixels, as the decoder states it.
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
