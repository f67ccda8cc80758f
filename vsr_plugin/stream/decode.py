"""`decode`: the source of the pipeline. A file, images or standard input become frames in presentation order."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import av
from av.error import FFmpegError

from ..errors import DamagedInputError, InputError, UsageError
from ..frames import Frame
from .color import Reading, read_color
from .damage import Damage, Tally
from .decoder import open_decoder
from .deinterlace import deinterlaced, first_field, holds_one_field
from .ffmpeg_log import Errors
from .first_frame import FirstFrame
from .input import average_rate, has_no_clock, is_cover, seconds
from .planes import read_planes, readable
from .program import read_programs
from .reader import Reader
from .selection import Selection
from .sequence import ImageSequence
from .side_data import NAMES, read_side_data
from .still import READ, read_still
from .timeline import FrameClock, spread

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

    from .packets import PacketQueue
    from .timeline import Timeline

log = logging.getLogger(__name__)

# Codecs in which a picture says for sure whether others are made of it; HEVC only says it of its own temporal layer.
_TELLS_REFERENCES = ("h264", "mpeg1video", "mpeg2video", "mpeg4")
_FINER = 16


class Source(Iterator[Frame]):
    """An iterator of frames that closes its file when closed, and at the end.

    Args:
        path: What `open_input` takes.
        selection: Which frames, and how they are decoded.
        strict: Raise at the first damaged packet instead of counting it.
        form: FFmpeg's name of the format, where neither name nor content tells.
        keep_packets: Keep those of the other streams for `encode`, which copies them. The file then stays open until
            `release`, too, is called.
        cancelled: Asked before each packet, by the thread that reads: once it is true, there are no more frames.

    Attributes:
        width, height: Of a frame, in pixels.
        time_base: Of every frame, exact.
        frame_rate: Average, or None for a single picture.
        sample_aspect_ratio: Width : height of a pixel, or None.
        expected_frames: How many frames there will be, as far as the file tells; None if it does not.
        side_data: What the stream says of its pictures as a whole, FFmpeg's name → bytes (display_matrix, …).
        stream_index: Of the picture among the file's streams.
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
        InputError: nothing to decode here, or the picture is interlaced, or changes its size midway.
        DamagedInputError: with ``strict``, as soon as something does not decode.
    """

    def __init__(
        self,
        path: str | Path,
        selection: Selection | None = None,
        *,
        strict: bool = False,
        form: str | None = None,
        keep_packets: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.path = str(path)
        self.name = "standard input" if self.path == "-" else Path(self.path).name
        self._selection = selection or Selection()
        self._damage = Damage(self.name, strict=strict)
        self._reader = Reader(
            path,
            self.name,
            frame_rate=self._selection.frame_rate,
            form=form,
            keep_packets=keep_packets,
            damage=self._unread,
            cancelled=cancelled,
        )
        try:
            self._prepare(self._selection)
        except BaseException:
            self._reader.close()
            self._reader.release()
            raise
        self._cancelled = cancelled
        self._sequence = ImageSequence.find(path)
        self._files = 0  # of the sequence, so far
        self._tally: Tally | None = None
        self._errors: Errors | None = None
        self._said_changes: list[str] = []
        self.first = FirstFrame()
        self._stills: dict[int | None, dict[str, bytes]] = {}  # pts → what the bytes of an image say
        self._frames = self._read()

    def _prepare(self, selection: Selection) -> None:
        stream, context = self.stream, self.stream.codec_context
        self.width, self.height = context.width, context.height
        if selection.frame_rate and not has_no_clock(self.container):
            raise UsageError(
                f"Expected a frame rate for images and raw streams only: {self.name} has timestamps", frame_rate=None
            )
        self.frame_rate = selection.frame_rate or average_rate(stream)
        self.time_base, self._ticks = _ticks(stream)
        ratio = stream.sample_aspect_ratio  # of the container, or of the codec where that is silent
        self.sample_aspect_ratio = Fraction(ratio.numerator, ratio.denominator) if ratio else None
        self.side_data: dict[str, bytes] = {str(name): data for name, data in context.coded_side_data.items()}
        self._field_order = first_field(stream)
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
        self._limit = selection.frames
        self.expected_frames = self._expected_frames(start, duration)
        self._length = float(Fraction(self.container.duration or 0, 1_000_000))
        self.unread = self._reader.unread()

    def _origin(self) -> Fraction:
        return Fraction(self.container.start_time or 0, 1_000_000)

    def _expected_frames(self, start: Fraction | None, duration: Fraction | None) -> int | None:
        whole = None
        if self.container.duration:
            whole = Fraction(self.container.duration, 1_000_000)
        count: int | None = self.stream.frames or None
        if start is not None or duration is not None or count is None:
            if whole is None or self.frame_rate is None:
                return self._limit
            # From the frame that is seen at the start, as many as begin within the duration.
            count = max(round(whole * self.frame_rate) - math.floor((start or 0) * self.frame_rate), 0)
            if duration is not None:
                count = min(count, math.ceil(duration * self.frame_rate))
        return count if self._limit is None else min(count, self._limit)

    @property
    def container(self) -> InputContainer:
        """The open file."""
        return self._reader.container

    @property
    def stream(self) -> VideoStream:
        """The stream that is decoded."""
        return self._reader.stream

    @property
    def timeline(self) -> Timeline:
        """Where the file's packets stand in time, and what is taken off their timestamps."""
        return self._reader.timeline

    @property
    def queue(self) -> PacketQueue | None:
        """Packets of the other streams that have been read, with ``keep_packets``; else None."""
        return self._reader.queue

    @property
    def expected_end(self) -> Fraction | None:
        """Where the output ends, in seconds of the file's clock, as far as it can be known now; None for the end."""
        if self.timeline.settled or self._limit is None or self.frame_rate is None:
            return self.timeline.end
        counted = self.timeline.shift + self._limit / self.frame_rate
        return counted if self.timeline.end is None else min(counted, self.timeline.end)

    @property
    def shift(self) -> Fraction:
        """Seconds taken off every timestamp: 0, or the time of the first frame if ``start`` is given."""
        return self.timeline.shift

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Close the file, unless its packets are still to be copied; harmless when called again."""
        self._frames.close()
        self._reader.close()

    def release(self) -> None:
        """Let go of what ``keep_packets`` kept; harmless when called again."""
        self._reader.release()

    def _read(self) -> Generator[Frame]:
        timeline = self.timeline
        count = 0
        reached = Fraction(0)
        shift: int | None = None
        end: Fraction | None = None  # once it is reached
        try:
            for frame in self._from_start():
                time = frame.pts * self.time_base
                if count == self._limit and (timeline.end is None or time < timeline.end):
                    timeline.end = time
                if timeline.end is not None and time >= timeline.end:
                    end = timeline.end
                    self._reader.read_rest(end)
                    if self.frame_rate and time > reached + 1 / self.frame_rate:
                        self._reader.look_behind(time)
                    break
                if shift is None:
                    shift = frame.pts if timeline.start is not None else self._before_zero(frame)
                    timeline.shift = shift * self.time_base
                    self._keep_length()
                yield replace(frame, pts=frame.pts - shift) if shift else frame
                count += 1
                reached = time + frame.duration * self.time_base
            if count and not self._cancelled():
                if end is None and (count == self._limit or (timeline.end is not None and reached >= timeline.end)):
                    end = reached
                self._account(reached, end)
        finally:
            if self._tally is not None:
                self._tally.close()
            timeline.settled = True
            self._let_go()
        if count == 0 and not self.damaged:
            part = "in this file"
            if timeline.start is not None or timeline.end is not None:
                length = self._length
                part = "between the given times" + (
                    f", which count from the start of its {length:.3f} s" if length else ""
                )
            raise InputError(f"{self.name}: there are no frames {part}")
        if count == 0:
            raise DamagedInputError(f"{self.name}: not one frame of the video stream decodes")

    def _let_go(self) -> None:
        """Close the log and the file."""
        self._stop_listening()
        self._reader.close()

    def _stop_listening(self) -> None:
        if self._errors is not None:
            self._context.flush_buffers()  # a thread that logs waits for Python, which would wait for it
            self._errors.close()
            self._errors = None

    def _account(self, reached: Fraction, end: Fraction | None) -> None:
        """Count what did not come up to ``end``, or to that of the file if it is None."""
        lost = None
        if self._sequence is not None:
            lost = None if end is not None else self._sequence.lost_after(self._files)
        elif self._tally is not None and not self.damaged:
            lost = self._tally.lost(reached, end, joined=self.timeline.jumps > 0)
        if lost:
            self._damage.add(lost, ends=True)

    def _keep_length(self) -> None:
        """End as much earlier as the first frame, which is seen at the start, begins before it: less than a frame."""
        timeline = self.timeline
        if timeline.start is None or timeline.end is None or not self.frame_rate:
            return
        early = timeline.start - timeline.shift
        if 0 < early < 1 / self.frame_rate:
            timeline.end -= early

    def _before_zero(self, first: Frame) -> int:
        """How many ticks before 0 the file begins, as after a wrap of its clock; negative, or 0.

        Most containers hold no such times, and MP4 hides the frames.
        """
        earliest = min(self.begins, first.pts * self.time_base)
        if earliest >= 0:
            return 0
        log.warning("%s: begins at %.3f s: all its times are moved so that it begins at 0", self.name, earliest)
        return math.floor(earliest / self.time_base)

    def _from_start(self) -> Iterator[Frame]:
        """Frames from the one that is seen at the start on."""
        start = self.timeline.start
        if start is not None and self._reader.seekable:
            self._reader.seek(start)
        if start is None:
            yield from map(self._frame, self._decoded())
            return
        found = False
        for frame in self._seen_from(start):
            found = True
            yield frame
        if not found and self.queue is not None and self.timeline.may_leap and self._reader.seekable:
            # Where the clock jumps, seeking may land behind the jump, from where the start is never reached.
            self._reader.open_again()
            yield from self._seen_from(start)

    def _seen_from(self, start: Fraction) -> Iterator[Frame]:
        """Frames from the last that is not after ``start`` on, for durations may be wrong.

        MP4 tells how long a frame is in the order of decoding, which with B-frames and a variable rate is another's.
        """
        seen: av.VideoFrame | None = None
        begun = False
        for picture in self._decoded():
            if not begun:
                if picture.pts is not None and picture.pts * self.time_base <= start:
                    seen = picture
                    continue
                begun = True
                if seen is not None:
                    yield self._frame(seen)
            yield self._frame(picture)
        if not begun and seen is not None:
            last = self._frame(seen)
            if (last.pts + last.duration) * self.time_base > start:
                yield last

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Decoded frames with timestamps that rise, whole ones if they are to be deinterlaced."""
        step = round(1 / (self.frame_rate * self.time_base)) if self.frame_rate else 1
        clock = FrameClock(self.name, self.time_base, max(step, 1))
        pictures = self._pictures(clock)
        if self._ticks > 1:
            pictures = spread(pictures)
        pictures = self._stamped(pictures, clock)
        if not self._selection.deinterlace:
            return pictures
        return deinterlaced(pictures, self.time_base, self._field_order, flagged=bool(self.first.flagged))

    def _stamped(self, pictures: Iterator[av.VideoFrame], clock: FrameClock) -> Iterator[av.VideoFrame]:
        for picture in pictures:
            clock.stamp(picture)
            if picture.is_corrupt:
                self.damage(f"the frame at {self._clock(picture.pts)} is damaged", picture.pts)
            self._check(picture)
            if holds_one_field(picture, self.stream):
                raise InputError(
                    f"{self.name}: each of its frames is a single field, of half the height: weave them into whole "
                    "frames first (FFmpeg's filter weave)"
                )
            yield picture

    def _pictures(self, clock: FrameClock) -> Iterator[av.VideoFrame]:
        """Frames as the decoder gives them; damage is counted, or raised if strict."""
        self._stop_listening()  # to a decoder that began elsewhere
        self._tally = tally = self._new_tally()
        self._context = context = open_decoder(self.stream, self._selection.hwaccel)
        decoder = context.name  # once it could not be opened, PyAV must not be asked
        try:
            context.open(strict=False)
        except FFmpegError as error:
            what = f"the decoder {decoder} does not take what the header says ({error.strerror})"
            raise DamagedInputError(f"{self.name}: {what}") from error
        # The demuxer of image sequences reports files that are missing, which is known.
        names = {decoder} if self._sequence is not None else {decoder, self.container.format.name}
        self._errors = errors = Errors(names)
        skips = not self._selection.deinterlace and context.codec.canonical_name in _TELLS_REFERENCES
        start = self.timeline.start
        latest: int | None = None  # of the packets so far
        begun, known = False, 0
        images = has_no_clock(self.container) and context.codec.canonical_name in READ
        for packet in self._packets(tally):
            if images and packet.size:
                self._stills[packet.pts] = read_still(bytes(packet))
            if skips and start is not None:
                # Before a frame that is not after the start, nobody sees this one: it is decoded for others alone.
                later = latest is not None and packet.pts is not None and packet.pts < latest
                unseen = later and latest is not None and latest * self.time_base <= start
                context.skip_frame = "NONREF" if unseen else "DEFAULT"
                if packet.pts is not None and not later:
                    latest = packet.pts
            clock.feed(packet)
            try:
                pictures = context.decode(packet if packet.size else None)
            except EOFError:
                break
            except FFmpegError as error:
                clock.give_up()
                said = errors.take() or error.strerror
                self.damage(f"a packet near {self._clock(packet.pts)} does not decode ({said})", packet.pts)
                known = self.damaged
                continue
            for picture in pictures:
                tally.frame(None if picture.pts is None else picture.pts // self._ticks)
                yield picture
            begun = begun or packet.is_keyframe  # what is before the first key frame was cut off from its own
            if (said := errors.take()) and begun and self.damaged == known:
                near = f" near {self._clock(packet.pts)}" if packet.size else ""
                self.damage(f"FFmpeg reports an error{near} ({said})", packet.pts)
            known = self.damaged

    def _new_tally(self) -> Tally:
        return Tally(self.path, self.container, self.stream, self.frame_rate, self.timeline.start)

    def _packets(self, tally: Tally) -> Iterator[Any]:
        """Packets of the video stream in ticks of ``time_base``; those of the others are kept in the queue."""
        for packet in self._reader.packets():
            if not packet.size and packet.dts is not None:
                continue  # the frame before is shown on, as in Theora and AVI: an empty packet would end the decoder
            if packet.has_sidedata("encryption_info"):
                raise InputError(f"{self.name} is encrypted: decrypt it first")
            if packet.size and packet.pts is not None:
                self._files = packet.pts + 1
            if broken := tally.packet(packet):
                self.damage(broken)
            if packet.is_corrupt:
                self.damage(f"the packet near {self._clock(packet.pts)} is cut short")
            if self._ticks > 1:
                packet.pts = None if packet.pts is None else packet.pts * self._ticks
                packet.dts = None if packet.dts is None else packet.dts * self._ticks
                packet.duration = (packet.duration or 0) * self._ticks
            yield packet
        yield av.Packet()  # after an error, too, what the decoder still holds comes out

    @property
    def damaged(self) -> int:
        """In how many places something is lost or does not decode cleanly, so far."""
        return self._damage.count

    def _unread(self, what: str) -> None:
        if self._sequence is None:  # which says it with the file's name
            self._damage.add(what, ends=True)

    def damage(self, what: str, pts: int | None = None) -> None:
        """Count something that does not decode cleanly, or raise DamagedInputError if strict.

        Args:
            what: In words.
            pts: Of the frame or packet, in ticks of the file's clock, if it is one.
        """
        self._damage.add(what)

    def _clock(self, pts: int | None) -> str:
        return "an unknown time" if pts is None else f"{float(pts * self.time_base):.3f} s"

    def _frame(self, picture: av.VideoFrame) -> Frame:
        if (picture.interlaced_frame or self._field_order) and not self._selection.deinterlace:
            since = "" if self.first.reading is None else f" from {self._clock(picture.pts)} on"
            raise InputError(
                f"{self.name} is interlaced{since}: two fields would be enlarged as one frame", deinterlace=True
            )
        side_data = read_side_data(picture, self.stream.codec_context.codec.canonical_name, NAMES)
        side_data |= self._stills.pop(picture.pts, {})
        picture = readable(picture)
        color, guesses = read_color(picture, self._selection.matrix, self._selection.range)
        if self.first.reading is None and guesses:
            log.info("%s does not say how its colors are stored: read as %s", self.name, " in ".join(guesses))
        assert picture.pts is not None
        step = round(1 / (self.frame_rate * self.time_base)) if self.frame_rate else 0
        frame = Frame(read_planes(picture), picture.pts, self.time_base, picture.duration or step, color, side_data)
        frame = replace(frame, sample_aspect_ratio=self.sample_aspect_ratio)
        if self.first.reading is None:
            self.first.reading, self.first.assumed = Reading(color, len(frame.planes)), tuple(guesses)
        elif changes := self.first.reading.changes(frame):
            frame = self._stored_as_first(frame, changes)
        return frame

    def _stored_as_first(self, frame: Frame, changes: list[str]) -> Frame:
        """A frame whose tags differ from the first one's, converted to them.

        Raises:
            InputError: no conversion leaves the colors what they are.
        """
        assert self.first.reading is not None
        what = f"changes its {', '.join(changes)} at {self._clock(frame.pts)}"
        try:
            stored = self.first.reading.store(frame)
        except UsageError as error:
            raise self._cut_there(what) from error
        if changes != self._said_changes:
            self._said_changes = changes
            log.warning("%s %s: converted to what the first frame has", self.name, what)
        return stored

    def _cut_there(self, what: str) -> InputError:
        return InputError(f"{self.name} {what}: cut the file there and enlarge the parts")

    def _check(self, picture: av.VideoFrame) -> None:
        """Size and pixel aspect ratio stay those of the first frame.

        Raises:
            InputError: they do not.
        """
        ratio = self._context.sample_aspect_ratio
        change = self.first.changes(picture, Fraction(ratio.numerator, ratio.denominator) if ratio else None)
        assert self.first.size is not None
        self.width, self.height = self.first.size
        if change is None:
            return
        now, before = f"{picture.width}×{picture.height}", f"{self.width}×{self.height}"
        if self._sequence is not None and picture.pts is not None and now != before:
            file = self._sequence.name(self._sequence.numbers[0] + picture.pts)
            raise InputError(f"{file} is {now}, those before it are {before}: give all images one size")
        raise self._cut_there(f"changes its {change} at {self._clock(picture.pts)}")


def _ticks(stream: Any) -> tuple[Fraction, int]:
    """The time base of the frames, and how many of its ticks make one of the stream's.

    That is several where frames may be closer than the container's clock can tell apart.
    """
    time_base = Fraction(stream.time_base.numerator, stream.time_base.denominator)
    rates = [rate for rate in (stream.average_rate, stream.guessed_rate) if rate]
    fastest = max((Fraction(rate.numerator, rate.denominator) for rate in rates), default=Fraction(0))
    ticks = _FINER if time_base == Fraction(1, 1000) and fastest > 500 else 1
    return time_base / ticks, ticks
