"""`open_decoder`: chooses and opens the decoder of a video stream."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import av
from av.codec.hwaccel import HWAccel
from av.error import FFmpegError

if TYPE_CHECKING:
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)


def open_decoder(stream: VideoStream, hwaccel: str | None) -> av.VideoCodecContext:
    """Return the decoder on the requested device, or the one that decodes transparency, or the stream's own."""
    return _hardware_decoder(stream, hwaccel) or _alpha_decoder(stream) or stream.codec_context


def _hardware_decoder(stream: VideoStream, hwaccel: str | None) -> av.VideoCodecContext | None:
    if hwaccel is None:
        return None
    try:
        device = HWAccel(device_type=hwaccel, allow_software_fallback=True)
        context: Any = av.CodecContext.create(stream.codec_context.codec.name, "r", hwaccel=device)
        context.extradata = stream.codec_context.extradata
        _tag(context, stream)
        context.open()
    except (FFmpegError, RuntimeError, NotImplementedError, ValueError, LookupError) as error:
        log.warning("No %s decoder here (%s): decoding in software", hwaccel, error)
        return None
    opened: av.VideoCodecContext = context
    return opened


def _alpha_decoder(stream: VideoStream) -> av.VideoCodecContext | None:
    """Return the decoder that decodes the transparency of WebM; FFmpeg's own does not."""
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.codec.canonical_name)
    if name is None or stream.metadata.get("ALPHA_MODE", stream.metadata.get("alpha_mode")) != "1":
        return None
    try:
        context: Any = av.CodecContext.create(name, "r")
    except (FFmpegError, ValueError):
        return None
    _tag(context, stream)
    opened: av.VideoCodecContext = context
    return opened


def _tag(context: Any, stream: VideoStream) -> None:
    """Copy the container's color tags to a decoder opened here, for frames that have none themselves."""
    for name in ("color_primaries", "color_trc", "colorspace", "color_range", "chroma_sample_location"):
        setattr(context, name, getattr(stream.codec_context, name))
