"""`InputFile`: a file open for reading, its properties, and the damage found in it."""

from __future__ import annotations

import logging
import math
from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av

from ..errors import InputError, UsageError
from .containers.matroska_header import unread
from .crop import Crop
from .damage import Tally
from .deinterlace import first_field
from .first_frame import FirstFrame
from .input import average_rate, has_no_clock, input_name, is_cover, seconds
from .program import read_programs
from .reader import Reader
from .sequence import ImageSequence
from .stills.heif import read_pixel_aspect

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
    """An open file, its properties, and the packets of the video stream that is decoded.

    Args:
        path: What `open_input` takes.
        selection: Which frames to take, and how to decode them.
        damage: Counts losses, and logs or raises them.
        form: FFmpeg's name of the format, if neither name nor content shows it.
        keep_packets: Keep the packets of the other streams in ``queue``. The file then stays open until `release` is
            called, too.
        every_stream: Read the packets of all streams, which show where the clock jumps, and drop those not kept.
        cancelled: Called before each packet by the thread that reads; once it returns True, there are no more packets.

    Attributes:
        path: The given path.
        name: Name of the input, for messages.
        selection: The given selection.
        reader: Reads the packets in the order of the file.
        sequence: The files of an image sequence; None for anything else.
        limit: Number of frames requested; None for all.
        time_base: Exact time base of the frames.
        ticks: Number of its ticks in one tick of the stream.
        frame_rate: Average frame rate; None for a single image.
        sample_aspect_ratio: Width : height of a pixel, or None.
        expected_frames: Expected number of frames, as the file states it; None if unknown.
        crop: What the container crops off the decoded frames.
        side_data: Side data of the whole stream, FFmpeg's name → bytes (display_matrix, …).
        field_order: ``tff`` or ``bff`` if the header says that its frames consist of fields; else None.
        stream_index: Index of the video stream in the file.
        companions: Description of the other streams; empty if there are none.
        covers: Number of attached pictures among them.
        disposition: Disposition of the video stream.
        tags: Tags of the video stream.
        file_tags: Tags of the file, and of the stream's program.
        has_chapters: Whether the file has chapters.
        other_programs: Programs of a transport stream that do not contain the video stream.
        unread: Descriptions of what FFmpeg does not read from the file; only with ``keep_packets``.
        begins: Start of the file's earliest sound or frame, in seconds of its clock.
        first: Properties of the first frame, set when it is decoded.

    Raises:
        InputError: the file has no video stream.
        UsageError: a frame rate is given for a file with timestamps.
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
        self._files = 0  # number of files of the sequence so far
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
        ratio = stream.sample_aspect_ratio  # the container's, or else the codec's
        self.sample_aspect_ratio = Fraction(ratio.numerator, ratio.denominator) if ratio else None
        with self.reader.header() as header:
            form = self.container.format.name
            self.unread = unread(header) if self.queue is not None and "matroska" in form else []
            if "mov" in form:
                self.sample_aspect_ratio = read_pixel_aspect(header) or self.sample_aspect_ratio
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
            # From the frame shown at the start on, all frames that begin within the duration.
            count = max(round(whole * self.frame_rate) - math.floor((start or 0) * self.frame_rate), 0)
            if duration is not None:
                count = min(count, math.ceil(duration * self.frame_rate))
        return count if self.limit is None else min(count, self.limit)

    @property
    def width(self) -> int:
        """Width of a frame, in pixels; taken from the header until the first frame is decoded."""
        return self._size[0]

    @property
    def height(self) -> int:
        """Height of a frame, like `width`."""
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
        """The times of the file's packets, and the shift subtracted from their timestamps."""
        return self.reader.timeline

    @property
    def queue(self) -> PacketQueue | None:
        """Packets of the other streams that have been read, with ``keep_packets``; else None."""
        return self.reader.queue

    @property
    def expected_end(self) -> Fraction | None:
        """Where the output ends, in seconds of the file's clock, as estimated so far; None for the end of the file."""
        if self.timeline.settled or self.limit is None or self.frame_rate is None:
            return self.timeline.end
        counted = self.timeline.shift + self.limit / self.frame_rate
        return counted if self.timeline.end is None else min(counted, self.timeline.end)

    @property
    def shift(self) -> Fraction:
        """Seconds subtracted from every timestamp: 0, or the time of the first frame if ``start`` is given."""
        return self.timeline.shift

    def close(self) -> None:
        """Close the file, unless its packets are still to be copied; may be called again."""
        self.reader.close()

    def release(self) -> None:
        """Drop the packets that ``keep_packets`` kept; may be called again."""
        self.reader.release()

    def begin(self, pts: int) -> None:
        """Make the output begin with the frame of this timestamp, in ticks of ``time_base``.

        If that frame begins before the selected start, by less than a frame, the output ends as much earlier.
        """
        timeline = self.timeline
        timeline.shift = pts * self.time_base
        if timeline.start is None or timeline.end is None or not self.frame_rate:
            return
        early = timeline.start - timeline.shift
        if 0 < early < 1 / self.frame_rate:
            timeline.end -= early

    def new_tally(self) -> Tally:
        """Return a new tally, which compares what is read from here on with what the file states."""
        return Tally(self.path, self.container, self.stream, self.frame_rate, self.timeline.start)

    def packets(self, tally: Tally | None = None) -> Iterator[Packet[Any]]:
        """Yield the packets of the video stream in ticks of ``time_base``, and an empty one at the end.

        Args:
            tally: Counts them.
        """
        for packet in self.reader.packets():
            if not packet.size and packet.dts is not None:
                continue  # repeats a frame, as in Theora and AVI; an empty packet would end the decoder
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
        yield av.Packet()  # makes the decoder return its last frames, even after an error

    def stop(self) -> None:
        """Stop reading packets, even while waiting for a pipe; may be called from any thread."""
        self.reader.stop()

    @property
    def damaged(self) -> int:
        """Number of places so far where something is lost or does not decode cleanly."""
        return self._damage.count

    def _unread(self, what: str) -> None:
        if self.sequence is None:  # a sequence reports it with the name of the file
            self._damage.add(what, ends=True)

    def damage(self, what: str, pts: int | None = None) -> None:
        """Count something that does not decode cleanly, or raise DamagedInputError if strict.

        Args:
            what: Description of the damage.
            pts: Timestamp of the damaged frame or packet, if any, in ticks of the file's clock.
        """
        self._damage.add(what, pts)

    def clock(self, pts: int | None) -> str:
        """Format a timestamp in ticks of ``time_base`` for messages."""
        return "an unknown time" if pts is None else f"{float(pts * self.time_base):.3f} s"

    def account(self, tally: Tally, reached: Fraction, end: Fraction | None) -> None:
        """Count what was lost, when reading is over.

        Args:
            tally: Tally of what was read.
            reached: Where the last frame ends, in seconds of the file's clock.
            end: Where the selected part ends, if that was reached; None for the end of the file.
        """
        lost = None
        if self.sequence is not None:
            lost = None if end is not None else self.sequence.lost_after(self._files)
        elif not self.damaged:
            lost = tally.lost(reached, end, joined=self.timeline.jumps > 0)
        if lost:
            self._damage.add(lost, ends=True)


def _ticks(stream: Any) -> tuple[Fraction, int]:
    """Return the time base of the frames, and the number of its ticks in one tick of the stream.

    The number is above 1 if frames may follow each other faster than the container's clock ticks.
    """
    time_base = Fraction(stream.time_base.numerator, stream.time_base.denominator)
    rates = [rate for rate in (stream.average_rate, stream.guessed_rate) if rate]
    fastest = max((Fraction(rate.numerator, rate.denominator) for rate in rates), default=Fraction(0))
    ticks = _FINER if time_base == Fraction(1, 1000) and fastest > 500 else 1
    return time_base / ticks, ticks
