"""`Remux`: copies everything in the file except the enlarged video stream, packet for packet and unchanged.

The source reads these packets along with the frames and keeps them in its queue. The output's muxer is asked which
streams it can store; others are dropped with a warning, or refused. Text subtitles are converted to a format it takes.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from av.error import ArgumentError, FFmpegError, InvalidDataError
from av.stream import Discard, Disposition

from ..errors import OutputError
from .containers.loop import loop_options, read_plays
from .copies import add_copy, custom_tags, kept_tags, lacks_parameters, refusal, told_tags, unheld
from .encoder import STILL_IMAGES
from .input import is_cover, seconds
from .program import late_streams
from .timecode import later

if TYPE_CHECKING:
    from collections.abc import Callable

    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

    from .input_file import InputFile

log = logging.getLogger(__name__)

_TEXT_SUBTITLES = ("ass", "mov_text", "ssa", "subrip", "srt", "text", "webvtt")
_STYLED = ("ass", "ssa")
_SUBTITLE_CODEC = {"mp4": "mov_text", "mov": "mov_text", "ipod": "mov_text", "matroska": "subrip", "webm": "webvtt"}
_COUNTING = {"avi", "mxf"}  # containers in which all streams begin at once
_RATES = 13  # number of sample rates that AAC's header can state
_LATE = Fraction(1, 20)  # seconds that a stream may begin later without anybody noticing


@dataclass
class _CopiedStream:
    """One copied stream."""

    source: Any
    target: Any
    converter: Any = None  # a subtitle encoder's codec context
    last: int | None = None  # decoding time of its last packet
    overlaps: bool = False  # whether that time was changed

    def loses_sync(self, packet: Packet[Any]) -> bool:
        """Whether a packet of AAC lacks the header needed to decode it (ISO/IEC 14496-3, section 1.A.2.2.1)."""
        context = self.source.codec_context
        if context is None or context.name != "aac" or context.extradata:
            return False
        head = bytes(packet)[:3].ljust(3, b"\0")
        return head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 0xF >= _RATES

    def follow(self, packet: Packet[Any]) -> None:
        """Make the decoding times increase, as muxers require, where two parts of a file overlap."""
        if packet.dts is None:
            return
        step = max(1, math.ceil(seconds(1, self.target.time_base) / seconds(1, packet.time_base)))
        if self.source.type in ("subtitle", "data"):
            step = 0  # two packets may begin at the same time
        if self.last is not None:
            self.overlaps = packet.dts < self.last + (step if self.overlaps else min(step, 1))
            if self.overlaps:
                packet.dts = self.last + step
                packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
        self.last = packet.dts


def drop(name: str, what: str, why: str, *, strict: bool) -> None:
    """Warn that something of an input is not copied, or, if ``strict``, raise OutputError."""
    if strict:
        raise OutputError(f"{name}: {what} would be lost: {why}")
    log.warning("%s: dropping %s: %s", name, what, why)


class Remux:
    """Copies all streams but the enlarged one from the input to the output.

    Args:
        source: The open input, which keeps the packets of its other streams.
        output: The open output, before its header is written; streams, chapters and metadata are added to it.
        drop: Called with what is not copied, and why; may raise.

    Attributes:
        begun: Whether the output's header was written, which happens with the first packet of any stream.
    """

    def __init__(self, source: InputFile, output: OutputContainer, drop: Callable[[str, str], None]) -> None:
        self._source = source
        self._output = output
        self._drop = drop
        self._copies: dict[int, _CopiedStream] = {}
        self._pending: Packet[Any] | None = None
        self._input = source.container
        self._held: list[Packet[Any]] = []  # subtitles that may last beyond an end that is still unknown
        self._undecodable: set[int] = set()  # video streams whose next key frame has not come yet
        self.begun = False

    def lay_out(self, add_video: Callable[[], VideoStream]) -> VideoStream:
        """Add all streams in the input's order, with chapters and tags; ``add_video`` adds the new video stream.

        Raises:
            OutputError: raised by ``drop``, at the first thing that the output container cannot store.
        """
        self._carry_container()
        for what in self._source.unread:
            self._drop(what, "FFmpeg does not read it")
        for stream in self._input.streams:
            if stream.index == self._source.stream_index:
                video = add_video()
                video.metadata.update(kept_tags(self._source.tags, self._output.format.name))
                video.disposition = self._source.disposition
                self._set_timecode(video)
            else:
                self._add(stream)
        carried = [copy.source for copy in self._copies.values() if copy.source.type != "attachment"]
        for what in unheld(self._output, [self._input.streams[self._source.stream_index], *carried]):
            self._drop(what, f"{self._output.format.name} has no place for it")
        if self._source.shift > 0:
            # The cut is at a frame of the enlarged film; a copied film decodes only from its next key frame on.
            self._undecodable = {i for i, one in self._copies.items() if one.source.type == "video"}
        return video

    def _set_timecode(self, video: VideoStream) -> None:
        """Move the time code to the start of the cut; muxers take it from the tag, and refuse one they cannot read."""
        for tags in (video.metadata, self._output.metadata):
            stated = tags.get("timecode")
            if stated is None:
                continue
            timeline = self._source.timeline
            begun = timeline.shift - self._source.begins if timeline.start is not None else Fraction(0)
            now = later(stated, begun, self._source.frame_rate or Fraction(25))
            if now is None:
                del tags["timecode"]
                rate = self._source.frame_rate or Fraction(25)
                why = f"it is none at {float(rate):.6g} frames per second"
                self._drop(f"the time code {stated}", why)
            else:
                tags["timecode"] = now

    @property
    def hidden(self) -> list[int]:
        """Numbers, from 0, of the output's subtitle tracks that players show only on request."""
        tracks = [stream.index for stream in self._output.streams if not is_cover(stream)]
        copies = [copy for copy in self._copies.values() if copy.source.type == "subtitle"]
        return [tracks.index(copy.target.index) for copy in copies if not copy.source.disposition & Disposition.default]

    def until(self, time: Fraction | None) -> None:
        """Write all packets up to ``time``, in seconds of the output; None for all that are left."""
        while (packet := self._next()) is not None:
            if time is not None and self._time(packet) > time:
                self._pending = packet
                break
            if not self._source.timeline.settled and packet.stream.type == "subtitle":
                self._held.append(packet)
            else:
                self._write(packet)
        held, self._held = self._held, []
        for packet in held:
            over = time is None or self._time(packet) + seconds(packet.duration or 0, packet.time_base) <= time
            if self._source.timeline.settled or over:
                self._write(packet)
            else:
                self._held.append(packet)
        if time is None:
            for what in late_streams(self._input):
                self._drop(what, "it begins later than FFmpeg looks for streams")

    def _next(self) -> Packet[Any] | None:
        packet, self._pending = self._pending, None
        while packet is None and self._source.queue is not None:
            packet = self._source.queue.get()
            if packet is None:
                return None
            if packet.stream_index not in self._copies:
                packet = None
        return packet

    def _carry_container(self) -> None:
        self._output.metadata.update(kept_tags(self._source.file_tags))
        for program in self._source.other_programs:
            if what := told_tags(program.tags):
                self._drop(f"{what} of another program", "the output has one")
        chapters = self._input.chapters()
        shift, end = self._source.timeline.taken, self._source.expected_end
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
        if chapters and not kept and self._source.timeline.start is None and end is None:
            self._drop("the chapters", "they end before the film begins")
        self._output.set_chapters(kept)

    def _add(self, stream: Any) -> None:
        """Add a stream to the output, or drop it with the reason."""
        context = stream.codec_context
        what = f"{stream.type} stream {stream.index}" + (f" ({context.name})" if context is not None else "")
        if stream.type == "data" and "timecode" in stream.metadata:
            log.info("%s: %s is a time code: it goes on as the tag `timecode`", self._source.name, what)
            return  # from this tag, the muxers of MOV and MP4 make a track
        if stream.type == "data" and stream.discard == Discard.all:
            return  # QuickTime's chapter titles: the chapters themselves are copied
        kind = self._output.format.name
        others = [self._input.streams[self._source.stream_index], *(one.source for one in self._copies.values())]
        refused = refusal(self._output, stream, others)
        if context is not None and lacks_parameters(stream):
            refused = "its parameters are not in the file"
        codec = _SUBTITLE_CODEC.get(kind)
        if not refused and is_cover(stream) and kind == "matroska":
            self._attach_cover(stream, what)
            return
        if not refused:
            copy = _CopiedStream(stream, add_copy(self._output, stream))
        elif context is not None and context.name in _TEXT_SUBTITLES and codec is not None:
            log.info("%s: %s becomes %s, which %s can hold", self._source.name, what, codec, kind)
            if context.name in _STYLED:
                why = f"{codec} holds text, italics and bold"
                self._drop(f"positions and other styles of {what}", why)
            target: Any = self._output.add_stream(codec)
            target.time_base = stream.time_base
            copy = _CopiedStream(stream, target, target.codec_context)
            # The decoder makes this header when opened; the encoder needs it before the file's header is written.
            context.open(strict=False)
            copy.converter.subtitle_header = context.subtitle_header
        else:
            self._drop(what, refused)
            return
        copy.target.metadata.update(kept_tags(stream.metadata, kind))
        copy.target.disposition = Disposition(stream.disposition)
        self._copies[stream.index] = copy

    def _attach_cover(self, stream: Stream, what: str) -> None:
        """Add a cover as an attachment, as Matroska stores it."""
        cover = self._source.queue.take(stream.index) if self._source.queue is not None else None
        if cover is None:
            self._drop(what, "its image could not be read")
            return
        codec = stream.codec_context.name
        name = stream.metadata.get("filename", f"cover.{'jpg' if codec == 'mjpeg' else codec}")
        kind = stream.metadata.get("mimetype", f"image/{'jpeg' if codec == 'mjpeg' else codec}")
        self._output.add_attachment(name, kind, bytes(cover))

    def _time(self, packet: Packet[Any]) -> Fraction:
        ticks = packet.dts if packet.dts is not None else packet.pts
        return Fraction(0) if ticks is None else seconds(ticks, packet.time_base) - self._source.timeline.taken

    def _write(self, packet: Packet[Any]) -> None:
        copy = self._copies[packet.stream_index]
        time = self._time(packet)
        if not self._cut(packet):
            return
        if packet.stream_index in self._undecodable:
            if not packet.is_keyframe:
                return
            self._undecodable.remove(packet.stream_index)
        written = packet
        if copy.converter is not None:
            try:
                converted = _converted(copy, packet)
            except FFmpegError:  # for example, text that is not UTF-8
                self._source.damage(f"a subtitle at {float(time):.3f} s does not decode")
                return
            if converted is None:
                return
            written = converted
        if copy.last is None and copy.source.type == "audio" and self._output.format.name in _COUNTING:
            self._say_late(copy, time)
        what = f"a packet of {copy.source.type} stream {copy.source.index}"
        if copy.loses_sync(written):
            self._source.damage(f"{what} is damaged")
            return
        copy.follow(written)
        written.stream = copy.target
        try:
            self._output.mux_one(written)
        except InvalidDataError:  # a broken packet that the demuxer did not notice
            self._source.damage(f"{what} is damaged")
        except ArgumentError:
            if not self.begun:
                raise
            self._source.damage(f"{self._output.format.name} does not take {what} at {float(time):.3f} s")
        self.begun = True

    def _say_late(self, copy: _CopiedStream, time: Fraction) -> None:
        if time > _LATE:
            what = f"the {float(time):.3f} s before audio stream {copy.source.index} begins"
            self._drop(what, f"{self._output.format.name} has no place for it")

    def _cut(self, packet: Packet[Any]) -> bool:
        """Shift a packet to the output's times, and cut subtitles to the selected part; False if nothing is left."""
        timeline = self._source.timeline
        tick = seconds(1, packet.time_base)
        begin = packet.pts if packet.pts is not None else packet.dts
        if begin is None:
            return timeline.start is None
        first = math.ceil(timeline.shift / tick) if timeline.start is not None else None
        last = math.ceil(timeline.end / tick) if timeline.end is not None else None
        if last is not None and begin >= last:
            return False
        cover = packet.stream.type == "video" and is_cover(packet.stream)
        if first is not None and begin < first and not cover:
            if packet.stream.type != "subtitle" or begin + (packet.duration or 0) <= first:
                return False
            packet.duration = (packet.duration or 0) - (first - begin)
            packet.pts = packet.dts = begin = first
        if last is not None and packet.stream.type == "subtitle":
            packet.duration = min(packet.duration or last - begin, last - begin)
        ticks = round(timeline.taken / tick)
        packet.pts = None if packet.pts is None else packet.pts - ticks
        packet.dts = None if packet.dts is None else packet.dts - ticks
        if cover and ticks:
            packet.pts = packet.dts = 0
        return True


