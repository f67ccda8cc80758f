"""Where each component lies in FFmpeg's pixel formats: `av.VideoFrame` ↔ planes of native samples.

Reading is free of copies: a plane is a strided view into the decoder's buffer. Only samples that are not aligned to the
least significant bit (P010 and its kin) or are stored in big-endian order are copied on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from ..errors import InputError, UsageError
from ..frames import ChromaLocation, ColorSpec, Frame, Matrix, Range

if TYPE_CHECKING:
    import torch

Samples = np.ndarray[Any, np.dtype[Any]]  # uint8, or uint16 in the byte order of its format

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
# Formats whose samples sit in the most significant bits of 16.
_MOST_SIGNIFICANT = ("p010", "p012", "p210", "p212", "p410", "p412")


@dataclass(frozen=True, slots=True)
class Layout:
    """A pixel format taken apart.

    Attributes:
        name: FFmpeg's name.
        depth: Significant bits of a sample.
        shift: Zero bits below them.
        subsampling: (log2 horizontal, log2 vertical).
        is_rgb: Whether the components are R G B.
        full_range: Whether the name alone says full range (yuvj…).
        components: (plane, offset, step) in samples, in the order of `Frame.planes`.
        big_endian: Whether 16-bit samples are stored so.
    """

    name: str
    depth: int
    shift: int
    subsampling: tuple[int, int]
    is_rgb: bool
    full_range: bool
    components: tuple[tuple[int, int, int], ...]
    big_endian: bool

    @property
    def sample(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        """The type of one stored sample."""
        return np.dtype(np.uint8) if self.depth == 8 else np.dtype(">u2" if self.big_endian else "<u2")


@cache
def layout(name: str) -> Layout | None:
    """Take a pixel format apart; None if its samples are no integers of 8 to 16 bits, each at an address."""
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


def _component(picture: av.VideoFrame, form: Layout, index: int) -> Samples:
    """The samples of one component as a (H, W) view into the picture's own memory."""
    number, offset, step = form.components[index]
    plane = picture.planes[number]
    height, width = picture.height, picture.width
    if index in (1, 2) and len(form.components) > 2:
        width = -(-width >> form.subsampling[0])
        height = -(-height >> form.subsampling[1])
    pitch = plane.line_size // form.sample.itemsize
    samples = np.frombuffer(plane, form.sample).reshape(-1, pitch)[:height]
    return samples[:, offset : offset + (width - 1) * step + 1 : step]


def read_planes(picture: av.VideoFrame) -> tuple[torch.Tensor, ...]:
    """One (H, W) uint8 or uint16 tensor of samples per component; they keep the picture's memory alive."""
    import torch  # takes seconds; whoever asks for formats alone needs none of it

    form = layout(picture.format.name)
    if form is None:
        raise InputError(f"Expected a pixel format of 8- to 16-bit integers, got {picture.format.name}")
    planes = []
    for index in range(len(form.components)):
        samples = _component(picture, form, index)
        if form.big_endian:
            samples = samples.astype("<u2")
        if form.shift:
            samples = samples >> np.uint16(form.shift)
        planes.append(torch.from_numpy(samples))
    return tuple(planes)


def readable(picture: av.VideoFrame) -> av.VideoFrame:
    """The picture itself, or, if its format has no `Layout` (palettes, bit fields, floats), the nearest with one."""
    if layout(picture.format.name) is not None:
        return picture
    fmt = picture.format
    deep = max(component.bits for component in fmt.components) > 8
    if not fmt.is_rgb and len(fmt.components) == 1 and not fmt.has_palette:
        target = "gray16le" if deep else "gray"
    elif fmt.is_rgb or fmt.has_palette:
        alpha = fmt.has_palette or len(fmt.components) == 4
        target = ("rgba64le" if alpha else "rgb48le") if deep else ("rgba" if alpha else "rgb24")
    else:
        target = f"yuv{'a' if len(fmt.components) == 4 else ''}444p{'16le' if deep else ''}"
    return picture.reformat(format=target)


