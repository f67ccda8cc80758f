"""`deinterlaced`: whole pictures made of fields, by FFmpeg's bwdif."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.error import FFmpegError
from av.filter import Graph

from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.video.stream import VideoStream


def deinterlaced(pictures: Iterator[av.VideoFrame], stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Whole pictures made of fields, one for each coded one, on the same clock; progressive ones pass untouched."""
    graph: Graph | None = None
    for picture in pictures:
        if graph is None:
            graph = Graph()
            source = graph.add_buffer(
                width=picture.width, height=picture.height, format=picture.format, time_base=stream.time_base
            )
            bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
            sink = graph.add("buffersink")
            source.link_to(bwdif)
            bwdif.link_to(sink)
            try:
                graph.configure()
            except FFmpegError as error:
                raise InputError(
                    f"Cannot deinterlace {picture.width}×{picture.height} {picture.format.name}"
                ) from error
        graph.push(picture)
        yield from _pulled(graph, stream)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph, stream)


def _pulled(graph: Graph, stream: VideoStream) -> Iterator[av.VideoFrame]:
    while True:
        try:
            picture = graph.pull()
        except (BlockingIOError, EOFError):
            return
        assert isinstance(picture, av.VideoFrame)
        assert picture.pts is not None
        tick = Fraction(picture.time_base.numerator, picture.time_base.denominator) / Fraction(
            stream.time_base.numerator, stream.time_base.denominator
        )
        picture.pts = round(picture.pts * tick)
        picture.duration = round(picture.duration * tick)
        yield picture
