"""Chooses the encoder and the pixel format, and opens the encoder with its options or raises one clear error."""

from __future__ import annotations

import difflib
import logging
import re
from contextlib import suppress
from fractions import Fraction
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import av
from av.codec.codec import find_best_pix_fmt_of_list
from av.error import FFmpegError

from ..errors import OutputError, UsageError
from .copies import MemoryFile
from .encoding import DEFAULTS, Encoding, encoder_options, without_b_frames
from .ffmpeg_log import captured
from .layout import layout, native_format, stored_color, tag
from .opening import WrongOptionError, add_stream, not_listed, open_container, open_encoder, refusal, taken_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from av.container import OutputContainer
    from av.video.stream import VideoStream

    from ..frames import Frame

log = logging.getLogger(__name__)

STILL_IMAGES = {
    ".bmp": "bmp",
    ".jpeg": "mjpeg",
    ".jpg": "mjpeg",
    ".png": "png",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".webp": "libwebp",
}
_ONLY = {**STILL_IMAGES, ".y4m": "rawvideo"}  # files that can contain no other codec
_CODECS = {**_ONLY, ".avif": "libsvtav1", ".webm": "libvpx-vp9"}
_DEEP_CODECS = {".webm": "libsvtav1"}  # for more than 8 bits, which PyAV's libvpx-vp9 does not take
_Y4M = (
    "gray", "gray9le", "gray10le", "gray12le", "gray16le", "yuv411p", "yuv420p", "yuv422p", "yuv444p", "yuva444p",
    *(f"yuv{kind}p{depth}le" for kind in (420, 422, 444) for depth in (9, 10, 12, 14, 16)),
)  # fmt: skip
_MEANT = {"h265": "libx265", "x265": "libx265", "x264": "libx264", "avc": "h264", "avc1": "h264", "mpeg2": "mpeg2video"}
# Formats to try before the first frame determines the real one.
_TRIED_FORMATS = ("yuvj420p", "yuv420p", "yuv422p", "yuv420p10le", "yuv422p10le", "yuv444p", "yuv444p10le")
# The smallest side that an encoder takes: below, x265 fails, and SVT-AV1 corrupts its memory and ends the process.
_SMALLEST = {"libsvtav1": 16, "libx265": 16}
_LEAST_CUTREE = 64  # pixels of a side: with smaller frames, x265's cutree writes beyond its buffers
# The largest width and height, for encoders that refuse more only at the first frame, or write to stderr by themselves.
_LARGEST = {"libsvtav1": (16384, 8704), "libvpx": (16383, 16383), "libwebp": (16383, 16383)}
# Encoders that take odd sizes of subsampled frames; the others need whole chroma samples, some only in width.
_ANY_SIZE = {"bmp", "ffv1", "libvpx", "libvpx-vp9", "libwebp", "mjpeg", "png", "rawvideo", "tiff"}
_ANY_HEIGHT = {"ffvhuff", "huffyuv"}
# Codecs whose bitstream states the pixel aspect ratio; containers that do are listed in `states_aspect`.
_STATING_ASPECT = {"h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "png", "tiff", "wmv2"}
_CONSTANT_RATE = {"mpeg1video", "mpeg2video", "mpeg4"}


def choose_codec(suffix: str, depth: int, asked: str | None) -> str:
    """Return the requested encoder, or the default one for files of this suffix and samples of this depth.

    Raises:
        UsageError: PyAV's FFmpeg has no video encoder of this name, or files of this suffix cannot contain its codec.
    """
    name = asked or (_DEEP_CODECS if depth > 8 else {}).get(suffix) or _CODECS.get(suffix)
    name = name or ("libx265" if depth > 8 else "libx264")
    try:
        codec = av.Codec(name, "w")
    except ValueError as error:
        close = _similar(name)
        hint = f". Did you mean {close!r}?" if close else ": expected a video encoder of PyAV's FFmpeg, such as libx265"
        raise UsageError(f"Unknown encoder {name!r}{hint}") from error
    if codec.type != "video":
        raise UsageError(f"Expected a video encoder, got {name!r} for {codec.type}")
    only = _ONLY.get(suffix)
    if only is not None and codec.canonical_name != av.Codec(only, "w").canonical_name:
        raise UsageError(f"Expected encoder {only} for a {suffix} file, got {codec.name}", codec=None)
    return str(codec.name)  # libx265 for hevc: defaults are listed by the encoder's real name


def _similar(name: str) -> str | None:
    """Guess which encoder a wrong name means; None if no name is similar."""
    encoders = set()
    for known in av.codecs_available:
        with suppress(ValueError):
            if av.Codec(known, "w").type == "video":
                encoders.add(known)
    bare = re.sub(r"[^a-z0-9_]", "", name.lower())
    meant = _MEANT.get(bare, bare)
    return (
        meant
        if meant in encoders
        else next(iter(difflib.get_close_matches(meant, sorted(encoders), n=1, cutoff=0.7)), None)
    )


def choose_pixel_format(codec: str, frame: Frame, asked: str | None) -> str:
    """Return the requested format, or the frame's own if the encoder takes it, or else the nearest that it takes.

    Raises:
        UsageError: the encoder does not take the requested format.
    """
    supported = [fmt.name for fmt in av.Codec(codec, "w").video_formats or []]
    if asked is not None:
        _check_pixel_format(codec, asked)
        return asked
    native = native_format(frame)
    if frame.has_alpha:  # x265 lists formats with alpha even if it was built without them
        supported = [name for name in supported if not _has_alpha(name) or _opens(codec, name)]
    readable = [name for name in supported if layout(name) is not None]
    if codec == "mjpeg":  # JPEG has full range and 8 bits, whatever the film has
        native = re.sub(r"p\d+le$", "p", native).replace("yuv", "yuvj")
    if codec == "rawvideo":  # y4m's own formats; --pix-fmt names any other for other containers
        readable = supported = list(_Y4M)
    if not supported or native in readable:
        return native
    form = layout(native)
    assert form is not None
    for name in readable:  # the same samples in another arrangement, such as rgb24 for gbrp
        other = layout(name)
        assert other is not None
        if (other.depth, other.subsampling, other.is_rgb, len(other.components), other.full_range) == (
            form.depth,
            form.subsampling,
            form.is_rgb,
            len(form.components),
            False,
        ):
            return name
    best, _ = find_best_pix_fmt_of_list(readable, native, has_alpha=frame.has_alpha)
    if best is None:
        raise UsageError(f"Encoder {codec} takes no pixel format near {native}")
    everywhere = "; yuv420p plays everywhere" if "444" in best.name and "444" not in native else ""
    log.info("%s takes no %s: encoding %s%s", codec, native, best.name, everywhere)
    return str(best.name)


def _has_alpha(pixel_format: str) -> bool:
    form = layout(pixel_format)
    return form is not None and len(form.components) in (2, 4)


@cache
def _opens(codec: str, pixel_format: str) -> bool:
    return refusal(codec, pixel_format, DEFAULTS.get(codec, {})) is None


def _check_pixel_format(codec: str, asked: str) -> None:
    supported = [fmt.name for fmt in av.Codec(codec, "w").video_formats or []]
    if asked not in (supported or av.video.format.names) or layout(asked) is None:
        known = ", ".join(name for name in supported if layout(name)) or "any"
        raise UsageError(f"Encoder {codec} takes no pixel format {asked!r}. It takes: {known}")


def check_encoding(suffix: str, encoding: Encoding) -> None:
    """Try the encoder with its options before any input is read, because input from a pipe may take long to come.

    The choice of the encoder may depend on the depth of the frames; it is enough if one candidate takes the options. An
    encoder that does not open with its defaults either, here and at this size, is checked at the first frame.

    Raises:
        UsageError: the encoder is unknown, or does not know an option or a value.
        OutputError: FFmpeg writes no files of this suffix, or none with this encoder.
    """
    refusals: list[UsageError | OutputError] = []
    for codec in dict.fromkeys(choose_codec(suffix, depth, encoding.codec) for depth in (8, 10)):
        try:
            _try(codec, encoding)
            check_container(suffix, codec, encoding.pixel_format)
        except (UsageError, OutputError) as error:
            refusals.append(error)
        else:
            return
    raise refusals[0]


def _try(codec: str, encoding: Encoding) -> None:
    if encoding.pixel_format is not None:
        _check_pixel_format(codec, encoding.pixel_format)
    known = [fmt.name for fmt in av.Codec(codec, "w").video_formats or []] or ["yuv420p"]
    asked = [encoding.pixel_format] if encoding.pixel_format in known else []
    formats = [name for name in (*asked, *_TRIED_FORMATS) if name in known] or known[:1]
    refused = _refusal(codec, encoding, asked or formats)
    if isinstance(refused, WrongOptionError) or (refused and _refusal(codec, Encoding(codec), formats) is None):
        raise refused


@cache
def check_container(suffix: str, codec: str, pixel_format: str | None = None) -> None:
    """Write a file of one frame into memory and read it back; if encoding fails, it is checked at the first frame.

    Raises:
        OutputError: FFmpeg cannot write files of this suffix, or not with this encoder, or cannot read them.
    """
    if suffix in _ONLY:
        return
    file = MemoryFile(f"file{suffix}")
    output = open_container(file, f"a {suffix} file" if suffix else "a file without a suffix")
    try:
        known = [fmt.name for fmt in av.Codec(codec, "w").video_formats or []]
        tried = next((name for name in _TRIED_FORMATS if name in known), known[0] if known else "yuv420p")
        chosen = pixel_format or tried
        options = encoder_options(codec, Encoding(codec), {}, chosen)
        size = taken_size(codec, chosen, options)
        context = add_stream(output, codec, Fraction(25), dict(options)).codec_context
        if size is None:
            return
        context.width, context.height = size
        context.pix_fmt = chosen
        open_encoder(context, codec, options)
        _start(output, codec)
        frame = av.VideoFrame(*size, context.pix_fmt)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts = 0
        with captured():
            output.mux([*context.encode(frame), *context.encode(None)])
    except FFmpegError:
        return
    finally:
        with suppress(FFmpegError):  # MXF cannot write its trailer without frames
            output.close()
    if not _is_readable(file.getvalue(), size):
        why = f"{output.format.name} could hold what {codec} makes, but players could not read it there"
        raise OutputError(why, output=..., codec=...)


def _is_readable(file: bytes, size: tuple[int, int]) -> bool:
    """Whether a file has a video stream of this size and with a known pixel format."""
    with captured(), suppress(FFmpegError, ValueError), av.open(BytesIO(file)) as container:
        found = [stream.codec_context for stream in container.streams.video]
        return any(one is not None and (one.width, one.height) == size and one.pix_fmt is not None for one in found)
    return False


def holds(suffix: str, codec: str) -> bool:
    """Whether FFmpeg can write files of this suffix with an encoder, and read them."""
    try:
        check_container(suffix, codec)
    except OutputError:
        return False
    return True


def _start(output: OutputContainer, codec: str) -> None:
    with captured():
        try:
            output.start_encoding()
        except (FFmpegError, ValueError) as error:
            raise not_listed(codec, output) from error


def _refusal(codec: str, encoding: Encoding, formats: Sequence[str]) -> UsageError | None:
    """Why the encoder rejects these options with every pixel format; None if it accepts them with at least one."""
    refusals = []
    for name in formats:
        refused = refusal(codec, name, encoder_options(codec, encoding, {}, name))
        if refused is None:
            return None
        refusals.append(refused)
    return refusals[0]


def encoded_size(codec: str, pixel_format: str, width: int, height: int) -> tuple[int, int]:
    """Return (width, height) rounded up to whole chroma samples if the encoder needs them.

    Raises:
        OutputError: the frames are too small or too large for the encoder.
    """
    least = _SMALLEST.get(codec, 1)
    if min(width, height) < least:
        raise OutputError(
            f"Expected at least {least}×{least} pixels for encoder {codec}, got {width}×{height}", codec=...
        )
    most = _LARGEST.get(codec, (width, height))
    if width > most[0] or height > most[1]:
        raise OutputError(
            f"Expected at most {most[0]}×{most[1]} pixels for encoder {codec}, got {width}×{height}",
            codec=...,
            scale=...,
        )
    form = layout(pixel_format)
    if form is None or codec in _ANY_SIZE:
        return width, height
    horizontal, vertical = form.subsampling
    vertical = 0 if codec in _ANY_HEIGHT else vertical
    return -(-width >> horizontal) << horizontal, -(-height >> vertical) << vertical


def counts_frames(codec: str) -> bool:
    """Whether the encoder's bitstream counts frames instead of time."""
    return codec in _CONSTANT_RATE


def states_aspect(codec: str, container: str) -> bool:
    """Whether a file of this codec in this container states the pixel aspect ratio."""
    stated = av.Codec(codec, "w").canonical_name in _STATING_ASPECT
    return stated or container in ("ipod", "matroska", "mov", "mp4", "webm", "yuv4mpegpipe")


def add_encoder(
    output: OutputContainer,
    codec: str,
    frame: Frame,
    pixel_format: str,
    encoding: Encoding,
    *,
    time_base: Fraction,
    frame_rate: Fraction | None,
    sample_aspect_ratio: Fraction | None,
    hdr: Mapping[str, str],
    b_frames: bool = True,
) -> VideoStream:
    """Add a video stream to ``output`` and open its encoder.

    Args:
        output: The container; its header must not be written yet.
        codec: Result of `choose_codec`.
        frame: The first frame; the stream gets its size and color.
        pixel_format: Result of `choose_pixel_format`.
        encoding: The user's options.
        time_base: Time base of the timestamps.
        frame_rate: Average frame rate, for rate control only.
        sample_aspect_ratio: Width : height of a pixel, or None.
        hdr: Options that make the encoder write HDR metadata.
        b_frames: Whether the encoder may reorder frames.

    Raises:
        UsageError: the encoder does not know an option or value.
        OutputError: the container cannot contain this codec, or the encoder does not take this size.
    """
    options = encoder_options(codec, encoding, hdr, pixel_format)
    if codec == "libx265" and min(frame.width, frame.height) < _LEAST_CUTREE:
        options["x265-params"] += ":cutree=0"
    if not b_frames:
        without_b_frames(codec, options, output.format.name)
    stream: Any = add_stream(output, codec, frame_rate or Fraction(25), dict(options))
    context = stream.codec_context
    context.width, context.height = encoded_size(codec, pixel_format, frame.width, frame.height)
    context.pix_fmt = pixel_format
    context.time_base = stream.time_base = time_base
    if sample_aspect_ratio:
        context.sample_aspect_ratio = sample_aspect_ratio
    form = layout(pixel_format)
    assert form is not None
    tag(context, stored_color(frame, form))
    if codec in ("libx265", "hevc_nvenc") and output.format.name in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # the tag that Apple's players need
    open_encoder(context, codec, options)
    return stream  # type: ignore[no-any-return]
