"""Convert between VapourSynth's frames and ours: formats, the tags that say how to read them, planes, alpha."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import vapoursynth as vs

from ..errors import UsageError
from ..frames import ChromaLocation, ColorSpec, Frame, Matrix, Range

if TYPE_CHECKING:
    from ..frames import Samples

_TIME_BASE = Fraction(1)  # VapourSynth counts frames; their times stay in their properties
_CHROMA_LOCATIONS = dict(enumerate(ChromaLocation))  # VapourSynth counts in the order of our enumeration
_MATRICES = {*Matrix} - {Matrix.RGB, Matrix.UNSPECIFIED}  # those that YUV may be tagged with
_FORMATS = "8 to 16 bits, or GRAY, YUV444 and RGB in half or single precision"


def check_clip(clip: object) -> None:
    """Check that something is a clip of a constant format that we read.

    Raises:
        UsageError: it is not a clip, or its format or size is wrong.
    """
    if not isinstance(clip, vs.VideoNode):
        raise UsageError(f"Expected a video clip, got {type(clip).__name__}: pass what a source filter gives")
    form = clip.format
    if form is None or form.color_family == vs.UNDEFINED:
        raise UsageError("Expected a clip of one format, got one whose format changes: convert it with resize.Bicubic")
    if clip.width == 0 or clip.height == 0:
        raise UsageError(
            "Expected a clip of one size, got one whose size changes: give resize.Bicubic a width and height"
        )
    subsampling = (form.subsampling_w, form.subsampling_h)
    if form.sample_type == vs.FLOAT:
        known = form.bits_per_sample in (16, 32) and subsampling == (0, 0)
    else:
        known = 8 <= form.bits_per_sample <= 16
    if form.color_family not in (vs.GRAY, vs.YUV, vs.RGB) or not known:
        raise UsageError(f"Expected a clip of {_FORMATS}, got {form.name}: convert it with resize.Bicubic")
    if getattr(clip, "gpu_resident", False):  # since R80
        raise UsageError("Expected a clip in main memory, got one on a GPU: download it first")


def blank(clip: vs.VideoNode) -> Frame:
    """A frame like those of an untagged clip, all zeros."""
    form = clip.format
    color = _color(form.id, clip.width, clip.height, None, None, None)
    shapes = [(clip.height, clip.width), *[color.chroma_shape(clip.height, clip.width)] * (form.num_planes - 1)]
    return Frame(tuple(np.zeros(shape, color.dtype) for shape in shapes), 0, _TIME_BASE, color=color)


def read(frame: vs.VideoFrame, number: int) -> Frame:
    """Make a frame of ours from one of VapourSynth: the planes are views of its memory, and keep it alive.

    Raises:
        UsageError: the frame holds two fields, or an `_Alpha` that does not match it.
    """
    props = frame.props
    fields = _tag(props, "_FieldBased") or 0
    if fields > 0:
        raise UsageError(
            f"Expected progressive frames, got fields in frame {number} (_FieldBased={fields}): "
            "deinterlace the clip first, or, if the mark is wrong, std.SetFieldBased(clip, 0)"
        )
    matrix, value, location = (_tag(props, name) for name in ("_Matrix", "_Range", "_ChromaLocation"))
    color = _color(frame.format.id, frame.width, frame.height, matrix, value, location)
    planes = [_plane(frame, index) for index in range(frame.format.num_planes)]
    alpha = props.get("_Alpha")
    if isinstance(alpha, vs.VideoFrame):
        form = frame.format.replace(color_family=vs.GRAY, subsampling_w=0, subsampling_h=0)
        if (alpha.format.id, alpha.width, alpha.height) != (form.id, frame.width, frame.height):
            raise UsageError(
                f"Expected _Alpha to be {form.name} of {frame.width}×{frame.height}, got {alpha.format.name} of "
                f"{alpha.width}×{alpha.height} in frame {number}: convert it with resize.Bicubic"
            )
        planes.append(_plane(alpha, 0))
    return Frame(tuple(planes), number, _TIME_BASE, color=color)


def write(large: Frame, source: vs.VideoFrame, pixels: Fraction = Fraction(1)) -> vs.VideoFrame:
    """Copy an enlarged frame into VapourSynth's memory, with all the properties of the frame that it comes from.

    Args:
        large: The enlarged frame.
        source: The frame that it comes from.
        pixels: Change of a pixel's width over its height, for `_SARNum` and `_SARDen`.
    """
    frame = vs.core.create_video_frame(source.format, large.width, large.height)
    for index in range(source.format.num_planes):
        np.copyto(np.asarray(frame[index]), large.planes[index])
    frame.props = source.props
    across, down = (_tag(source.props, name) for name in ("_SARNum", "_SARDen"))
    if pixels != 1 and across and down:
        shape = Fraction(across, down) * pixels
        frame.props["_SARNum"], frame.props["_SARDen"] = shape.numerator, shape.denominator
    if large.has_alpha:
        small = source.props["_Alpha"]
        alpha = vs.core.create_video_frame(small.format, large.width, large.height)
        np.copyto(np.asarray(alpha[0]), large.planes[-1])
        alpha.props = small.props
        frame.props["_Alpha"] = alpha
    return frame


def _tag(props: vs.FrameProps, name: str) -> int | None:
    """A property that is one number; None for none, or for several, which no filter of VapourSynth writes."""
    value = props.get(name)
    return value if isinstance(value, int) else None


@lru_cache(maxsize=64)
def _color(
    form: int, width: int, height: int, matrix: int | None, color_range: int | None, location: int | None
) -> ColorSpec:
    """How to read frames of a format with these tags; None is untagged."""
    described = vs.core.get_video_format(form)
    rgb = described.color_family == vs.RGB
    if rgb:
        known = Matrix.RGB
    elif matrix is not None and matrix in _MATRICES:
        known = Matrix(matrix)
    else:
        known = Matrix.BT709 if width >= 1280 or height > 576 else Matrix.SMPTE170M
    if color_range not in (0, 1):
        color_range = int(rgb)
    return ColorSpec(
        matrix=known,
        range=Range.FULL if color_range == 1 else Range.LIMITED,
        depth=described.bits_per_sample,
        subsampling=(described.subsampling_w, described.subsampling_h),
        chroma_location=_CHROMA_LOCATIONS.get(location or 0, ChromaLocation.LEFT),
        floating=described.sample_type == vs.FLOAT,
    )


def _plane(frame: vs.VideoFrame, index: int) -> Samples:
    """(H, W), a read-only view of the frame's memory, which it keeps alive."""
    return np.asarray(frame[index])
