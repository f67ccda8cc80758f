"""Where each component is in FFmpeg's pixel formats, and which format can store a frame's samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import av

from ..frames import ChromaLocation, Matrix, Range

if TYPE_CHECKING:
    from ..frames import ColorSpec, Frame

# Formats with several components in one plane, named without their byte order: (plane, offset, step) in samples of each
# component, in the order Y Cb Cr A or R G B A.
_SEMIPLANAR = ((0, 0, 1), (1, 0, 2), (1, 1, 2))
_INTERLEAVED: dict[str, tuple[tuple[int, int, int], ...]] = {
    **dict.fromkeys(("nv12", "nv16", "nv20", "nv24", "p010", "p012", "p016"), _SEMIPLANAR),
    **dict.fromkeys(("p210", "p212", "p216", "p410", "p412", "p416"), _SEMIPLANAR),
    **dict.fromkeys(("nv21", "nv42"), ((0, 0, 1), (1, 1, 2), (1, 0, 2))),
    **dict.fromkeys(("rgb24", "rgb48"), ((0, 0, 3), (0, 1, 3), (0, 2, 3))),
    **dict.fromkeys(("bgr24", "bgr48"), ((0, 2, 3), (0, 1, 3), (0, 0, 3))),
    **dict.fromkeys(("rgba", "rgba64"), ((0, 0, 4), (0, 1, 4), (0, 2, 4), (0, 3, 4))),
    **dict.fromkeys(("bgra", "bgra64"), ((0, 2, 4), (0, 1, 4), (0, 0, 4), (0, 3, 4))),
    "argb": ((0, 1, 4), (0, 2, 4), (0, 3, 4), (0, 0, 4)),
    "abgr": ((0, 3, 4), (0, 2, 4), (0, 1, 4), (0, 0, 4)),
    "rgb0": ((0, 0, 4), (0, 1, 4), (0, 2, 4)),
    "bgr0": ((0, 2, 4), (0, 1, 4), (0, 0, 4)),
    "0rgb": ((0, 1, 4), (0, 2, 4), (0, 3, 4)),
    "0bgr": ((0, 3, 4), (0, 2, 4), (0, 1, 4)),
    **dict.fromkeys(("ya8", "ya16"), ((0, 0, 2), (0, 1, 2))),
    **dict.fromkeys(("ayuv", "ayuv64"), ((0, 1, 4), (0, 2, 4), (0, 3, 4), (0, 0, 4))),
    "uyva": ((0, 1, 4), (0, 0, 4), (0, 2, 4), (0, 3, 4)),
    "vuya": ((0, 2, 4), (0, 1, 4), (0, 0, 4), (0, 3, 4)),
    "yuyv422": ((0, 0, 2), (0, 1, 4), (0, 3, 4)),
    "uyvy422": ((0, 1, 2), (0, 0, 4), (0, 2, 4)),
    "yvyu422": ((0, 0, 2), (0, 3, 4), (0, 1, 4)),
}
# Formats whose samples are in the most significant bits of 16.
_MOST_SIGNIFICANT = ("p010", "p012", "p210", "p212", "p410", "p412")


@dataclass(frozen=True, slots=True)
class Layout:
    """Memory layout of a pixel format.

    Attributes:
        name: FFmpeg's name.
        depth: Significant bits of a sample.
        shift: Zero bits below them.
        subsampling: (log2 horizontal, log2 vertical).
        is_rgb: Whether the components are R G B.
        full_range: Whether the format implies full range (yuvj…).
        components: (plane, offset, step) in samples, in the order of `Frame.planes`.
        big_endian: Whether 16-bit samples are big-endian.
    """

    name: str
    depth: int
    shift: int
    subsampling: tuple[int, int]
    is_rgb: bool
    full_range: bool
    components: tuple[tuple[int, int, int], ...]
    big_endian: bool


@cache
def layout(name: str) -> Layout | None:
    """Return the layout of a pixel format; None unless its samples are addressable integers of 8 to 16 bits."""
    fmt = av.VideoFormat(name, 256, 256)
    depths = {component.bits for component in fmt.components}
    if len(depths) != 1 or fmt.has_palette or fmt.is_bit_stream or "f16" in name or "f32" in name or "msb" in name:
        return None
    depth = depths.pop()
    if not 8 <= depth <= 16 or name.startswith(("bayer", "xyz")):
        return None
    interleaved = _INTERLEAVED.get(name.removesuffix("le").removesuffix("be"))
    count = len(fmt.components)
    if interleaved is not None:
        components = interleaved
    elif fmt.is_planar or count == 1:
        order = (2, 0, 1, 3) if fmt.is_rgb else (0, 1, 2, 3)
        components = tuple((order[index], 0, 1) for index in range(count))
    else:
        return None
    subsampled = count > 2 and not fmt.is_rgb
    return Layout(
        name=name,
        depth=depth,
        shift=16 - depth if name.startswith(_MOST_SIGNIFICANT) else 0,
        subsampling=(
            (256 // fmt.chroma_width(256)).bit_length() - 1 if subsampled else 0,
            (256 // fmt.chroma_height(256)).bit_length() - 1 if subsampled else 0,
        ),
        is_rgb=fmt.is_rgb,
        full_range=name.startswith("yuvj"),
        components=components,
        big_endian=fmt.is_big_endian and depth > 8,
    )


def tag(target: Any, color: ColorSpec) -> None:
    """Set the color tags of a frame, or those of a codec context for all its frames."""
    target.colorspace = int(color.matrix)
    target.color_range = 1 if color.range is Range.LIMITED else 2
    target.color_primaries = color.primaries
    target.color_trc = color.transfer
    if any(color.subsampling):
        siting = "chroma_location" if isinstance(target, av.VideoFrame) else "chroma_sample_location"
        setattr(target, siting, list(ChromaLocation).index(color.chroma_location) + 1)


def native_format(frame: Frame) -> str:
    """FFmpeg's name of the planar format that stores the frame's samples unchanged."""
    depth = f"{frame.color.depth}le" if frame.color.depth > 8 else ""
    if frame.is_gray:
        return ("ya16le" if depth else "ya8") if frame.has_alpha else f"gray{depth}"
    if frame.color.matrix is Matrix.RGB:
        return f"gbr{'a' if frame.has_alpha else ''}p{depth}"
    kind = {(0, 0): "444", (1, 0): "422", (1, 1): "420", (0, 1): "440", (2, 0): "411", (2, 2): "410"}
    return f"yuv{'a' if frame.has_alpha else ''}{kind[frame.color.subsampling]}p{depth}"


def stored_color(frame: Frame, form: Layout) -> ColorSpec:
    """The color of a frame's samples after conversion to ``form``.

    RGB becomes YUV with the matrix of BT.709. Color becomes gray of full range, which is how gray without tags is read.
    """
    color = replace(frame.color, depth=form.depth)
    if form.is_rgb:
        return (
            color
            if color.matrix is Matrix.RGB
            else replace(color, matrix=Matrix.RGB, range=Range.FULL, subsampling=(0, 0))
        )
    if len(form.components) <= 2:
        matrix = Matrix.BT709 if color.matrix is Matrix.RGB else color.matrix
        full = color.range if frame.is_gray else Range.FULL
        return replace(color, matrix=matrix, range=full, subsampling=(0, 0))
    if color.matrix is Matrix.RGB:
        color = replace(color, matrix=Matrix.BT709, range=Range.LIMITED, chroma_location=ChromaLocation.LEFT)
    return replace(color, range=Range.FULL if form.full_range else color.range, subsampling=form.subsampling)