def muxing(suffix: str, source: InputFile, *, sequence: bool) -> tuple[str | None, dict[str, str]]:
    """Choose FFmpeg's muxer for an output, or None for the suffix's own, and the muxer's options.

    Args:
        suffix: The output's, in lower case.
        source: The open input.
        sequence: Whether the output is several images.
    """
    kind, options = None, {}
    if suffix in STILL_IMAGES:
        kind, options = "image2", {} if sequence else {"update": "1"}
    elif suffix == ".y4m":
        kind, options = "yuv4mpegpipe", {"strict": "-1"}  # its newer forms: more than 8 bits, gray, 4:1:1
    elif suffix in (".mp4", ".m4v", ".mov"):
        # Start offsets are stored in the movie's time scale, by default only milliseconds.
        options = {"movie_timescale": "1000000"}
        if custom_tags(source.file_tags) and not source.covers:  # it would exclude a cover
            options["movflags"] = "use_metadata_tags"  # MP4 then stores tags of any name
        if source.time_base.numerator == 1:
            options["video_track_timescale"] = str(source.time_base.denominator)
    elif suffix in (".avi", ".mxf"):
        # They count frames: a shift, made because encoded sound begins before 0, would round to a whole frame.
        options = {"avoid_negative_ts": "disabled"}
    plays = read_plays(source.path)
    if plays is not None:
        looped = loop_options(suffix, plays)
        options |= looped
        if plays != 1 and not looped and suffix not in STILL_IMAGES:
            often = f"{plays} times" if plays else "again and again"
            log.info("%s plays %s: %s files do not say so", source.name, often, suffix)
    return kind, options


def _converted(copy: _CopiedStream, packet: Packet[Any]) -> Packet[Any] | None:
    """Convert one subtitle to the output's codec, with the same time."""
    subtitles = copy.source.codec_context.decode2(packet)
    if subtitles is None or not len(subtitles):
        return None
    converted: Packet[Any] = copy.converter.encode_subtitle(subtitles)
    converted.pts = converted.dts = packet.pts
    converted.duration = packet.duration
    converted.time_base = packet.time_base
    return converted
