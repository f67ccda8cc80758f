"""`SoundTally`: finds gaps in copied sound. It is not decoded, and FFmpeg silently skips what it cannot read."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from .input import seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from av.container import InputContainer
    from av.packet import Packet

    from .timeline import Timeline

_SHORTEST_HOLE = Fraction(3, 4)  # packets
_JOINED = ("mpeg", "mpegts")  # formats in which FFmpeg splits a stream of bytes into packets of sound
_CHECKED = ("opus",)  # codecs whose bytes in them `transport.py` checks: a gap is no sign of loss
_MARKED = ("ac3", "eac3", "mp1", "mp2", "mp3")  # codecs that it splits so, at sync words, in most other formats, too
# Thousands of bits per second: MPEG-1, layers I to III, and MPEG-2, layer I and the others (ISO/IEC 11172-3, 13818-3).
_MPEG_RATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG_SAMPLES = {1: (44100, 48000, 32000), 2: (22050, 24000, 16000), 2.5: (11025, 12000, 8000)}
_AC3_RATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_AC3_SAMPLES = (48000, 44100, 32000)
_AC3_LAST = 10  # highest stream identification of AC-3; those above are Enhanced AC-3
_HEADER = 10  # bytes that contain a frame's length


class SoundTally:
    """Compares the sound read from an input with what its frames and its index state.

    Args:
        container: The open container, before its first packet is read.
        damage: Called with a description of each loss; may raise.
    """

    def __init__(self, container: InputContainer, damage: Callable[[str], None]) -> None:
        self._container = container
        self._damage = damage
        self._form = container.format.name
        self._indexed = {
            stream.index: len(stream.index_entries) for stream in container.streams.audio if "mov" in self._form
        }
        self._counts: dict[int, int] = {}
        self._ends: dict[int, Fraction] = {}  # stream → end of its sound so far, in seconds
        self._framed: set[int] = set()  # streams that had a packet consisting of whole frames
        self._cut: int | None = None  # the stream whose last packet ends within a frame
        self._told: dict[int, int] = {}  # stream → number of packets reported as damaged
        self._odd: dict[int, str] = {}  # stream → damage of its last packet; dropped if the clock jumps after it

    def begin_elsewhere(self) -> None:
        """Do not check the number of packets, because reading does not begin at the first one."""
        self._indexed.clear()

    def jumped(self, index: int) -> None:
        """Note that the clock of a stream jumps: where two files were joined, a frame may be cut."""
        self._ends.pop(index, None)
        self._odd.pop(index, None)

    def packet(self, packet: Packet[Any]) -> None:
        """Check a packet of sound; call this in the order of the file."""
        index, context = packet.stream_index, packet.stream.codec_context
        self._counts[index] = self._counts.get(index, 0) + 1
        self._say_odd(index)
        codec = context.codec.canonical_name if context is not None else ""
        cut = self._form in _JOINED or (codec in _MARKED and "matroska" not in self._form)
        if not cut or packet.pts is None or not packet.duration:
            return
        begin, duration = seconds(packet.pts, packet.time_base), seconds(packet.duration, packet.time_base)
        end = self._ends.get(index, begin)
        self._ends[index] = begin + duration
        if fits(codec, bytes(packet)):
            self._framed.add(index)
        elif index in self._framed:
            self._odd[index] = f"sound is damaged at {float(begin):.3f} s of audio stream {index}"
            self._cut = index if lacking(codec, bytes(packet)) else None
        elif codec not in _CHECKED and begin > end + _SHORTEST_HOLE * duration:  # only the times show a loss
            self._damage(f"{float(begin - end):.3f} s of audio stream {index} are missing at {float(end):.3f} s")

    def end(self, timeline: Timeline) -> None:
        """Report what is missing after the file was read to its end."""
        for index in list(self._odd):
            if index != self._cut:  # a recording may end within a frame
                self._say_odd(index)
        for index, count in self._indexed.items():
            lost = count - self._counts.get(index, 0)
            if lost > self._told.get(index, 0):
                self._damage(f"{lost} of the {count} packets of audio stream {index} in its index are missing")
        for index, end in self._ends.items() if timeline.may_leap and not timeline.jumps else ():
            stream = self._container.streams[index]
            if stream.start_time is not None and stream.duration:
                stated = seconds(stream.start_time + stream.duration, stream.time_base)
                if end < stated:
                    self._damage(f"audio stream {index} ends at {float(end):.3f} s, not at {float(stated):.3f} s")

    def _say_odd(self, index: int) -> None:
        if said := self._odd.pop(index, None):
            self._told[index] = self._told.get(index, 0) + 1
            self._damage(said)


def fits(codec: str, data: bytes) -> bool:
    """Whether a packet consists of whole frames, of codecs whose frames state their length."""
    return lacking(codec, data) == 0


def lacking(codec: str, data: bytes) -> int | None:
    """Number of bytes missing from a packet's last frame; None if the packet's frames do not state their length."""
    length = _LENGTHS.get(codec)
    at = 0
    while length is not None and at < len(data):
        size = length(data[at : at + _HEADER].ljust(_HEADER, b"\0"))
        if not size:
            return None
        at += size
    return None if length is None else at - len(data)


def _aac(head: bytes) -> int:
    """ISO/IEC 14496-3, section 1.A.3.2."""
    if head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return 0
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5


def _ac3(head: bytes) -> int:
    """ETSI TS 102 366, sections 4.4.1 and E.1.3.1."""
    if head[:2] != b"\x0b\x77":
        return 0
    if head[5] >> 3 > _AC3_LAST:
        return 2 * (int.from_bytes(head[2:4]) & 0x7FF) + 2
    samples, rate = head[4] >> 6, head[4] & 0x3F
    if samples >= len(_AC3_SAMPLES) or rate // 2 >= len(_AC3_RATES):
        return 0
    words = _AC3_RATES[rate // 2] * 96000 // _AC3_SAMPLES[samples]
    return 2 * (words + (rate & 1 if samples == 1 else 0))


def _mpeg(head: bytes) -> int:
    """ISO/IEC 11172-3, section 2.4.1.3; 0 also for a rate that is not stated."""
    version = {0: 2.5, 2: 2, 3: 1}.get(head[1] >> 3 & 3)
    layer, rate, samples, padding = 4 - (head[1] >> 1 & 3), head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if head[0] != 0xFF or head[1] < 0xE0 or version is None or layer == 4 or samples == 3 or not 0 < rate < 15:
        return 0
    rates = _MPEG_RATES[1, layer] if version == 1 else _MPEG_RATES[2, min(layer, 2)]
    per_second = rates[rate - 1] * 1000 // 8
    if layer == 1:
        return 4 * (per_second * 96 // 8 // _MPEG_SAMPLES[version][samples] + padding)
    in_frame = 576 if layer == 3 and version != 1 else 1152
    return per_second * in_frame // _MPEG_SAMPLES[version][samples] + padding


def _dts(head: bytes) -> int:
    """ETSI TS 102 114, sections 5.3.1 and 7.4.1: a core frame, or an extension frame; each states its own length."""
    if head.startswith(b"\x7f\xfe\x80\x01"):
        return (int.from_bytes(head[5:8]) >> 4 & 0x3FFF) + 1
    if head.startswith(b"\x64\x58\x20\x25"):
        bits = int.from_bytes(head[5:10])
        return (bits >> 5 & 0xFFFFF if bits >> 37 & 1 else bits >> 13 & 0xFFFF) + 1
    return 0


_LENGTHS = {"aac": _aac, "ac3": _ac3, "dts": _dts, "eac3": _ac3, "mp1": _mpeg, "mp2": _mpeg, "mp3": _mpeg}
