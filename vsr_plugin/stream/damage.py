"""`Damage` counts the damaged places of an input; `Tally` finds losses that FFmpeg skips without an error."""

from __future__ import annotations

import logging
import re
import threading
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import DamagedInputError
from .containers.avi import avi_check
from .containers.matroska import matroska_check
from .containers.structure import CHECKS
from .containers.transport import transport_check
from .containers.walk import Walk
from .input import Pipe, python_file, seconds, size_of
from .stills.jpeg import is_whole

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

_CHECKS_OF_A_STREAM = {"avi": avi_check, "matroska,webm": matroska_check, "mpegts": transport_check}
_SAID = 3  # number of lines logged as warnings
_STEADY = ("mpeg1video", "mpeg2video")  # codecs with a constant frame rate, but for a field more (telecine)
_HOLE = Fraction(7, 4)  # frames


class Damage:
    """Counts and logs damage, from any thread; or raises, if strict.

    Args:
        name: Name of the input.
        strict: Raise at the first damage.
        quiet: Log nothing, because the same damage will be found again.

    Attributes:
        count: Number of damaged places so far.
    """

    def __init__(self, name: str, *, strict: bool, quiet: bool = False) -> None:
        self.count = 0
        self._quiet = quiet
        self._name = name
        self._strict = strict
        self._lock = threading.Lock()

    def add(self, what: str, pts: int | None = None, *, ends: bool = False) -> None:
        """Count one damaged place.

        Args:
            what: Description of the damage.
            pts: Timestamp of the damaged frame or packet, if any, in ticks of the file's clock.
            ends: Whether reading ends there.

        Raises:
            DamagedInputError: if strict.
        """
        if self._strict:
            raise DamagedInputError(f"{self._name}: {what}")
        with self._lock:
            self.count += 1
            level = logging.WARNING if self.count <= _SAID else logging.DEBUG
        if not self._quiet:
            log.log(level, "%s: %s%s", self._name, what, "" if ends else "; going on")