def write_planes(frame: Frame, name: str) -> av.VideoFrame:
    """Lay a frame's samples out as the pixel format ``name``; the picture is tagged with how to read them.

    The same components at the same depth are copied as they are, and a different depth is shifted up or rounded down.
    Other subsampling, another range and RGB ↔ YUV are computed with exact siting; gray becomes colour, and colour
    gray, through libswscale.

    Raises:
        UsageError: ``name`` is not a pixel format of 8- to 16-bit integers.
    """
    form = layout(name)
    if form is None:
        raise UsageError(f"Expected a pixel format of 8- to 16-bit integers, got {name!r}")
    picture = _laid_out(frame, form)
    tag(picture, stored_color(frame.color, form))
    return picture


def tag(target: Any, color: ColorSpec) -> None:
    """Say how to read the samples of a picture, or of all pictures of a codec's context."""
    target.colorspace = int(color.matrix)
    target.color_range = 1 if color.range is Range.LIMITED else 2
    target.color_primaries = color.primaries
    target.color_trc = color.transfer
    if any(color.subsampling):
        siting = "chroma_location" if isinstance(target, av.VideoFrame) else "chroma_sample_location"
        setattr(target, siting, list(ChromaLocation).index(color.chroma_location) + 1)


def _laid_out(frame: Frame, form: Layout) -> av.VideoFrame:
    if (len(form.components) <= 2) != frame.is_gray:
        native = layout(native_format(frame))
        assert native is not None
        return _laid_out(frame, native).reformat(format=form.name)
    stored = stored_color(frame.color, form)
    if not frame.is_gray and replace(stored, depth=frame.color.depth) != frame.color:
        import torch

        from ..color import convert

        alpha = [torch.from_numpy(_at_depth(plane.numpy(), frame.color, form.depth)) for plane in frame.planes[3:]]
        frame = replace(frame, planes=(*convert(frame.planes[:3], frame.color, stored), *alpha), color=stored)
    picture = av.VideoFrame(frame.width, frame.height, form.name)
    for index in range(len(form.components)):
        target = _component(picture, form, index)
        if index < len(frame.planes):
            samples = _at_depth(frame.planes[index].numpy(), frame.color, form.depth)
            np.copyto(target, samples << form.shift if form.shift else samples)
        else:  # alpha that the frame does not have: opaque
            target[...] = ((1 << form.depth) - 1) << form.shift
    return picture


def native_format(frame: Frame) -> str:
    """FFmpeg's name of the planar format that holds the frame's samples as they are."""
    depth = f"{frame.color.depth}le" if frame.color.depth > 8 else ""
    if frame.is_gray:
        return ("ya16le" if depth else "ya8") if frame.has_alpha else f"gray{depth}"
    if frame.color.matrix is Matrix.RGB:
        return f"gbr{'a' if frame.has_alpha else ''}p{depth}"
    kind = {(0, 0): "444", (1, 0): "422", (1, 1): "420", (0, 1): "440", (2, 0): "411", (2, 2): "410"}
    return f"yuv{'a' if frame.has_alpha else ''}{kind[frame.color.subsampling]}p{depth}"


def _at_depth(samples: Samples, color: ColorSpec, depth: int) -> Samples:
    """Samples at another depth: full range is rescaled, limited range is shifted (its code points are ×2 per bit)."""
    if depth == color.depth:
        return samples
    peak = (1 << depth) - 1
    if color.range is Range.FULL:
        scaled = np.rint(samples * (peak / color.peak))
    else:
        scaled = np.minimum(np.floor(samples * 2.0 ** (depth - color.depth) + 0.5), peak)
    return scaled.astype(np.uint8 if depth == 8 else np.uint16)


def stored_color(color: ColorSpec, form: Layout) -> ColorSpec:
    """How samples of ``color`` are to be read once they are laid out as ``form``; RGB becomes YUV by BT.709."""
    color = replace(color, depth=form.depth)
    if form.is_rgb:
        return (
            color
            if color.matrix is Matrix.RGB
            else replace(color, matrix=Matrix.RGB, range=Range.FULL, subsampling=(0, 0))
        )
    if len(form.components) <= 2:
        return replace(color, subsampling=(0, 0))
    if color.matrix is Matrix.RGB:
        color = replace(color, matrix=Matrix.BT709, range=Range.LIMITED, chroma_location=ChromaLocation.LEFT)
    return replace(color, range=Range.FULL if form.full_range else color.range, subsampling=form.subsampling)
