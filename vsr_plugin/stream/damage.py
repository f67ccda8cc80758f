"""`Damage` counts what an input lost; `Tally` finds what FFmpeg passes over without an error."""

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
_SAID = 3  # lines that are warnings
_STEADY = ("mpeg1video", "mpeg2video")  # whose frames follow each other at one rate, or with a field more (telecine)
_HOLE = Fraction(7, 4)  # frames


class Damage:
    """Counts damage, from any thread, and says it; or raises, if strict.

    Args:
        name: Of the input.
        strict: Raise at the first.
        quiet: Log nothing: what is found will be found again.

    Attributes:
        count: Places so far.
    """

    def __init__(self, name: str, *, strict: bool, quiet: bool = False) -> None:
        self.count = 0
        self._quiet = quiet
        self._name = name
        self._strict = strict
        self._lock = threading.Lock()

    def add(self, what: str, pts: int | None = None, *, ends: bool = False) -> None:
        """Count one place.

        Args:
            what: In words.
            pts: Of the frame or packet, in ticks of the file's clock, if it is one.
            ends: Whether nothing comes after it.

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
    """What an input says it holds, beside what comes of it while it is read from one place on.

    Args:
        path: Of the input.
        container: Open, before its first packet or after a seek.
        stream: The one that is decoded.
        frame_rate: Average, if known.
        start: Where it is read from, in seconds of its clock; None for its beginning.
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
        exact = self._form.startswith("mov") and len(entries)  # the times of others are those of key frames, or guesses
        self._last_indexed = entries[len(entries) - 1].timestamp if exact else None
        self._last: int | None = None  # decoding time
        self._is_jpeg = stream.codec_context.name == "mjpeg" and self._form in ("image2", "jpeg_pipe")
        self._packets = 0
        self._begin = 0  # in bytes: what comes before is nobody's loss
        self._end = 0  # in bytes, of the last packet
        self._frames = 0  # that the container states
        self._waiting: set[int] = set()  # timestamps of packets whose frames have not come out
        self._missing: set[int] = set()
        self._first: int | None = None  # timestamp of the first key frame
        self._steady = stream.codec_context.name in _STEADY and self._form != "avi"  # which states no times
        self._shown: int | None = None  # timestamp of the last frame, each without one after it counted for a step
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
        return None if read is None else Walk(check, read)  # an address is read by FFmpeg alone

    def packet(self, packet: Packet[Any]) -> str | None:
        """Note a packet of the stream, before it is decoded; what was lost before it, if something was."""
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
        """Note the timestamp of a frame as the decoder gave it."""
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
        reach = step / 2  # beside a frame its second field, or one that is only referred to, may lie
        past = {waiting for waiting in self._waiting if waiting <= pts + reach}
        self._waiting -= past
        self._missing |= {waiting for waiting in past if waiting < pts - reach}
        if not late:  # as a frame is that holds half of the next one
            self._missing.discard(pts)

    def _is_due(self, pts: int) -> bool:
        """Whether a frame has to come: not so what leads to the first key frame, which may need frames before it."""
        after_start = self._start is None or pts * self._tick >= self._start
        return after_start and self._first is not None and pts >= self._first

    def lost(self, reached: Fraction, end: Fraction | None, *, joined: bool) -> str | None:
        """What did not come, when reading is over; None if nothing is known to be lost.

        Args:
            reached: Where the last frame ends, in seconds of the file's clock.
            joined: Whether that clock has jumped: its header then says nothing of the end.
            end: Where the part asked for ends, if that was reached: what comes behind is not missed; None for all.
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
        """Close what is open; harmless when called again."""
        if self._file is not None:
            self._file.close()

    def _broken(self, position: int | None) -> str | None:
        """What does not fit among the bytes up to a position, or to the end."""
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
        """Whether the frames end before the file's header says they do."""
        tag = self._stream.metadata.get("DURATION", "") if self._form == "matroska,webm" else ""  # elsewhere a copy
        clock = re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", tag)
        allowed = Fraction(1, 2)
        if clock:  # Matroska states the end of each stream
            end = int(clock[1]) * 3600 + int(clock[2]) * 60 + Fraction(clock[3])
            allowed = self._step or allowed
        elif self._stream.duration and self._form not in ("asf", "avi"):  # the file's; written before it is known
            end = seconds((self._stream.start_time or 0) + self._stream.duration, self._stream.time_base)
        else:
            return None
        if reached >= end - allowed:
            return None
        return f"the frames end at {float(reached):.3f} s, though its header says {float(end):.3f} s"
