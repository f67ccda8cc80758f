"""`Damage` counts what an input lost; `Tally` finds what FFmpeg passes over without an error."""

from __future__ import annotations

import logging
import re
import threading
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DamagedInputError
from .input import seconds, size_of
from .matroska import MatroskaBlocks
from .sequence import ImageSequence
from .structure import cut_short

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

_SAID = 3  # lines that are warnings
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"  # markers: ITU-T T.81, table B.1; cameras' films may lack the latter


class Damage:
    """Counts damage, from any thread, and says it; or raises, if strict.

    Args:
        name: Of the input.
        strict: Raise at the first.

    Attributes:
        count: Places so far.
    """

    def __init__(self, name: str, *, strict: bool) -> None:
        self.count = 0
        self._name = name
        self._strict = strict
        self._lock = threading.Lock()

    def add(self, what: str, *, ends: bool = False) -> None:
        """Count one place.

        Args:
            what: In words.
            ends: Whether nothing comes after it.

        Raises:
            DamagedInputError: if strict.
        """
        if self._strict:
            raise DamagedInputError(f"{self._name}: {what}")
        with self._lock:
            self.count += 1
            level = logging.WARNING if self.count <= _SAID else logging.DEBUG
        log.log(level, "%s: %s%s", self._name, what, "" if ends else "; going on")


class Tally:
    """What a file says it holds, beside what comes of it while it is read from one place to its end.

    Args:
        path: Of the input.
        container: Open, before its first packet or after a seek.
        stream: The one that is decoded.
        frame_rate: Average, if known.
        start: Where it is read from, in seconds of its clock; None for its beginning.

    Attributes:
        sequence: The image files that are read; None for a single file.
    """

    def __init__(
        self,
        path: str,
        container: InputContainer,
        stream: VideoStream,
        frame_rate: Fraction | None,
        start: Fraction | None,
    ) -> None:
        self._file = Path(path) if Path(path).is_file() else None  # else a pattern, standard input or an address
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
        self.sequence = ImageSequence.find(path)
        self._is_jpeg = stream.codec_context.name == "mjpeg" and self._form in ("image2", "jpeg_pipe")
        self._packets = 0
        self._end = 0  # in bytes, of the last packet
        self._files = 0  # of a sequence
        self._waiting: set[int] = set()  # timestamps of packets whose frames have not come out
        self._missing: set[int] = set()
        self._first: int | None = None  # timestamp of the first key frame
        self._blocks: MatroskaBlocks | None = None

    def packet(self, packet: Packet[Any]) -> str | None:
        """Note a packet of the stream, before it is decoded; what was lost before it, if something was."""
        if not packet.size:
            return None
        self._packets += 1
        self._last = packet.dts if self._last is None or packet.dts is None else max(self._last, packet.dts)
        if packet.pts is not None:
            self._files = packet.pts + 1
            if self._first is None and packet.is_keyframe:
                self._first = packet.pts
            if not packet.is_discard and self._is_due(packet.pts):
                self._waiting.add(packet.pts)
        if self._is_jpeg and (data := bytes(packet)).rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
            return "the image ends within its last scan"
        if packet.pos is None:
            return None
        self._end = packet.pos + packet.size
        if self._packets == 1 and self._form == "matroska,webm" and self._file is not None:
            return self._begin(packet.pos)
        return self._walk(packet.pos)

    def frame(self, pts: int | None) -> None:
        """Note the timestamp of a frame as the decoder gave it."""
        if pts is None or self._step is None:
            return
        reach = self._step / self._tick / 2  # beside a frame its second field, or one that is only referred to, may lie
        past = {waiting for waiting in self._waiting if waiting <= pts + reach}
        self._waiting -= past
        self._missing |= {waiting for waiting in past if waiting < pts - reach}
        self._missing.discard(pts)

    def _is_due(self, pts: int) -> bool:
        """Whether a frame has to come: not so what leads to the first key frame, which may need frames before it."""
        after_start = self._start is None or pts * self._tick >= self._start
        return after_start and self._first is not None and pts >= self._first

    def lost(self, reached: Fraction, *, told: bool) -> str | None:
        """What did not come, at the end of reading; None if nothing is known to be lost.

        Args:
            reached: Where the last frame ends, in seconds of the file's clock.
            told: Whether damage was found before: what may follow from it is not said again.
        """
        if self.sequence is not None:
            return self.sequence.lost_after(self._files)
        if told:
            return None
        if broken := self._walk(None) or self._cut_short():
            return broken
        if self._packets < self._indexed:
            return f"{self._indexed - self._packets} of the {self._indexed} frames in its index are not there"
        if self._last is not None and self._last_indexed is not None and self._last < self._last_indexed:
            return f"the frames after {float(self._last * self._tick):.3f} s in its index are not there"
        if missing := sorted(self._missing | self._waiting):
            first = float(missing[0] * self._tick)
            return f"{len(missing)} frames are missing, the first of them at {first:.3f} s"
        return self._early(reached)

    def close(self) -> None:
        """Close what is open; harmless when called again."""
        if self._blocks is not None:
            self._blocks.close()

    def _begin(self, position: int) -> str | None:
        assert self._file is not None
        cluster = None
        if self._start is not None:
            cluster = max((entry.pos for entry in self._stream.index_entries if entry.pos <= position), default=None)
            if cluster is None:
                return None
        blocks = MatroskaBlocks(self._file.open("rb"), self._stream.index, cluster)
        said = blocks.until(position)
        if self._start is not None:
            if said is not None:  # what comes before the part is nobody's loss
                blocks.close()
                return None
            blocks.count = 1
        self._blocks = blocks
        return said

    def _walk(self, position: int | None) -> str | None:
        if self._blocks is None:
            return None
        said = self._blocks.until(position)
        if said is None and self._blocks.count > self._packets:
            said = f"{self._blocks.count - self._packets} blocks of Matroska were not read"
        if said is not None:
            self.close()
            self._blocks = None
        return said

    def _cut_short(self) -> str | None:
        if self._form == "yuv4mpegpipe" and (size_of(self._container) or 0) > self._end:
            return "it ends within a frame"
        if self._file is None:
            return None
        with self._file.open("rb") as file:
            return cut_short(file, self._form)

    def _early(self, reached: Fraction) -> str | None:
        """Whether the frames end before the file's header says they do."""
        tag = self._stream.metadata.get("DURATION", "") if self._form == "matroska,webm" else ""  # elsewhere a copy
        clock = re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", tag)
        allowed = Fraction(1, 2)
        if clock:  # Matroska states the end of each stream
            end = int(clock[1]) * 3600 + int(clock[2]) * 60 + Fraction(clock[3])
            allowed = self._step or allowed
        elif self._stream.duration and self._form != "avi":  # which is written before it is known; its sizes say more
            end = seconds((self._stream.start_time or 0) + self._stream.duration, self._stream.time_base)
        else:
            return None
        if reached >= end - allowed:
            return None
        return f"the frames end at {float(reached):.3f} s, though its header says {float(end):.3f} s"
