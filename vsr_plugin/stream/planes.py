"""`av.VideoFrame` ↔ planes of native samples.

Reading does not copy: a plane is a strided view into the decoder's buffer. Only samples that are not aligned to the
least significant bit (P010 and similar formats) or are big-endian are copied.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import av
import numpy as np

from ..errors import InputError, UsageError
from ..frames import Matrix, Range
from .layout import layout, stored_color, tag

if TYPE_CHECKING:
    from ..frames import ColorSpec, Frame, Samples
    from .layout import Layout


def _component(frame: av.VideoFrame, form: Layout, index: int) -> Samples:
    """Return the samples of one component as a (H, W) view into the frame's own memory, in its byte order."""
    number, offset, step = form.components[index]
    plane = frame.planes[number]
    height, width = frame.height, frame.width
    if index in (1, 2) and len(form.components) > 2:
        width = -(-width >> form.subsampling[0])
        height = -(-height >> form.subsampling[1])
    pitch = plane.line_size // _sample(form).itemsize
    samples = np.frombuffer(plane, _sample(form)).reshape(-1, pitch)[:height]
    return samples[:, offset : offset + (width - 1) * step + 1 : step]


def read_planes(frame: av.VideoFrame) -> tuple[Samples, ...]:
    """Return one (H, W) uint8 or uint16 array of samples per component; they keep the frame's memory alive."""
    form = layout(frame.format.name)
    if form is None:
        raise InputError(f"Expected a pixel format of 8- to 16-bit integers, got {frame.format.name}")
    planes = []
    for index in range(len(form.components)):
        samples = _component(frame, form, index)
        if form.big_endian:
            samples = samples.astype("<u2")
        if form.shift:
            samples = samples >> np.uint16(form.shift)
        planes.append(samples)
    return tuple(planes)


def readable(frame: av.VideoFrame) -> av.VideoFrame:
    """Return the frame, converted to the nearest format with a `Layout` if its own has none (palettes, floats, …).

    Raises:
        InputError: the frame is one row of a Bayer pattern, which has two.
    """
    if layout(frame.format.name) is not None:
        return frame
    fmt = frame.format
    deep = max(component.bits for component in fmt.components) > 8
    if not fmt.is_rgb and len(fmt.components) == 1 and not fmt.has_palette:
        target = "gray16le" if deep else "gray"
    elif fmt.is_rgb or fmt.has_palette:
        alpha = fmt.has_palette or len(fmt.components) == 4
        target = ("rgba64le" if alpha else "rgb48le") if deep else ("rgba" if alpha else "rgb24")
    else:
        target = f"yuv{'a' if len(fmt.components) == 4 else ''}444p{'16le' if deep else ''}"
    if fmt.name.startswith("bayer") and frame.height < 2:
        raise InputError("Expected at least two rows of a Bayer pattern, got one")
    # One thread: several give gray other samples from time to time, and parts of any height, of which an odd one of a
    # Bayer pattern ends the process (FFmpeg 8).
    return frame.reformat(format=target, threads=1)


def write_planes(frame: Frame, name: str) -> av.VideoFrame:
    """Convert a frame to the pixel format ``name``; the result has the matching color tags.

    Components at the same depth are copied unchanged; those at a different depth are shifted up or rounded down.
    Changes of subsampling or range and RGB ↔ YUV are computed with exact siting. Color becomes gray by its luma, in
    full range, and gray becomes color without any.

    Raises:
        UsageError: ``name`` is not a pixel format of 8- to 16-bit integers.
    """
    form = layout(name)
    if form is None:
        raise UsageError(f"Expected a pixel format of 8- to 16-bit integers, got {name!r}")
    laid_out = _laid_out(frame, form)
    tag(laid_out, stored_color(frame, form))
    return laid_out


def _laid_out(frame: Frame, form: Layout) -> av.VideoFrame:
    stored = stored_color(frame, form)
    if (len(form.components) <= 2) != frame.is_gray:
        frame = _colored(frame, form, stored) if frame.is_gray else _gray(frame, stored)
    if not frame.is_gray and replace(stored, depth=frame.color.depth) != frame.color:
        from ..color import convert  # this loads torch

        alpha = [_alpha(plane, frame.color, form.depth) for plane in frame.planes[3:]]
        frame = replace(frame, planes=(*convert(frame.planes[:3], frame.color, stored), *alpha), color=stored)
    laid_out = av.VideoFrame(frame.width, frame.height, form.name)
    for index in range(len(form.components)):
        target = _component(laid_out, form, index)
        if index < len(frame.planes):
            samples = _component_at_depth(frame, index, form.depth)
            np.copyto(target, samples << form.shift if form.shift else samples)
        else:  # alpha that the frame does not have: opaque
            target[...] = ((1 << form.depth) - 1) << form.shift
    return laid_out


