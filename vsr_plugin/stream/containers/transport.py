"""`transport_check`: checks the packets of a transport stream (ISO/IEC 13818-1, section 2.4.3)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from .walk import BrokenError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from .walk import Check, Steps, Walk

_SYNC = 0x47  # the first byte of every packet
_HEAD = 2048  # bytes from which the length of a packet is determined
_GROUP = 256  # packets that are checked together
# Bytes from one packet to the next, and bytes of the clock that M2TS has before each.
_FORMS = ((188, 0), (192, 4), (204, 0))
_START_CODE = b"\0\0\1"
_LENGTH_OF_HEADER = 8  # index of the byte in a frame's header with the number of those that follow
_TIMES = 7  # index of the byte in a frame's header that says whether it states a time
_WRAP = 1 << 33
_JUMP = 10 * 90_000  # ticks: a step of the clock that is no gap, as in `Timeline`
_STEPS = 16  # steps of sound that tell the longest usual one
_MISSED = 1.75  # usual steps: with two, one is missing
_STATED = ("h264", "hevc", "vvc")  # codecs whose fields are also separate packets


def transport_check(video: VideoStream) -> Check:
    """Return the check of a file: packets of one length, and a header at the start of each frame's first packet.

    FFmpeg itself notices a missing packet between others; but it searches for the next one where there is none, and
    skips a frame whose header it does not know. If a header states the time of a frame, that frame must be read: a
    frame whose first bytes are damaged is taken for a part of the previous one.
    """
    stated = video.id if video.codec_context.name in _STATED else None
    sound = video.container.streams.audio
    opus = [
        one.id for one in sound if one.codec_context is not None and one.codec_context.codec.canonical_name == "opus"
    ]
    return lambda walk: _packets(walk, stated, [one.id for one in sound], opus)


def _packets(walk: Walk, stated: int | None, sound: list[int], opus: list[int]) -> Steps:
    try:
        head = yield _HEAD
    except EOFError:
        return
    forms = [form for form in _FORMS if set(head[form[1] :: form[0]]) == {_SYNC}]
    if not forms:
        return
    length, offset = forms[0]
    headers = _FrameHeaders(stated)
    units = {stream: _OpusUnits() for stream in opus}
    losses = {stream: _Losses() for stream in sound}
    filled: int | None = None  # where padding begins, which is damage only if more packets follow it
    held, at, last = head, 0, False
    while held or not last:
        if not last:
            try:
                held += yield length * _GROUP
            except EOFError:
                held, last = held + walk.rest, True
        count = len(held) // length
        packets = np.frombuffer(held, np.uint8, count * length).reshape(count, length)
        there = packets[:, offset] == _SYNC
        for index in np.flatnonzero(~there).tolist():
            if packets[index].min() != packets[index].max():
                raise BrokenError(f"there is no packet at byte {at + index * length}")
            filled = at + index * length if filled is None else filled
        if filled is not None and count and there[-1]:
            raise BrokenError(f"there is no packet at byte {filled}")
        for index, fits in headers.read(packets[:, offset:], there):
            if fits:
                walk.frames.append(at + index * length)
            else:
                walk.note(at + index * length, f"the header of the packet at byte {at + index * length} is damaged")
        streams = (packets[:, offset + 1].astype(int) & 0x1F) << 8 | packets[:, offset + 2]
        for index in np.flatnonzero(there & np.isin(streams, opus)).tolist() if opus else ():
            if not units[int(streams[index])].take(packets[index, offset : offset + 188].tobytes()):
                walk.note(at + index * length, f"sound is damaged before byte {at + index * length}")
        for stream, sounds in losses.items():
            for index, missing in sounds.read(packets[:, offset:], there & (streams == stream)):
                what = f"{missing:.3f} s of sound are missing before byte {at + index * length}"
                walk.note(at + index * length, what)
        at, held = at + count * length, held[count * length :]
        if last and held:
            raise BrokenError(f"its last packet of {length} bytes is cut")


class _FrameHeaders:
    """Checks the headers of frames, in streams that have them; the others contain tables.

    Args:
        stated: The stream in which each header with a time belongs to a frame; None for none.
    """

    def __init__(self, stated: int | None) -> None:
        self._streams: set[int] = set()
        self._stated = stated

    def read(self, packets: NDArray[np.uint8], there: NDArray[np.bool_]) -> Iterator[tuple[int, bool]]:
        """For packets of 188 bytes: (index, True) for a stated frame, (index, False) for a missing frame header."""
        for index in np.flatnonzero(there & (packets[:, 1] & 0x40 != 0)).tolist():
            packet = packets[index, :188].tobytes()
            stream = int.from_bytes(packet[1:3]) & 0x1FFF
            control = packet[3] >> 4
            start = 5 + packet[4] if control & 2 else 4
            payload = packet[start:]
            if control & 0xC or not control & 1 or len(payload) < len(_START_CODE):  # encrypted, or empty
                continue
            if payload.startswith(_START_CODE):
                self._streams.add(stream)
                if stream == self._stated and len(payload) > _TIMES and payload[_TIMES] & 0x80:
                    yield index, True
            elif payload[0] == 0 and payload[1] == 2 and payload[2] >> 4 == 0xB:  # a table: another stream was joined
                self._streams.discard(stream)
            elif stream in self._streams:
                yield index, False


class _Losses:
    """Finds where packets of a stream of sound are missing, each time with a header, or whole ones at a time.

    Packets of a stream are numbered from 0 to 15, again and again. Numbers alone break where files were joined, times
    alone where the sound pauses: both together are a loss.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._broken = False  # whether the numbers have broken since the last time
        self._time: int | None = None  # ticks of 1/90,000 s, modulo 2³³
        self._steps: deque[int] = deque(maxlen=_STEPS)  # from time to time, where the numbers are in order

    def read(self, packets: NDArray[np.uint8], here: NDArray[np.bool_]) -> Iterator[tuple[int, float]]:
        """For packets of 188 bytes: (index, seconds that are missing before it)."""
        here = here & (packets[:, 3] & 0x10 != 0)  # those that have a payload
        places = np.flatnonzero(here)
        if not len(places):
            return
        numbers = (packets[places, 3] & 0xF).astype(int)
        before = np.concatenate(([numbers[0] - 1 if self._number is None else self._number], numbers[:-1]))
        self._number = int(numbers[-1])
        stated = (packets[places, 3] & 0x20 != 0) & (packets[places, 4] > 0) & (packets[places, 5] & 0x80 != 0)
        breaks = (((numbers - before) & 0xF) > 1) & ~stated
        begins = packets[places, 1] & 0x40 != 0
        for row in np.flatnonzero(breaks | begins).tolist():
            self._broken = self._broken or bool(breaks[row])
            time = _time(packets[places[row], :188].tobytes()) if begins[row] else None
            if time is None:
                continue
            step = None if self._time is None else (time - self._time) % _WRAP
            usual = max(self._steps, default=None)
            if step is None or step > _JUMP:  # the first, or a jump
                self._steps.clear()
            elif not self._broken:
                self._steps.append(step)
            elif usual is not None and step > _MISSED * usual:
                yield int(places[row]), (step - usual) / 90_000
            self._time, self._broken = time, False


