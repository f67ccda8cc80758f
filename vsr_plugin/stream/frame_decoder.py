"""`FrameDecoder`: decodes the frames of an open file."""

from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from av.error import FFmpegError

from ..device import torch_threads
from ..errors import DamagedInputError, InputError, UsageError
from ..frames import Frame
from .color import Reading, read_color
from .decoder import open_decoder
from .deinterlace import deinterlaced, holds_one_field
from .ffmpeg_log import Errors
from .input import has_no_clock
from .planes import read_planes, readable
from .side_data import LASTING, NAMES, read_side_data
from .silent_colors import SilentColors
from .stills.still import READ, read_still
from .timeline import FrameClock, spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    import av

    from .damage import Tally
    from .input_file import InputFile

log = logging.getLogger(__name__)

# Codecs in which a frame states reliably whether others refer to it; HEVC states it only for its own temporal layer.
_TELLS_REFERENCES = ("h264", "mpeg1video", "mpeg2video", "mpeg4")
# Codecs in which a frame is shown at the latest when the next reference frame is decoded. This delay identifies the
# packets whose frames are lost after a seek, because they refer to frames before it.
_HOLD_ONE = ("mpeg1video", "mpeg2video", "mpeg4")
_DELAY = 2  # packets
# A decoder that attaches side data only to the frame of its packet; by the standard, it lasts until the next key frame.
_TELLS_ONCE = "h264"