class Tally:
    """Compares the packets and frames read from an input, from one place on, with what the input states.

    Args:
        path: Path of the input.
        container: The open container, before its first packet is read or after a seek.
        stream: The stream that is decoded.
        frame_rate: Average frame rate, if known.
        start: Where reading begins, in seconds of the file's clock; None for its beginning.
    """

    def __init__(
        self,
        path: str,
        container: InputContainer,
        stream: VideoStream,
        frame_rate: Fraction | None,
        start: Fraction | None,
    ) -> None:
        self._form = container.format.name
        self._container = container
        self._stream = stream
        self._start = start
        self._tick = Fraction(stream.time_base.numerator, stream.time_base.denominator)
        self._step = 1 / frame_rate if frame_rate else None
        entries = stream.index_entries
        self._indexed = 0 if start is not None else len(entries)
        exact = self._form.startswith("mov") and len(entries)  # others index key frames, or guess
        self._last_indexed = entries[len(entries) - 1].timestamp if exact else None
        self._last: int | None = None  # decoding time
        self._is_jpeg = stream.codec_context.name == "mjpeg" and self._form in ("image2", "jpeg_pipe")
        self._packets = 0
        self._begin = 0  # position in bytes; damage before it is ignored
        self._end = 0  # end of the last packet, in bytes
        self._frames = 0  # number that the container states
        self._waiting: set[int] = set()  # timestamps of packets whose frames have not come out yet
        self._missing: set[int] = set()
        self._first: int | None = None  # timestamp of the first key frame
        self._steady = stream.codec_context.name in _STEADY and self._form != "avi"  # AVI stores no times
        self._shown: int | None = None  # timestamp of the last frame; one step is added for each frame without one
        self._file: BinaryIO | None = None  # opened here
        self._walk = self._follow(path)

    def _follow(self, path: str) -> Walk | None:
        of_stream = _CHECKS_OF_A_STREAM.get(self._form)
        check = of_stream(self._stream) if of_stream else CHECKS.get(self._form)
        if check is None:
            return None
        read = python_file(self._container)
        if isinstance(read, Pipe):
            walk = Walk(check)
            read.watch(walk.feed)
            return walk
        if read is None and Path(path).is_file():
            read = self._file = Path(path).open("rb")  # noqa: SIM115 - closed in `close`
        return None if read is None else Walk(check, read)  # only FFmpeg can read a URL

    def packet(self, packet: Packet[Any]) -> str | None:
        """Count a packet of the stream before it is decoded; return a description of damage up to it, or None."""
        if not packet.size:
            return None
        self._packets += 1
        self._last = packet.dts if self._last is None or packet.dts is None else max(self._last, packet.dts)
        if packet.pts is not None:
            if self._first is None and packet.is_keyframe:
                self._first = packet.pts
            if not packet.is_discard and self._is_due(packet.pts):
                self._waiting.add(packet.pts)
        if self._is_jpeg and not is_whole(bytes(packet)):
            return "the image ends within its last scan"
        if packet.pos is None:
            return None
        if self._packets == 1 and self._start is not None:
            self._begin = packet.pos
        self._end = packet.pos + packet.size
        return self._broken(packet.pos)

    def frame(self, pts: int | None) -> None:
        """Record the timestamp of a frame as the decoder returned it."""
        if self._step is None:
            return
        step = self._step / self._tick
        if pts is None:
            self._shown = None if self._shown is None else self._shown + round(step)
            return
        shown, self._shown = self._shown, pts
        late = False
        if self._steady and shown is not None:
            late = pts < shown
            seen = self._start is None or shown * self._tick >= self._start
            if seen and pts > shown + _HOLE * step:
                self._missing |= {round(shown + index * step) for index in range(1, round((pts - shown) / step))}
        reach = step / 2  # its second field, or a frame used only as a reference, may have a time this near
        past = {waiting for waiting in self._waiting if waiting <= pts + reach}
        self._waiting -= past
        self._missing |= {waiting for waiting in past if waiting < pts - reach}
        if not late:  # a late frame may contain half of the next one
            self._missing.discard(pts)

    def _is_due(self, pts: int) -> bool:
        """Whether a packet's frame must come out; before the first key frame, its references may be missing."""
        after_start = self._start is None or pts * self._tick >= self._start
        return after_start and self._first is not None and pts >= self._first

    def lost(self, reached: Fraction, end: Fraction | None, *, joined: bool) -> str | None:
        """Describe what was lost, when reading is over; None if no loss is known.

        Args:
            reached: Where the last frame ends, in seconds of the file's clock.
            joined: Whether the clock has jumped, so that the header's end does not apply.
            end: Where the selected part ends, if that was reached: later losses are ignored; None for all.
        """
        if end is None:
            broken = self._broken(None) or self._cut_within_a_frame() or self._unindexed()
            missing = sorted(self._missing | self._waiting)
        else:
            broken = None
            missing = sorted(pts for pts in self._missing if pts * self._tick < end)
        if broken:
            return broken
        if missing:
            first = float(missing[0] * self._tick)
            return f"{len(missing)} frames are missing, the first of them at {first:.3f} s"
        return self._early(reached) if end is None and not joined else None

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._file is not None:
            self._file.close()

    def _broken(self, position: int | None) -> str | None:
        """Describe the damage in the bytes up to a position, or to the end; None if there is none."""
        if self._walk is None:
            return None
        said = self._walk.until(position, self._begin)
        self._frames += self._walk.passed(position, self._begin)
        if said is None and self._frames > self._packets:
            said = f"{self._frames - self._packets} frames that the file holds were not read"
        if said is not None:
            self.close()
            self._walk = None
        return said

    def _cut_within_a_frame(self) -> str | None:
        more = self._form == "yuv4mpegpipe" and (size_of(self._container) or 0) > self._end
        return "it ends within a frame" if more else None

    def _unindexed(self) -> str | None:
        if self._packets < self._indexed:
            return f"{self._indexed - self._packets} of the {self._indexed} frames in its index are missing"
        if self._last is not None and self._last_indexed is not None and self._last < self._last_indexed:
            return f"the frames after {float(self._last * self._tick):.3f} s in its index are missing"
        return None

    def _early(self, reached: Fraction) -> str | None:
        """Describe the loss if the frames end before the end that the file's header states."""
        tag = self._stream.metadata.get("DURATION", "") if self._form == "matroska,webm" else ""  # elsewhere a copy
        clock = re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", tag)
        allowed = Fraction(1, 2)
        if clock:  # Matroska states the end of each stream
            end = int(clock[1]) * 3600 + int(clock[2]) * 60 + Fraction(clock[3])
            allowed = self._step or allowed
        elif self._stream.duration and self._form not in ("asf", "avi"):  # theirs is the file's, stored in advance
            end = seconds((self._stream.start_time or 0) + self._stream.duration, self._stream.time_base)
        else:
            return None
        if reached >= end - allowed:
            return None
        return f"the frames end at {float(reached):.3f} s, though its header says {float(end):.3f} s"