def _time(packet: bytes) -> int | None:
    """The time in the header that begins in a packet, in ticks; None if it has none."""
    payload = packet[5 + packet[4] if packet[3] & 0x20 else 4 :]
    if not payload.startswith(_START_CODE) or len(payload) < 14 or not payload[_TIMES] & 0x80:
        return None
    high, middle, low = payload[9], int.from_bytes(payload[10:12]), int.from_bytes(payload[12:14])
    return (high >> 1 & 7) << 30 | (middle >> 1) << 15 | low >> 1


class _OpusUnits:
    """Checks the packets of an Opus stream, each of which has a header that states its length.

    The source is the draft ETSI TS "Opus in MPEG-TS", version 0.1.3. FFmpeg skips what follows a header that it cannot
    read.
    """

    def __init__(self) -> None:
        self._held: bytearray | None = None  # bytes since the last PES header; None before the first

    def take(self, packet: bytes) -> bool:
        """Take the next 188 bytes; False if they begin a new unit and the one before is damaged."""
        control = packet[3] >> 4
        start = 5 + packet[4] if control & 2 else 4
        payload = packet[start:] if control & 1 else b""
        if not packet[1] & 0x40:
            if self._held is not None:
                self._held += payload
            return True
        held, self._held = self._held, bytearray(payload)
        if held is None or len(held) <= _LENGTH_OF_HEADER or not held.startswith(_START_CODE):
            return True
        size = int.from_bytes(held[4:6])
        at, end = _LENGTH_OF_HEADER + 1 + held[_LENGTH_OF_HEADER], 6 + size if size else len(held)
        if len(held) < end:
            return True  # it is cut, which FFmpeg notices
        while at < end:
            if held[at] != 0x7F or at + 1 == end or held[at + 1] >> 5 != 7:
                return False
            flags, at, length = held[at + 1], at + 2, 0
            while at < end and held[at] == 0xFF:
                length, at = length + 255, at + 1
            length += held[at] if at < end else 0
            trims = 2 * (flags >> 4 & 1) + 2 * (flags >> 3 & 1)
            at += 1 + trims
            if flags & 4 and at < end:
                at += 1 + held[at]
            at += length
        return at == end