class FrameDecoder:
    """Decodes a file once, from the position of its reader.

    Args:
        file: File to decode; damage is reported to it.
        tally: Counts packets and frames; closed by `close`.
    """

    def __init__(self, file: InputFile, tally: Tally | None = None) -> None:
        self._file = file
        self._first = file.first
        self._tally = tally
        self._step = round(1 / (file.frame_rate * file.time_base)) if file.frame_rate else 0  # ticks between frames
        self._context: av.VideoCodecContext | None = None
        self._errors: Errors | None = None  # logged by FFmpeg
        self._said_changes: list[str] = []
        self._stills: dict[int | None, dict[str, bytes]] = {}  # pts → side data read from the bytes of an image
        self._lasting: list[tuple[int, dict[str, bytes]]] = []  # pts → side data of all frames from there on

    def close(self) -> None:
        """Stop decoding; the file stays open. May be called again."""
        if self._errors is not None and self._context is not None:
            self._context.flush_buffers()  # avoids a deadlock: threads that log wait for the GIL
            self._errors.close()
            self._errors = None
        if self._tally is not None:
            self._tally.close()

    def frames(self) -> Iterator[av.VideoFrame]:
        """Decode the frames, with increasing timestamps; deinterlaced, if the selection asks for it.

        Raises:
            DamagedInputError: the decoder does not take the header; with ``strict``, at the first damage.
            InputError: the frames change their size or pixel aspect ratio, or are single fields.
        """
        file = self._file
        delay = _DELAY if file.stream.codec_context.codec.canonical_name in _HOLD_ONE else None
        stated = file.container.format.name != "avi"
        clock = FrameClock(file.name, file.time_base, max(self._step, 1), delay, stated=stated)
        frames = self._decoded(clock)
        if file.ticks > 1:
            frames = spread(frames)
        frames = self._stamped(frames, clock)
        if not file.selection.deinterlace:
            return frames
        return deinterlaced(frames, file.time_base, file.field_order, flagged=bool(self._first.flagged))

    def _stamped(self, frames: Iterator[av.VideoFrame], clock: FrameClock) -> Iterator[av.VideoFrame]:
        for frame in frames:
            clock.stamp(frame)
            if frame.is_corrupt:
                self._file.damage(f"the frame at {self._file.clock(frame.pts)} is damaged", frame.pts)
            self._check(frame)
            self._note_lasting(frame)
            if holds_one_field(frame, self._file.stream):
                raise InputError(
                    f"{self._file.name}: each of its frames is a single field, of half the height: weave them into "
                    "whole frames first (FFmpeg's filter weave)"
                )
            yield frame

    def _note_lasting(self, frame: av.VideoFrame) -> None:
        codec = self._file.stream.codec_context.codec.canonical_name
        if codec != _TELLS_ONCE or frame.pts is None:
            return
        before = self._lasting[-1][1] if self._lasting else {}
        now = ({} if frame.key_frame else before) | read_side_data(frame, codec, LASTING)
        if now != before:
            self._lasting.append((frame.pts, now))

    def _open(self) -> tuple[av.VideoCodecContext, Errors]:
        file = self._file
        self._context = context = open_decoder(file.stream, file.selection.hwaccel)
        self._silent = SilentColors(file, context)
        decoder = context.name  # after a failed `open`, PyAV must not be asked for it
        try:
            context.open(strict=False)
        except FFmpegError as error:
            what = f"the decoder {decoder} does not take what the header says ({error.strerror})"
            raise DamagedInputError(f"{file.name}: {what}") from error
        # The demuxer's errors are left out for image sequences, where missing files are known, and for parts of a film,
        # where they are reported when the film is read as a whole.
        part = file.sequence is not None or self._tally is None
        names = {decoder} if part else {decoder, file.container.format.name}
        self._errors = errors = Errors(names)
        return context, errors

    def _decoded(self, clock: FrameClock) -> Iterator[av.VideoFrame]:
        """Yield the frames as the decoder returns them; damage is counted, or raised if strict."""
        file = self._file
        context, errors = self._open()
        skips = not file.selection.deinterlace and context.codec.canonical_name in _TELLS_REFERENCES
        start = file.timeline.start
        latest: int | None = None  # latest timestamp of the packets so far
        begun, known = False, 0
        fed: int | None = None  # timestamp of the last packet
        images = has_no_clock(file.container) and context.codec.canonical_name in READ
        for packet in file.packets(self._tally):
            if images and packet.size:
                self._stills[packet.pts] = read_still(bytes(packet), context.codec.canonical_name)
            if skips and start is not None:
                # A frame shown before another that is not after the start is not output: decode it only as a reference.
                later = latest is not None and packet.pts is not None and packet.pts < latest
                unseen = later and latest is not None and latest * file.time_base <= start
                context.skip_frame = "NONREF" if unseen else "DEFAULT"
                if packet.pts is not None and not later:
                    latest = packet.pts
            clock.feed(packet)
            self._silent.feed(packet)
            fed = packet.pts if packet.size else fed
            try:
                frames = context.decode(packet if packet.size else None)
            except EOFError:
                break
            except FFmpegError as error:
                clock.give_up()
                said = errors.take() or error.strerror
                file.damage(f"a packet near {file.clock(packet.pts)} does not decode ({said})", packet.pts)
                known = file.damaged
                continue
            for frame in frames:
                self._silent.clear(frame)
                if self._tally is not None:
                    self._tally.frame(None if frame.pts is None else frame.pts // file.ticks)
                yield frame
            begun = begun or packet.is_keyframe  # frames before the first key frame lack their references
            if (said := errors.take()) and begun and file.damaged == known:
                near = f" near {file.clock(packet.pts)}" if packet.size else ""
                file.damage(f"FFmpeg reports an error{near} ({said})", fed)
            known = file.damaged

    @torch_threads(1)  # more threads would spin, and take processor time from the network
    def read(self, decoded: av.VideoFrame) -> Frame:
        """Read a frame's samples, color and side data.

        Raises:
            InputError: the frame is interlaced, or its colors change and cannot be converted or are unknown.
        """
        file, first = self._file, self._first
        if (decoded.interlaced_frame or file.field_order) and not file.selection.deinterlace:
            since = "" if first.reading is None else f" from {file.clock(decoded.pts)} on"
            raise InputError(
                f"{file.name} is interlaced{since}: two fields would be enlarged as one frame", deinterlace=True
            )
        at = decoded.pts
        assert at is not None
        if self._silent.is_mistaken(decoded):
            raise self._cut_there(f"changes from RGB to YUV at {file.clock(at)}")
        side_data = next((data for pts, data in reversed(self._lasting) if pts <= at), {})
        side_data = side_data | read_side_data(decoded, file.stream.codec_context.codec.canonical_name, NAMES)
        side_data |= self._stills.pop(at, {})
        decoded = readable(decoded)
        color, guesses = read_color(decoded, file.selection.matrix, file.selection.range)
        if first.reading is None and guesses:
            log.info("%s does not say how its colors are stored: read as %s", file.name, " in ".join(guesses))
        duration = decoded.duration or self._step
        frame = Frame(read_planes(decoded), at, file.time_base, duration, color, side_data)
        frame = file.crop(replace(frame, sample_aspect_ratio=file.sample_aspect_ratio))
        if first.reading is None:
            first.reading, first.assumed = Reading(color, len(frame.planes)), tuple(guesses)
        elif changes := first.reading.changes(frame):
            frame = self._stored_as_first(frame, first.reading, changes)
        return frame

    def _stored_as_first(self, frame: Frame, reading: Reading, changes: list[str]) -> Frame:
        """Convert a frame whose tags differ from those of the first one.

        Raises:
            InputError: no conversion preserves the colors.
        """
        what = f"changes its {', '.join(changes)} at {self._file.clock(frame.pts)}"
        try:
            stored = reading.store(frame)
        except UsageError as error:
            raise self._cut_there(what) from error
        if changes != self._said_changes:
            self._said_changes = changes
            log.warning("%s %s: converted to what the first frame has", self._file.name, what)
        return stored

    def _cut_there(self, what: str) -> InputError:
        return InputError(f"{self._file.name} {what}: cut the file there and enlarge the parts")

    def _check(self, frame: av.VideoFrame) -> None:
        """Check that size and pixel aspect ratio are those of the first frame.

        Raises:
            InputError: they are not.
        """
        assert self._context is not None
        ratio, size, sequence = self._context.sample_aspect_ratio, self._first.size, self._file.sequence
        change = self._first.changes(frame, Fraction(ratio.numerator, ratio.denominator) if ratio else None)
        if change is None:
            return
        if sequence is not None and frame.pts is not None and size is not None and size != (frame.width, frame.height):
            name = sequence.name(sequence.numbers[0] + frame.pts)
            now, before = f"{frame.width}×{frame.height}", f"{size[0]}×{size[1]}"
            raise InputError(f"{name} is {now}, those before it are {before}: give all images one size")
        raise self._cut_there(f"changes its {change} at {self._file.clock(frame.pts)}")
