"""`Remux`: everything in the file that is not the picture crosses over untouched, packet for packet.

The input is opened a second time for it, so that decoding ahead and writing behind need no common queue. What the
output container cannot hold is found by asking its muxer, and dropped with one line, or refused; text subtitles are
converted to the kind it can hold.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from av.error import FFmpegError, InvalidDataError
from av.stream import Discard, Disposition

from ..errors import OutputError
from .copies import add_copy, custom_tags, kept_tags, refusal, unheld
from .input import is_cover, open_input, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

    from .decode import Source

log = logging.getLogger(__name__)

_TEXT_SUBTITLES = ("ass", "mov_text", "ssa", "subrip", "srt", "text", "webvtt")
_SUBTITLE_CODEC = {"mp4": "mov_text", "mov": "mov_text", "ipod": "mov_text", "matroska": "subrip", "webm": "webvtt"}


@dataclass
class _Passenger:
    """One stream that crosses over."""

    source: Any
    target: Any
    converter: Any = None  # a subtitle encoder's codec context


def drop(source: Source, what: str, why: str, *, strict: bool) -> None:
    """Say that something does not cross over, or, if ``strict``, raise OutputError."""
    if strict:
        raise OutputError(f"{source.name}: {what} would be lost: {why}")
    log.warning("%s: dropping %s: %s", source.name, what, why)


class Remux:
    """Copies all streams but the picture's from the input to the output.

    Args:
        source: The open input; nothing is copied from standard input or image files.
        output: The open output, before its header is written; streams, chapters and metadata are added to it.
        strict: Raise where something would be dropped.
    """

    def __init__(self, source: Source, output: OutputContainer, *, strict: bool) -> None:
        self._source = source
        self._output = output
        self._strict = strict
        self._passengers: dict[int, _Passenger] = {}
        self._pending: Packet[Any] | None = None
        self._input = open_input(source.path)
        self._packets: Iterator[Packet[Any]] = iter(())

    def lay_out(self, add_picture: Callable[[], VideoStream]) -> VideoStream:
        """Add all streams in the input's order, with chapters and tags; ``add_picture`` adds the new video stream.

        Raises:
            OutputError: with ``strict``, at the first thing the output container cannot hold.
        """
        self._carry_container()
        for stream in self._input.streams:
            if stream.index == self._source.stream_index:
                picture = add_picture()
                picture.metadata.update(kept_tags(self._source.tags, self._output.format.name))
                picture.disposition = self._source.disposition
            else:
                self._board(stream)
        carried = [passenger.source for passenger in self._passengers.values() if passenger.source.type != "attachment"]
        for what in unheld(self._output, [self._input.streams[self._source.stream_index], *carried]):
            drop(self._source, what, f"{self._output.format.name} has no place for it", strict=self._strict)
        self._packets = self._open()
        return picture

    def until(self, time: Fraction | None) -> None:
        """Write all packets that come before ``time`` (in seconds of the output), or all that are left."""
        while True:
            packet = next(self._packets, None) if self._pending is None else self._pending
            self._pending = None
            if packet is None:
                return
            if time is not None and self._time(packet) > time:
                self._pending = packet
                return
            self._write(packet)

    def close(self) -> None:
        """Close the second reading of the input."""
        self._input.close()

    def _carry_container(self) -> None:
        self._output.metadata.update(kept_tags(self._input.metadata))
        chapters = self._input.chapters()
        shift, end = self._source.shift, self._source.end
        if not shift and end is None:
            self._output.set_chapters(chapters)
            return
        kept = []
        for chapter in chapters:
            tick = seconds(1, chapter["time_base"])
            first = max(round(chapter["start"] - shift / tick), 0)
            last = round(
                min(chapter["end"] * tick, end if end is not None else chapter["end"] * tick) / tick - shift / tick
            )
            if last > first:
                chapter["start"], chapter["end"] = first, last
                kept.append(chapter)
        self._output.set_chapters(kept)

    def _board(self, stream: Any) -> None:
        """Find the stream its place in the output, or say why there is none."""
        context = stream.codec_context
        what = f"{stream.type} stream {stream.index}" + (f" ({context.name})" if context is not None else "")
        if stream.type == "data" and stream.discard == Discard.all:
            return  # QuickTime's chapter titles: the chapters themselves cross over
        kind = self._output.format.name
        refused = refusal(self._output, stream)
        codec = _SUBTITLE_CODEC.get(kind)
        if not refused and is_cover(stream) and kind == "matroska":
            self._attach_cover(stream)
            return
        if not refused:
            passenger = _Passenger(stream, add_copy(self._output, stream))
        elif context is not None and context.name in _TEXT_SUBTITLES and codec is not None:
            log.info("%s: %s becomes %s, which %s can hold", self._source.name, what, codec, kind)
            target: Any = self._output.add_stream(codec)
            target.time_base = stream.time_base
            passenger = _Passenger(stream, target, target.codec_context)
            # The decoder makes its header when it is opened; the encoder needs it before the file's header is written.
            context.open(strict=False)
            passenger.converter.subtitle_header = context.subtitle_header
        else:
            drop(self._source, what, refused, strict=self._strict)
            return
        passenger.target.metadata.update(kept_tags(stream.metadata, kind))
        passenger.target.disposition = Disposition(stream.disposition)
        self._passengers[stream.index] = passenger

    def _attach_cover(self, stream: Stream) -> None:
        """Matroska keeps cover art as an attachment."""
        with open_input(self._source.path) as again:
            picture = bytes(next(again.demux(again.streams[stream.index])))
        codec = stream.codec_context.name
        name = stream.metadata.get("filename", f"cover.{'jpg' if codec == 'mjpeg' else codec}")
        kind = stream.metadata.get("mimetype", f"image/{'jpeg' if codec == 'mjpeg' else codec}")
        self._output.add_attachment(name, kind, picture)

    def _open(self) -> Iterator[Packet[Any]]:
        streams = [passenger.source for passenger in self._passengers.values() if passenger.source.type != "attachment"]
        if not streams:
            return iter(())
        if self._source.shift:
            self._input.seek(int(self._source.shift * 1_000_000))
        return self._demux(streams)

    def _demux(self, streams: list[Any]) -> Iterator[Packet[Any]]:
        demuxed = self._input.demux(streams)
        # A cut begins where the enlarged picture does, and a copied one decodes only from its next key frame on.
        undecodable = {stream.index for stream in streams if stream.type == "video" and self._source.shift}
        while True:
            try:
                packet = next(demuxed, None)
            except FFmpegError as error:
                self._source.damage(f"the sound and subtitles cannot be read to their end ({error.strerror})")
                return
            if packet is None:
                return
            if not packet.size:
                continue
            if packet.is_corrupt:
                self._source.damage(f"a packet of {packet.stream.type} stream {packet.stream.index} is damaged")
                continue
            start = packet.pts if packet.pts is not None else packet.dts
            if start is not None and self._source.shift and start < self._source.shift / seconds(1, packet.time_base):
                continue
            if (
                start is not None
                and self._source.end is not None
                and seconds(start, packet.time_base) >= self._source.end
            ):
                continue
            if packet.stream.index in undecodable:
                if not packet.is_keyframe:
                    continue
                undecodable.remove(packet.stream.index)
            yield packet

    def _time(self, packet: Packet[Any]) -> Fraction:
        ticks = packet.dts if packet.dts is not None else packet.pts
        return Fraction(0) if ticks is None else seconds(ticks, packet.time_base) - self._source.shift

    def _write(self, packet: Packet[Any]) -> None:
        passenger = self._passengers[packet.stream.index]
        written = packet
        if passenger.converter is not None:
            converted = _converted(passenger, packet)
            if converted is None:
                return
            written = converted
        if self._source.end is not None and packet.pts is not None and packet.stream.type == "subtitle":
            left = round(self._source.end / seconds(1, packet.time_base)) - packet.pts
            written.duration = min(packet.duration or left, left)
        if self._source.shift:
            ticks = round(self._source.shift / seconds(1, packet.time_base))
            written.pts = None if packet.pts is None else packet.pts - ticks
            written.dts = None if packet.dts is None else packet.dts - ticks
        written.stream = passenger.target
        try:
            self._output.mux_one(written)
        except InvalidDataError:  # its form is broken, though the demuxer did not see it
            self._source.damage(f"a packet of {passenger.source.type} stream {passenger.source.index} is damaged")


def metadata_options(source: Source) -> dict[str, str]:
    """Muxer options that let MP4 hold tags of any name; with them it holds no cover, which comes first."""
    return {"movflags": "use_metadata_tags"} if custom_tags(source.file_tags) and not source.covers else {}


def _converted(passenger: _Passenger, packet: Packet[Any]) -> Packet[Any] | None:
    """One subtitle in the output's codec, at the same time."""
    subtitles = passenger.source.codec_context.decode2(packet)
    if subtitles is None or not len(subtitles):
        return None
    converted: Packet[Any] = passenger.converter.encode_subtitle(subtitles)
    converted.pts = converted.dts = packet.pts
    converted.duration = packet.duration
    converted.time_base = packet.time_base
    return converted
