"""`deinterlaced`: makes whole frames from fields, with FFmpeg's bwdif."""

from __future__ import annotations

import logging
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.error import FFmpegError
from av.filter import Graph

from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

# AVFieldOrder → the field that is shown first. FFmpeg's decoders, its command line and RFC 9559 (FieldOrder) read the
# last two (TB, BT) the other way round than their names suggest (which field is stored, and which is shown first).
_FIRST_FIELD = {2: "tff", 3: "bff", 4: "tff", 5: "bff"}
_WORDS = {"tff": "top field first", "bff": "bottom field first"}


def first_field(stream: VideoStream) -> str | None:
    """``tff`` or ``bff`` if the file's header says that its frames consist of fields; else None."""
    return _FIRST_FIELD.get(stream.codec_context.field_order)


def holds_one_field(frame: av.VideoFrame, stream: VideoStream) -> bool:
    """Whether a decoded frame is one field of half the height; HEVC codes fields so, and flags nothing else."""
    return bool(frame.interlaced_frame and stream.codec_context.codec.canonical_name == "hevc")


def deinterlaced(
    frames: Iterator[av.VideoFrame], time_base: Fraction, order: str | None, *, flagged: bool = False
) -> Iterator[av.VideoFrame]:
    """Make whole frames from fields, one for each coded frame, in the same time base.

    From the first frame flagged as interlaced on, only flagged frames are deinterlaced; the others pass unchanged.
    Before it, all frames are deinterlaced, because many codecs have no such flag.

    Args:
        frames: The decoded frames.
        time_base: Time base of their timestamps, in seconds.
        order: ``tff`` or ``bff``: which field of a frame without a flag is shown first; None is the top field, as in
            FFmpeg.
        flagged: Whether an earlier frame was flagged as interlaced.

    Raises:
        InputError: bwdif cannot take the size or pixel format.
    """
    graph: Graph | None = None
    for frame in frames:
        if graph is None or (frame.interlaced_frame and not flagged):
            if graph is not None:
                graph.push(None)
                yield from _pulled(graph, time_base)
            if graph is None:
                log.info("Deinterlacing: every two fields become one frame")
            flagged = flagged or frame.interlaced_frame
            if not flagged:
                order = order or "tff"
                log.info("No frame is flagged as interlaced so far: all are deinterlaced, %s", _WORDS[order])
            graph = _graph(frame, time_base, "deint=interlaced" if flagged else f"deint=all:parity={order}")
        graph.push(frame)
        yield from _pulled(graph, time_base)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph, time_base)


def _graph(frame: av.VideoFrame, time_base: Fraction, options: str) -> Graph:
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=time_base)
    bwdif = graph.add("bwdif", f"mode=send_frame:{options}")
    sink = graph.add("buffersink")
    source.link_to(bwdif)
    bwdif.link_to(sink)
    try:
        graph.configure()
    except FFmpegError as error:
        raise InputError(f"Cannot deinterlace {frame.width}×{frame.height} {frame.format.name}") from error
    return graph


def _pulled(graph: Graph, time_base: Fraction) -> Iterator[av.VideoFrame]:
    while True:
        try:
            frame = graph.pull()
        except (BlockingIOError, EOFError):
            return
        assert isinstance(frame, av.VideoFrame)
        assert frame.pts is not None
        tick = Fraction(frame.time_base.numerator, frame.time_base.denominator) / time_base
        frame.pts = round(frame.pts * tick)
        frame.duration = round(frame.duration * tick)
        yield frame
