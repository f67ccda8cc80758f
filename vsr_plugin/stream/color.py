"""`read_color`: what a picture's tags say of its samples, and the one rule for what they do not say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..frames import ChromaLocation, ColorSpec, Matrix, Range
from .layout import layout

if TYPE_CHECKING:
    import av

_CHROMA_LOCATIONS = dict(enumerate(ChromaLocation, 1))  # AVChromaLocation counts in the order of our enumeration


def read_color(picture: av.VideoFrame) -> tuple[ColorSpec, list[str]]:
    """How to read the picture's samples, and what had to be assumed because nothing in the file says it.

    Untagged YUV is BT.709 when at least 1280 wide or more than 576 high, else BT.601; its range is limited, RGB's and
    gray's full; its chroma sits left, as MPEG's does.
    """
    form = layout(picture.format.name)
    assert form is not None
    guesses = []
    gray = len(form.components) <= 2
    try:
        matrix = Matrix(picture.colorspace)
    except ValueError:
        matrix = Matrix.UNSPECIFIED
    if form.is_rgb:
        matrix = Matrix.RGB
    elif matrix in (Matrix.UNSPECIFIED, Matrix.RGB):
        high_definition = picture.width >= 1280 or picture.height > 576
        matrix = Matrix.BT709 if high_definition else Matrix.SMPTE170M
        if not gray:
            guesses.append("BT.709" if high_definition else "BT.601")
    if picture.color_range in (1, 2):
        color_range = Range.LIMITED if picture.color_range == 1 else Range.FULL
    else:
        color_range = Range.FULL if form.is_rgb or form.full_range or gray else Range.LIMITED
        if not (form.is_rgb or form.full_range):
            guesses.append(f"{color_range.value} range")
    color = ColorSpec(
        matrix=matrix,
        range=color_range,
        depth=form.depth,
        subsampling=form.subsampling,
        chroma_location=_CHROMA_LOCATIONS.get(picture.chroma_location, ChromaLocation.LEFT),
        primaries=picture.color_primaries,
        transfer=picture.color_trc,
    )
    return color, guesses
