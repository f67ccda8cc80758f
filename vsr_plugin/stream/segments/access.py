"""Finds the key frames at which decoding may begin.

Containers also mark key frames at which a decoder cannot begin: H.264's recovery points may still refer to frames
before them, and some frames that are decoded after the first one of an open GOP are shown before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_START = b"\0\0\1"


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """One key frame.

    Attributes:
        pts: Timestamp in ticks of the stream.
        closed: Whether it is a random access point, all frames before it in the file are shown before it, and all
            after it are shown after it.
    """

    pts: int
    closed: bool


def key_frames(times: Sequence[int], access: dict[int, bool]) -> list[KeyFrame]:
    """Return the key frames of a stream, in the order of the file.

    Args:
        times: Timestamps of all its packets, in the order of the file.
        access: Index of a key frame in ``times`` → whether it is a random access point.
    """
    latest = list(accumulate(times, max))
    earliest = list(accumulate(reversed(times), min))[::-1]
    return [
        KeyFrame(times[at], access[at] and (at == 0 or latest[at - 1] < times[at]) and earliest[at] == times[at])
        for at in sorted(access)
    ]


def is_random_access(data: bytes, codec: str, header: bytes | None) -> bool:
    """Whether a key frame can be decoded without earlier frames.

    Args:
        data: Bytes of its packet.
        codec: FFmpeg's name.
        header: The stream's extradata.
    """
    if codec == "h264":  # ITU-T H.264, table 7-1: 5 is a slice of an IDR picture, 1 to 4 are other slices
        kinds = (unit & 0x1F for unit in _units(data, header, 4))
        return next((kind == 5 for kind in kinds if 1 <= kind <= 5), False)
    if codec == "hevc":  # ITU-T H.265, table 7-1: below 32 are slices, 16 to 21 are random access points
        kinds = (unit >> 1 & 0x3F for unit in _units(data, header, 21))
        return next((16 <= kind <= 21 for kind in kinds if kind < 32), False)
    return True


def _units(data: bytes, header: bytes | None, at: int) -> Iterator[int]:
    """Yield the first byte of each NAL unit, after a start code or the unit's length.

    Byte ``at`` of the header contains the size of that length field (ISO/IEC 14496-15).
    """
    if header and header[0] == 1 and len(header) > at:
        size = (header[at] & 3) + 1
        place = 0
        while place + size < len(data):
            yield data[place + size]
            place += size + int.from_bytes(data[place : place + size])
        return
    place = data.find(_START)
    while 0 <= place < len(data) - 3:
        yield data[place + 3]
        place = data.find(_START, place + 3)
