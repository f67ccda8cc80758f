"""Checks of the structure of containers, where FFmpeg's demuxers silently skip damaged parts.

`walk.Walk` runs these checks. They find only damage that contradicts what the container states.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from ..stills.png import SIGNATURE
from .asf import asf_check
from .gif import gif_check
from .mov import mov_check
from .nut import nut_check
from .walk import BrokenError, another, perhaps

if TYPE_CHECKING:
    from .walk import Check, Steps, Walk

_FLASH_TAGS = (8, 9, 15, 18)  # sound, frames, data: Flash Video, annex E.4.1
_MXF_KEY = bytes.fromhex("060e2b34")
_MXF_PARTITION = bytes.fromhex("060e2b34020501010d0102010100")  # without kind and status: SMPTE ST 377-1
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _flash(walk: Walk) -> Steps:
    head = yield 9
    yield -(int.from_bytes(head[5:]) - 5)
    while True:
        at = walk.at
        tag = yield 11
        if tag[0] & 0x1F not in _FLASH_TAGS:
            raise BrokenError(f"there is no tag at byte {at}")
        walk.unfinished = f"the tag at byte {at}"
        yield -(int.from_bytes(tag[1:4]) + 4)
        walk.unfinished = None


def _ogg(walk: Walk) -> Steps:
    """Check the pages, which have a checksum and a number; the last of each stream is marked (RFC 3533, section 6)."""
    numbers: dict[int, int] = {}  # stream → number of its latest page, until the stream ends
    while True:
        at = walk.at
        head = yield 27
        mark, _, flags, _, serial, number, told, parts = struct.unpack("<4sBBQIIIB", head)
        if mark != b"OggS":
            raise BrokenError(f"there is no page at byte {at}")
        sizes = yield parts
        body = yield sum(sizes)
        if _ogg_checksum(head[:22] + bytes(4) + head[26:] + sizes + body) != told:
            walk.note(at, f"the page at byte {at} is damaged")
        elif serial in numbers and number != numbers[serial] + 1:
            walk.note(at, f"pages are missing before byte {at}")
        numbers[serial] = number
        if flags & 4:
            del numbers[serial]
        walk.unfinished = "a stream: its last page is not there" if numbers else None


def _ogg_checksum(data: bytes) -> int:
    """CRC-32 with the most significant bit of each byte first, and initial value 0; zlib's has the least first."""
    value = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2)


def _mxf(walk: Walk) -> Steps:
    """Check the keys, lengths and values from the header to the footer."""
    ended = False
    while True:
        at = walk.at
        key = (yield from perhaps(16)) if ended else (yield 16)
        if not key.startswith(_MXF_KEY):
            if at == 0 or ended:  # other data may come before and after
                return
            raise BrokenError(f"there is no key at byte {at}")
        length = (yield 1)[0]
        if length > 0x80:
            length = int.from_bytes((yield length & 0x7F))
        if key.startswith(_MXF_PARTITION[:13]):
            if ended and key[13] == 2:
                raise BrokenError(another(at))
            ended = ended or key[13] == 4
            if ended:
                walk.unfinished = None
            elif key[13] == 2 and key[14] in (2, 4):  # closed: its footer has been written
                walk.unfinished = "its frames: the footer after them is not there"
        whole = walk.unfinished
        if not ended:
            walk.unfinished = whole or f"the value of the key at byte {at}"
        yield -length
        walk.unfinished = whole


def _ivf(walk: Walk) -> Steps:
    head = yield 32
    yield -max(int.from_bytes(head[6:8], "little") - 32, 0)
    while True:
        at = walk.at
        length = int.from_bytes((yield 12)[:4], "little")
        walk.unfinished = f"the frame at byte {at}"
        yield -length
        walk.unfinished = None


def _png(walk: Walk) -> Steps:
    """Check the chunks, which have a checksum; IEND is the last (PNG, third edition, section 5)."""
    walk.unfinished = "its chunks: the last of them is not there"
    yield 8
    kind = b""
    while kind != b"IEND":
        at = walk.at
        length, kind = struct.unpack(">I4s", (yield 8))
        if length >= 1 << 31:
            raise BrokenError(f"there is no chunk at byte {at}")
        body = yield length
        if zlib.crc32(kind + body) != int.from_bytes((yield 4)):
            walk.note(at, f"the chunk at byte {at} is damaged")
    walk.unfinished = None
    at = walk.at
    if (yield from perhaps(8)) == SIGNATURE:
        raise BrokenError(another(at))


def _program_stream(walk: Walk) -> Steps:
    """Check packs and packets (ISO/IEC 11172-1, 13818-1); there may be zeros between them."""
    while True:
        at = walk.at
        code = yield from perhaps(4)
        while code[:3] == bytes(3):
            code = code[1:] + (yield from perhaps(1))
        if not code.strip(b"\0\xff"):
            return
        if code[:3] != b"\0\0\1" or code[3] < 0xB9:
            raise BrokenError(f"there is no packet at byte {at}")
        if code[3] == 0xB9:
            continue
        walk.unfinished = f"the packet at byte {at}"
        if code[3] != 0xBA:
            yield -int.from_bytes((yield 2))
        elif (yield 1)[0] >> 6 == 1:  # MPEG-2
            yield -8
            yield -((yield 1)[0] & 7)
        else:
            yield -7
        walk.unfinished = None


# By FFmpeg's name of the format; checks that also need the stream that is read are in damage.py.
CHECKS: dict[str, Check] = {
    "apng": _png,
    "asf": asf_check,
    "flv": _flash,
    "gif": gif_check,
    "ivf": _ivf,
    "mov,mp4,m4a,3gp,3g2,mj2": mov_check,
    "mpeg": _program_stream,
    "mxf": _mxf,
    "nut": nut_check,
    "ogg": _ogg,
}
