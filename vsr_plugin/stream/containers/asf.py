"""`asf_check`: checks objects, packets and payloads of WMV, WMA and ASF (Advanced Systems Format, revision 1.20)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from .walk import BrokenError, another

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .walk import Steps, Walk

_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_LARGEST_HEADER = 1 << 26  # bytes
_LARGEST_PACKET = 1 << 24  # bytes


def asf_check(walk: Walk) -> Steps:
    """Check the objects of a file (sections 3 and 5)."""
    live, packet_size = False, 0
    while True:
        at = walk.at
        try:
            head = yield 24
        except EOFError:
            return
        name, length = struct.unpack("<16sQ", head)
        walk.unfinished = f"the object at byte {at}"
        if name == _DATA:
            if live or length < 50:
                walk.unfinished = None
                return
            yield -26
            if 0 < packet_size < _LARGEST_PACKET:
                yield from _packets(walk, packet_size, (length - 50) // packet_size)
            yield walk.at - at - length
        elif name == _HEADER and at:
            raise BrokenError(another(at))
        else:
            if length < 24:
                raise BrokenError(f"there is no object at byte {at}")
            body = (yield length - 24) if at == 0 and length < _LARGEST_HEADER else (yield -(length - 24)) or b""
            place = body.find(_PROPERTIES)
            if 0 <= place <= len(body) - 100:
                flags, least, most = struct.unpack_from("<3I", body, place + 88)
                live, packet_size = bool(flags & 1), least if least == most else 0
        walk.unfinished = None


def _packets(walk: Walk, size: int, count: int) -> Steps:
    """Check packets: each frame is a numbered object, in parts that state their offsets."""
    due: dict[int, tuple[int, int, int]] = {}  # stream → number, bytes so far, and size of its last object
    first = None  # first byte of a packet: the length of its error correction data
    for _ in range(count):
        at = walk.at
        packet = yield size
        first = packet[0] if first is None else first
        if packet[0] != first:
            walk.note(at, f"the packet at byte {at} is damaged")
        try:
            for stream, number, offset, length, whole in _payloads(packet):
                last, passed, full = due.get(stream, (number, offset, whole))
                begins = passed >= full and offset == 0 and number == (last + 1) % 256
                if stream in due and not begins and (number, offset, whole) != (last, passed, full):
                    walk.note(at, f"parts of frames or sound are missing before byte {at + size}")
                due[stream] = number, offset + length, whole
        except IndexError:
            walk.note(at, f"the packet at byte {at} is damaged")


def _payloads(packet: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """(stream, number, offset, length, size of the object) of payloads with a single object each (section 5.2)."""
    place = 1 + (packet[0] & 15) if packet[0] & 0x80 else 0
    flags, kinds = packet[place], packet[place + 1]
    place += 2

    def number(kind: int) -> int:
        nonlocal place
        width = (0, 1, 2, 4)[kind & 3]
        place += width
        if place > len(packet):
            raise IndexError
        return int.from_bytes(packet[place - width : place], "little")

    end = number(flags >> 5) or len(packet)
    number(flags >> 1)
    end -= number(flags >> 3)
    place += 6  # times
    count, length_kind = 1, 0
    if flags & 1:
        several = number(1)
        count, length_kind = several & 63, several >> 6
    for _ in range(count):
        stream, of_stream, offset = number(1) & 127, number(kinds >> 4), number(kinds >> 2)
        replicated = number(kinds)
        whole = int.from_bytes(packet[place : place + 4], "little")
        place += replicated
        length = number(length_kind) if flags & 1 else end - place
        place += length
        if length < 0 or place > end:
            raise IndexError
        if replicated >= 8 and offset + length > whole:
            raise IndexError
        if replicated >= 8:
            yield stream, of_stream, offset, length, whole