def _gray(frame: Frame, stored: ColorSpec) -> Frame:
    """The luma of a frame with color."""
    color = frame.color
    alpha = [_alpha(plane, color, stored.depth) for plane in frame.planes[3:]]
    luma = frame.planes[0]
    if color.matrix is Matrix.RGB:
        from ..color import convert  # this loads torch

        luma = convert(frame.planes[:3], color, stored)[0]
    else:
        luma = _in_range(luma, color, stored)
    return replace(frame, planes=(luma, *alpha), color=stored)


def _colored(frame: Frame, form: Layout, stored: ColorSpec) -> Frame:
    """A gray frame as RGB, or as YUV, without any color."""
    gray, *alpha = frame.planes
    luma = _in_range(gray, frame.color, stored)
    alpha = [_alpha(plane, frame.color, stored.depth) for plane in alpha]
    chroma = np.full(stored.chroma_shape(*luma.shape), 1 << (stored.depth - 1), stored.dtype)
    others = (luma, luma) if form.is_rgb else (chroma, chroma)
    return replace(frame, planes=(luma, *others, *alpha), color=stored)


def _in_range(luma: Samples, color: ColorSpec, stored: ColorSpec) -> Samples:
    """Luma, or gray, at another depth and in another range."""
    if color.range is stored.range:
        return _at_depth(luma, color, stored.depth)
    from ..color import convert  # this loads torch

    gray, target = (replace(each, matrix=Matrix.RGB, subsampling=(0, 0)) for each in (color, stored))
    return convert((luma,) * 3, gray, target)[0]


def _component_at_depth(frame: Frame, index: int, depth: int) -> Samples:
    plane, color = frame.planes[index], frame.color
    if frame.has_alpha and index == len(frame.planes) - 1:
        return _alpha(plane, color, depth)
    is_chroma = index in (1, 2) and not frame.is_gray and color.matrix is not Matrix.RGB
    return _at_depth(plane, color, depth, neutral=is_chroma)


def _alpha(samples: Samples, color: ColorSpec, depth: int) -> Samples:
    """Alpha at another depth; it has full range in every color."""
    return _at_depth(samples, replace(color, range=Range.FULL), depth)


def _at_depth(samples: Samples, color: ColorSpec, depth: int, *, neutral: bool = False) -> Samples:
    """Convert samples to another depth: full range is rescaled, limited range is shifted (code values × 2 per bit).

    With ``neutral``, the code value of no color stays that of no color in full range, too (H.273, section 8.3).
    """
    if depth == color.depth:
        return samples
    peak = (1 << depth) - 1
    if color.range is Range.FULL:
        before, after = (1 << color.depth - 1, 1 << depth - 1) if neutral else (0, 0)
        scaled: Samples = np.clip(np.rint((samples - np.float64(before)) * (peak / color.peak)) + after, 0, peak)
    else:
        scaled = np.minimum(np.floor(samples * 2.0 ** (depth - color.depth) + 0.5), peak)
    return scaled.astype(np.uint8 if depth == 8 else np.uint16)


def _sample(form: Layout) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
    """The type of one stored sample."""
    return np.dtype(np.uint8) if form.depth == 8 else np.dtype(">u2" if form.big_endian else "<u2")


def padded(frame: Frame, width: int, height: int) -> Frame:
    """Repeat the frame's last row and column up to ``width`` and ``height``, for encoders that need an even size."""
    rows, columns = height - frame.height, width - frame.width
    if not rows and not columns:
        return frame

    def pad(plane: Samples, shape: tuple[int, int]) -> Samples:
        missing = [(0, want - have) for want, have in zip(shape, plane.shape, strict=True)]
        return np.pad(plane, missing, mode="edge")

    chroma = frame.color.chroma_shape(height, width)
    shapes = [
        chroma if index in (1, 2) and not frame.is_gray else (height, width) for index in range(len(frame.planes))
    ]
    return replace(frame, planes=tuple(pad(plane, shape) for plane, shape in zip(frame.planes, shapes, strict=True)))
