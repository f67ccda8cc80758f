"""`Turn`: applies a display matrix to the pixels, for outputs that cannot store it."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..frames import ChromaLocation

if TYPE_CHECKING:
    from fractions import Fraction

    from ..frames import Frame, Samples

_ONE = 1 << 16
# Exif 3.0, section 4.6.5, tag 274: (a, b, c, d) of the display matrix, in units of one.
_EXIF = {
    2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1), 5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Turn:
    """A rotation by right angles, with or without a flip.

    Attributes:
        transposed: Whether rows become columns; this comes before any flip.
        mirrored: Whether left becomes right.
        upended: Whether top becomes bottom.
    """

    transposed: bool
    mirrored: bool
    upended: bool

    @classmethod
    def parse(cls, matrix: bytes) -> Turn | None:
        """Read the 9 numbers of a display matrix (ISO/IEC 14496-12, section 8.3.2); None if it is another transform."""
        a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
        if (abs(a), b, c, abs(d)) == (_ONE, 0, 0, _ONE):
            return cls(transposed=False, mirrored=a < 0, upended=d < 0)
        if (a, abs(b), abs(c), d) == (0, _ONE, _ONE, 0):
            return cls(transposed=True, mirrored=c < 0, upended=b < 0)
        return None

    def __bool__(self) -> bool:
        return self.transposed or self.mirrored or self.upended

    def __call__(self, frame: Frame) -> Frame:
        """Turn and flip a frame for display.

        Subsampled chroma is first resampled to the center of its block, which stays the center; to 4:4:4 if the last
        block is incomplete, or if the turned subsampling has no name.
        """
        color = frame.color
        if any(color.subsampling):
            horizontal, vertical = color.subsampling
            whole = not (frame.width % (1 << horizontal) or frame.height % (1 << vertical))
            named = not (self.transposed and color.subsampling == (2, 0))
            subsampling = color.subsampling if whole and named else (0, 0)
            middle = replace(color, subsampling=subsampling, chroma_location=ChromaLocation.CENTER)
            if middle != color:
                from ..color import convert  # this loads torch

                planes = (*convert(frame.planes[:3], color, middle), *frame.planes[3:])
                frame = replace(frame, planes=planes, color=middle)
            color = replace(middle, subsampling=subsampling[::-1]) if self.transposed else middle
        return replace(frame, planes=tuple(self._turned(plane) for plane in frame.planes), color=color)

    def _turned(self, plane: Samples) -> Samples:
        if self.transposed:
            plane = plane.T
        return plane[:: -1 if self.upended else 1, :: -1 if self.mirrored else 1]


def exif_matrix(orientation: int) -> bytes | None:
    """The display matrix equivalent to an Exif orientation; None for 1 (as stored) and for invalid values."""
    if orientation not in _EXIF:
        return None
    a, b, c, d = (value * _ONE for value in _EXIF[orientation])
    return struct.pack("=9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)


def scaled(matrix: bytes, scale: Fraction) -> bytes:
    """Adapt a display matrix to a frame that is ``scale`` times as large: only its translation is in pixels."""
    numbers = list(struct.unpack("=9i", matrix))
    numbers[6:8] = [round(value * scale) for value in numbers[6:8]]
    return struct.pack("=9i", *numbers)
