"""`cut_short`: whether a file ends within what it is made of, which FFmpeg's demuxers pass over without an error."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

# Boxes that stand at the top of ISO media files (ISO/IEC 14496-12 and 23009-1, QuickTime).
_BOXES = {
    b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"mfra", b"sidx", b"ssix", b"free", b"skip", b"wide", b"uuid", b"meta",
    b"emsg", b"prft", b"pdin", b"udta", b"junk", b"pnot", b"imda",
}  # fmt: skip
_IN_FRAGMENT = {
    b"mfhd", b"traf", b"tfhd", b"tfdt", b"trun", b"sdtp", b"sbgp", b"sgpd", b"subs", b"saiz", b"saio", b"senc", b"pssh",
    b"meta", b"uuid", b"udta", b"free", b"skip",
}  # fmt: skip
_SYNC = 0x47  # the first byte of a packet of a transport stream


def cut_short(file: BinaryIO, form: str) -> str | None:
    """What is wrong at the end of a file, or None.

    Args:
        file: Open for reading in binary.
        form: FFmpeg's name of the format; of those not known here nothing is said.
    """
    check = {"mpegts": _transport_stream, "mov,mp4,m4a,3gp,3g2,mj2": _fragments, "flv": _flash, "avi": _riff}.get(form)
    return None if check is None else check(file, file.seek(0, 2))


def _transport_stream(file: BinaryIO, size: int) -> str | None:
    file.seek(0)
    head = file.read(2048)
    for length, offset in ((188, 0), (192, 4), (204, 0)):
        starts = head[offset::length]
        if len(starts) > 4 and set(starts) == {_SYNC} and size % length:
            return f"its last packet of {length} bytes is cut"
    return None


def _fragments(file: BinaryIO, size: int) -> str | None:
    """The index of other files is checked frame by frame; where there are fragments, each has its own."""
    fragments = False
    for at, kind, end in _boxes(file, 0, size):
        fragments = fragments or kind == b"moof"
        if kind not in _BOXES:
            return f"there is no box at byte {at}" if fragments else None
        if kind == b"moof":
            for inner, name, inner_end in _boxes(file, at + 8, min(end, size)):
                if inner_end > end or name not in _IN_FRAGMENT:
                    return f"there is no box at byte {inner}"
    return f"the file ends {end - size} bytes before its last box says" if fragments and end > size else None


def _boxes(file: BinaryIO, at: int, end: int) -> Iterator[tuple[int, bytes, int]]:
    """Where each box begins, its kind, and where it ends; the tracks of a fragment are looked into."""
    while at < end:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        if length == 1:
            length = int.from_bytes(file.read(8))
        elif length == 0:  # to the end
            length = end - at
        if length < 8:
            kind = b""
        yield at, kind, at + length
        at += 8 if kind == b"traf" else max(length, 8)


def _flash(file: BinaryIO, size: int) -> str | None:
    file.seek(5)
    at = int.from_bytes(file.read(4)) + 4
    while at < size:
        file.seek(at)
        following = at + 11 + int.from_bytes(file.read(4)[1:]) + 4
        if following > size:
            return f"the file ends within the tag at byte {at}"
        at = following
    return None


def _riff(file: BinaryIO, size: int) -> str | None:
    at = 0
    while at < size:
        file.seek(at)
        kind, length = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        if kind != b"RIFF" or length == 0xFFFFFFFF:  # written as it came, to where nobody could go back
            return None
        at += 8 + length + length % 2
    return f"the file ends {at - size} bytes before its header says" if at > size + 1 else None
