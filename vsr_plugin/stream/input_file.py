"""`InputFile`: a file that is open for reading, what it says of itself, and what turns out to be damaged in it."""

from __future__ import annotations

import logging
import math
from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av

from ..errors import InputError, UsageError
from .crop import Crop
from .damage import Tally
from .deinterlace import first_field
from .first_frame import FirstFrame
from .input import average_rate, has_no_clock, input_name, is_cover, seconds
from .program import read_programs
from .reader import Reader
from .sequence import ImageSequence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

    from .damage import Damage
    from .packets import PacketQueue
    from .selection import Selection
    from .timeline import Timeline

log = logging.getLogger(__name__)

_FINER = 16


class InputFile:
    """An open file, its facts, and the packets of the video stream that is decoded.

    Args:
        path: What `open_input` takes.
        selection: Which frames, and how they are decoded.
        damage: Counts what is lost, and says or raises it.
        form: FFmpeg's name of the format, where neither name nor content tells.
        keep_packets: Keep those of the other streams in ``queue``. The file then stays open until `release`, too, is
            called.
        every_stream: Read the packets of all streams, which tell where the clock jumps, and drop what is not kept.
        cancelled: Asked before each packet, by the thread that reads: once it is true, there are no more.

    Attributes:
        path: As given.
        name: What messages call it.
        selection: As given.
        reader: Its packets in the order of the file.
        sequence: The files of an image sequence; None for anything else.
        limit: How many frames are asked for; None for all.
        time_base: Of every frame, exact.
        ticks: How many of them make one of the stream's.
        frame_rate: Average, or None for a single image.
        sample_aspect_ratio: Width : height of a pixel, or None.
        expected_frames: How many frames there will be, as far as the file tells; None if it does not.
        crop: What the container cuts off the frames that are decoded.
        side_data: What the stream says of its frames as a whole, FFmpeg's name → bytes (display_matrix, …).
        field_order: ``tff`` or ``bff`` where the header says that its frames are made of fields; else None.
        stream_index: Of the video stream among the file's streams.
        companions: What other streams there are, in words; empty if none.
        covers: How many of them are attached pictures.
        disposition: Of the stream.
        tags: Of the stream.
        file_tags: Of the file, and of the stream's program.
        has_chapters: Whether the file has chapters.
        other_programs: Those that the stream is not in, of a transport stream.
        unread: What the file says that FFmpeg does not read, in words; found with ``keep_packets`` only.
        begins: When the first of the file's sound and frames begins, in seconds of its clock.
        first: What the first frame decides, once it is decoded.

    Raises:
        InputError: there is no video stream in it.
        UsageError: a frame rate for a file that has timestamps.
    """

    def __init__(
        self,
        path: str | Path,
        selection: Selection,
        damage: Damage,
        *,
        form: str | None = None,
        keep_packets: bool = False,
        every_stream: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.path = str(path)
        self.name = input_name(path)
        self.selection = selection
        self.sequence = ImageSequence.find(path)
        self.first = FirstFrame()
        self._damage = damage
        self._files = 0  # of the sequence, so far
        self.reader = Reader(
            path,
            self.name,
            frame_rate=selection.frame_rate,
            form=form,
            keep_packets=keep_packets,
            every_stream=every_stream,
            damage=self._unread,
            cancelled=cancelled,
        )
        try:
            self._prepare(selection)
        except BaseException:
            self.reader.close()
            self.reader.release()
            raise

    def _prepare(self, selection: Selection) -> None:
        stream, context = self.stream, self.stream.codec_context
        if selection.frame_rate and not has_no_clock(self.container):
            raise UsageError(
                f"Expected a frame rate for images and raw streams only: {self.name} has timestamps", frame_rate=None
            )
        self.frame_rate = selection.frame_rate or average_rate(stream)
        self.time_base, self.ticks = _ticks(stream)
        ratio = stream.sample_aspect_ratio  # of the container, or of the codec where that is silent
        self.sample_aspect_ratio = Fraction(ratio.numerator, ratio.denominator) if ratio else None
        self.crop = Crop.of(stream)
        self.side_data: dict[str, bytes] = {str(name): data for name, data in context.coded_side_data.items()}
        self.field_order = first_field(stream)
        self.stream_index = stream.index
        self.disposition = stream.disposition
        others = [other for other in self.container.streams.video if other is not stream and not is_cover(other)]
        if others:
            log.info("%s: video stream %d is enlarged, the %d other copied", self.name, stream.index, len(others))
        self.covers = sum(is_cover(other) for other in self.container.streams if other is not stream)
        self.companions = " and ".join(
            f"{count} {kind} stream{'s' * (count > 1)}"
            for kind, count in Counter(other.type for other in self.container.streams if other is not stream).items()
        )
        self.tags = dict(stream.metadata)
        self.file_tags = dict(self.container.metadata)
        self.has_chapters = bool(self.container.chapters())
        self.other_programs = []
        for program in read_programs(self.container):
            if stream.index in program.streams:
                self.file_tags.update(program.tags)
            else:
                self.other_programs.append(program)
        starts = [
            seconds(one.start_time, one.time_base)
            for one in self.container.streams
            if one.type in ("audio", "video") and one.start_time is not None and not is_cover(one)
        ]
        self.begins = min(starts, default=Fraction(0))
        start, duration = selection.start, selection.duration
        self.timeline.start = None if start is None else self._origin() + start
        self.timeline.end = None if duration is None else (self.timeline.start or self._origin()) + duration
        self.timeline.settled = selection.frames is None
        self.limit = selection.frames
        self.expected_frames = self._expected_frames(start, duration)
        self.unread = self.reader.unread()

    def _origin(self) -> Fraction:
        return Fraction(self.container.start_time or 0, 1_000_000)

    def _expected_frames(self, start: Fraction | None, duration: Fraction | None) -> int | None:
        whole = None
        if self.container.duration:
            whole = Fraction(self.container.duration, 1_000_000)
        count: int | None = self.stream.frames or None
        if start is not None or duration is not None or count is None:
            if whole is None or self.frame_rate is None:
                return self.limit
            # From the frame that is seen at the start, as many as begin within the duration.
            count = max(round(whole * self.frame_rate) - math.floor((start or 0) * self.frame_rate), 0)
            if duration is not None:
                count = min(count, math.ceil(duration * self.frame_rate))
        return count if self.limit is None else min(count, self.limit)

    @property
    def width(self) -> int:
        """Of a frame, in pixels: as the header says until the first frame is decoded."""
        return self._size[0]

    @property
    def height(self) -> int:
        """As `width`."""
        return self._size[1]

    @property
    def _size(self) -> tuple[int, int]:
        context = self.stream.codec_context
        return self.crop.size(*(self.first.size or (context.width, context.height)))

    @property
    def container(self) -> InputContainer:
        """The open file."""
        return self.reader.container

    @property
    def stream(self) -> VideoStream:
        """The stream that is decoded."""
        return self.reader.stream

    @property
    def timeline(self) -> Timeline:
        """Where the file's packets stand in time, and what is taken off their timestamps."""
        return self.reader.timeline

    @property
    def queue(self) -> PacketQueue | None:
        """Packets of the other streams that have been read, with ``keep_packets``; else None."""
        return self.reader.queue

    @property
    def expected_end(self) -> Fraction | None:
        """Where the output ends, in seconds of the file's clock, as far as it can be known now; None for the end."""
        if self.timeline.settled or self.limit is None or self.frame_rate is None:
            return self.timeline.end
        counted = self.timeline.shift + self.limit / self.frame_rate
        return counted if self.timeline.end is None else min(counted, self.timeline.end)

    @property
    def shift(self) -> Fraction:
        """Seconds taken off every timestamp: 0, or the time of the first frame if ``start`` is given."""
        return self.timeline.shift

    def close(self) -> None:
        """Close the file, unless its packets are still to be copied; harmless when called again."""
        self.reader.close()

    def release(self) -> None:
        """Drop what ``keep_packets`` kept; harmless when called again."""
        self.reader.release()

    def begin(self, pts: int) -> None:
        """Let the output begin with the frame of this timestamp, in ticks of ``time_base``.

        It ends as much earlier as that frame, which is seen at the start, begins before it: less than a frame.
        """
        timeline = self.timeline
        timeline.shift = pts * self.time_base
        if timeline.start is None or timeline.end is None or not self.frame_rate:
            return
        early = timeline.start - timeline.shift
        if 0 < early < 1 / self.frame_rate:
            timeline.end -= early

    def new_tally(self) -> Tally:
        """What the file says it holds, to be compared with what comes from here on."""
        return Tally(self.path, self.container, self.stream, self.frame_rate, self.timeline.start)

    def packets(self, tally: Tally | None = None) -> Iterator[Packet[Any]]:
        """Packets of the video stream in ticks of ``time_base``, an empty one at the end.

        Args:
            tally: Notes them.
        """
        for packet in self.reader.packets():
            if not packet.size and packet.dts is not None:
                continue  # the frame before is shown on, as in Theora and AVI: an empty packet would end the decoder
            if packet.has_sidedata("encryption_info"):
                raise InputError(f"{self.name} is encrypted: decrypt it first")
            if packet.size and packet.pts is not None:
                self._files = packet.pts + 1
            if tally is not None and (broken := tally.packet(packet)):
                self.damage(broken)
            if packet.is_corrupt:
                self.damage(f"the packet near {self.clock(packet.pts)} is cut short")
            if self.ticks > 1:
                packet.pts = None if packet.pts is None else packet.pts * self.ticks
                packet.dts = None if packet.dts is None else packet.dts * self.ticks
                packet.duration = (packet.duration or 0) * self.ticks
            yield packet
        yield av.Packet()  # after an error, too, what the decoder still holds comes out

    def stop(self) -> None:
        """Let there be no more packets, also where a pipe is waited for; from any thread."""
        self.reader.stop()

    @property
    def damaged(self) -> int:
        """In how many places something is lost or does not decode cleanly, so far."""
        return self._damage.count

    def _unread(self, what: str) -> None:
        if self.sequence is None:  # which says it with the file's name
            self._damage.add(what, ends=True)

    def damage(self, what: str, pts: int | None = None) -> None:
        """Count something that does not decode cleanly, or raise DamagedInputError if strict.

        Args:
            what: In words.
            pts: Of the frame or packet, in ticks of the file's clock, if it is one.
        """
        self._damage.add(what, pts)

    def clock(self, pts: int | None) -> str:
        """A timestamp in ticks of ``time_base``, for messages."""
        return "an unknown time" if pts is None else f"{float(pts * self.time_base):.3f} s"

    def account(self, tally: Tally, reached: Fraction, end: Fraction | None) -> None:
        """Count what did not come, when reading is over.

        Args:
            tally: What did come.
            reached: Where the last frame ends, in seconds of the file's clock.
            end: Where the part asked for ends, if that was reached; None for the end of the file.
        """
        lost = None
        if self.sequence is not None:
            lost = None if end is not None else self.sequence.lost_after(self._files)
        elif not self.damaged:
            lost = tally.lost(reached, end, joined=self.timeline.jumps > 0)
        if lost:
            self._damage.add(lost, ends=True)


def _ticks(stream: Any) -> tuple[Fraction, int]:
    """The time base of the frames, and how many of its ticks make one of the stream's.

    That is several where frames may be closer than the container's clock can tell apart.
    """
    time_base = Fraction(stream.time_base.numerator, stream.time_base.denominator)
    rates = [rate for rate in (stream.average_rate, stream.guessed_rate) if rate]
    fastest = max((Fraction(rate.numerator, rate.denominator) for rate in rates), default=Fraction(0))
    ticks = _FINER if time_base == Fraction(1, 1000) and fastest > 500 else 1
    return time_base / ticks, ticks
