"""`read_pixel_aspect`: the shape of the pixels of an image in HEIF or AVIF, which FFmpeg does not read.

Sources: ISO/IEC 14496-12 (8.11.4, 8.11.14, 12.1.4), and ISO/IEC 23008-12 (6.5.4).
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING

from ..containers.mov_header import boxes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    Box = tuple[bytes, int, int]  # name, start of the contents, end

_MOST = 1 << 20  # bytes of a box that are read


def read_pixel_aspect(file: BinaryIO) -> Fraction | None:
    """Read width : height of a pixel of the primary image; None if the file states none, or holds a film."""
    size = file.seek(0, 2)
    try:
        found = {name: (start, end) for name, start, end in boxes(file, 0, size)}
        if b"ftyp" not in found or b"moov" in found or b"meta" not in found:
            return None
        start, end = found[b"meta"]
        inside = {box[0]: box for box in boxes(file, start + 4, end)}
        primary = _read(file, inside[b"pitm"])
        item = int.from_bytes(primary[4:6] if primary[0] == 0 else primary[4:8])
        parts = list(boxes(file, *inside[b"iprp"][1:]))
        properties = [box for part in parts if part[0] == b"ipco" for box in boxes(file, *part[1:])]
        for part in parts:
            for owner, number in _links(_read(file, part)) if part[0] == b"ipma" else ():
                if owner == item and 0 < number <= len(properties) and properties[number - 1][0] == b"pasp":
                    return Fraction(*struct.unpack(">II", _read(file, properties[number - 1])[:8]))
    except (struct.error, KeyError, IndexError, ZeroDivisionError):  # damage, which is told elsewhere
        return None
    return None


def _read(file: BinaryIO, box: Box) -> bytes:
    file.seek(box[1])
    return file.read(min(box[2] - box[1], _MOST))


def _links(data: bytes) -> Iterator[tuple[int, int]]:
    """(item, number of its property, from 1) of each link in an ``ipma`` box."""
    wide_items, wide_numbers = data[0] >= 1, data[3] & 1
    (entries,) = struct.unpack_from(">I", data, 4)
    at = 8
    for _ in range(entries):
        (item,) = struct.unpack_from(">I" if wide_items else ">H", data, at)
        at += 4 if wide_items else 2
        count = data[at]
        at += 1
        for _ in range(count):
            (number,) = struct.unpack_from(">H" if wide_numbers else ">B", data, at)
            at += 2 if wide_numbers else 1
            yield item, number & (0x7FFF if wide_numbers else 0x7F)
