"""How a frame's samples are read: from its tags, by one rule where tags are missing, and when tags change midway."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from av.video.reformatter import ColorPrimaries, ColorTrc

from ..errors import UsageError
from ..frames import ChromaLocation, ColorSpec, Frame, Matrix, Range
from .layout import layout

if TYPE_CHECKING:
    import av

# Codes of H.273, 2 (unspecified) among them, that may be exchanged without a visible change of SDR video.
_SDR_PRIMARIES = {1, 2, 5, 6, 7}
_SDR_TRANSFERS = {1, 2, 6, 7, 14, 15}
_CHROMA_LOCATIONS = dict(enumerate(ChromaLocation, 1))  # AVChromaLocation counts in the order of our enumeration


def read_color(
    frame: av.VideoFrame, matrix: Matrix | None = None, color_range: Range | None = None
) -> tuple[ColorSpec, list[str]]:
    """Return how to read the frame's samples, and what was assumed because the file has no tag for it.

    Untagged YUV is BT.709 if it is at least 1280 wide or more than 576 high, else BT.601; its range is limited, that of
    RGB and gray full; its chroma location is left, as in MPEG.

    Args:
        frame: The decoded frame.
        matrix: YUV matrix to use instead of the file's.
        color_range: Range to use instead of the file's.

    Raises:
        UsageError: ``matrix`` is given for RGB.
    """
    form = layout(frame.format.name)
    assert form is not None
    guesses = []
    gray = len(form.components) <= 2
    if form.is_rgb:
        if matrix is not None:
            raise UsageError("Expected YUV for a matrix, got RGB", matrix=None)
        matrix = Matrix.RGB
    elif matrix is None:
        try:
            matrix = Matrix(frame.colorspace)
        except ValueError:
            matrix = Matrix.UNSPECIFIED
    if not form.is_rgb and matrix in (Matrix.UNSPECIFIED, Matrix.RGB):
        high_definition = frame.width >= 1280 or frame.height > 576
        matrix = Matrix.BT709 if high_definition else Matrix.SMPTE170M
        if not gray:
            guesses.append("BT.709" if high_definition else "BT.601")
    if color_range is None and frame.color_range in (1, 2):
        color_range = Range.LIMITED if frame.color_range == 1 else Range.FULL
    elif color_range is None:
        color_range = Range.FULL if form.is_rgb or form.full_range or gray else Range.LIMITED
        if not (form.is_rgb or form.full_range):
            guesses.append(f"{color_range.value} range")
    color = ColorSpec(
        matrix=matrix,
        range=color_range,
        depth=form.depth,
        subsampling=form.subsampling,
        chroma_location=_CHROMA_LOCATIONS.get(frame.chroma_location, ChromaLocation.LEFT),
        primaries=frame.color_primaries,
        transfer=frame.color_trc,
    )
    return color, guesses


@dataclass(frozen=True, slots=True)
class Reading:
    """How the first frame of a film is read. A header can state only this, so later frames are converted to it.

    Attributes:
        color: Color of the first frame.
        planes: Number of its planes.
    """

    color: ColorSpec
    planes: int

    def changes(self, frame: Frame) -> list[str]:
        """Describe how ``frame`` differs from the first one; empty if it does not."""
        old, new = self.color, frame.color
        if old == new and self.planes == len(frame.planes):
            return []
        pairs = {
            "components": (self.planes, len(frame.planes)),
            "bits": (old.depth, new.depth),
            "subsampling": (_scheme(old), _scheme(new)),
            "matrix": (old.matrix.name, new.matrix.name),
            "range": (old.range.value, new.range.value),
            "chroma location": (old.chroma_location.name, new.chroma_location.name),
            "primaries": (_name(ColorPrimaries, old.primaries), _name(ColorPrimaries, new.primaries)),
            "transfer": (_name(ColorTrc, old.transfer), _name(ColorTrc, new.transfer)),
        }
        return [f"{what} from {before} to {after}" for what, (before, after) in pairs.items() if before != after]

    def store(self, frame: Frame) -> Frame:
        """Convert ``frame`` to the format of the first one, which must not change its colors.

        Raises:
            UsageError: the primaries, the transfer or the components differ, or the depth of a frame with alpha.
        """
        old, new = self.color, frame.color
        if len(frame.planes) != self.planes or (self.planes in (2, 4) and old.depth != new.depth):
            raise UsageError("Expected the same components in all frames")
        if not _alike(old.primaries, new.primaries, _SDR_PRIMARIES) or not _alike(
            old.transfer, new.transfer, _SDR_TRANSFERS
        ):
            raise UsageError("Expected the same primaries and transfer in all frames")
        if replace(new, primaries=old.primaries, transfer=old.transfer) == old:
            return replace(frame, color=old)
        from ..color import convert  # this loads torch

        if frame.is_gray:  # converted as RGB with three equal components
            gray, target = (replace(color, matrix=Matrix.RGB, subsampling=(0, 0)) for color in (new, old))
            planes = (convert((frame.planes[0],) * 3, gray, target)[0], *frame.planes[1:])
        else:
            planes = (*convert(frame.planes[:3], new, old), *frame.planes[3:])
        return replace(frame, planes=planes, color=old)


def _alike(old: int, new: int, sdr: set[int]) -> bool:
    return old == new or {old, new} <= sdr


def _scheme(color: ColorSpec) -> str:
    return "RGB" if color.matrix is Matrix.RGB else "×".join(str(1 << log2) for log2 in color.subsampling)


def _name(kind: type[ColorPrimaries | ColorTrc], code: int) -> str:
    try:
        return kind(code).name
    except ValueError:
        return str(code)
