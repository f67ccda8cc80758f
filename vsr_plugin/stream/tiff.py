"""The fields of a TIFF, and of EXIF, which has the same form (TIFF 6.0, section 2; Exif 3.0, section 4.6)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ORIENTATION, _WIDTH_RESOLUTION, _HEIGHT_RESOLUTION, _UNIT, _XMP, _IPTC = 274, 282, 283, 296, 700, 33723
_UNITS = {2: 0.0254, 3: 0.01}  # in metres; 1 is none
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}  # of one value, in bytes, by type
_LARGEST = 0xFFFFFFFF


def orientation(data: bytes) -> int:
    """1 to 8; 1, which is upright, where nothing says another."""
    order, fields = _fields(data)
    at, count, size = fields.get(_ORIENTATION, (0, 0, 0))
    return int(struct.unpack_from(f"{order}H", data, at)[0]) if count and size == 2 else 1


def upright(data: bytes) -> bytes:
    """The same with an orientation of 1, if it has one."""
    order, fields = _fields(data)
    changed = bytearray(data)
    if _ORIENTATION in fields:
        struct.pack_into(f"{order}H", changed, fields[_ORIENTATION][0], 1)
    return bytes(changed)


def read_tiff(data: bytes, found: dict[str, bytes]) -> None:
    """Add resolution, XMP and IPTC to ``found``, by the keys of `read_still`; the rest comes of the decoder."""
    order, fields = _fields(data)
    for tag, key in ((_XMP, "XMP"), (_IPTC, "IPTC")):
        if tag in fields:
            at, count, size = fields[tag]
            found[key] = data[at : at + count * size]
    if {_WIDTH_RESOLUTION, _HEIGHT_RESOLUTION} <= fields.keys():
        unit = struct.unpack_from(f"{order}H", data, fields[_UNIT][0])[0] if _UNIT in fields else 2
        pairs = [
            struct.unpack_from(f"{order}2I", data, fields[tag][0]) for tag in (_WIDTH_RESOLUTION, _HEIGHT_RESOLUTION)
        ]
        if unit in _UNITS and all(bottom for _, bottom in pairs):
            dots = (min(round(top / bottom / _UNITS[unit]), _LARGEST) for top, bottom in pairs)
            found["RESOLUTION"] = struct.pack(">2I", *dots)


def write_tiff(data: bytes, said: Mapping[str, bytes]) -> bytes:
    """An encoder's TIFF, which states some resolution, with that of ``said``."""
    order, fields = _fields(data)
    changed = bytearray(data)
    if "RESOLUTION" in said and {_WIDTH_RESOLUTION, _HEIGHT_RESOLUTION, _UNIT} <= fields.keys():
        for tag, dots in zip(
            (_WIDTH_RESOLUTION, _HEIGHT_RESOLUTION), struct.unpack(">2I", said["RESOLUTION"]), strict=True
        ):
            struct.pack_into(f"{order}2I", changed, fields[tag][0], min(dots * 254, _LARGEST), 10_000)
        struct.pack_into(f"{order}H", changed, fields[_UNIT][0], 2)
    return bytes(changed)


def _fields(data: bytes) -> tuple[str, dict[int, tuple[int, int, int]]]:
    """The byte order, and of the first directory: tag → (place of the values, how many, bytes of each)."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    fields: dict[int, tuple[int, int, int]] = {}
    if not order or len(data) < 10:
        return order, fields
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    if start + 2 > len(data):
        return order, fields
    (entries,) = struct.unpack_from(f"{order}H", data, start)
    for at in range(start + 2, min(start + 2 + 12 * entries, len(data) - 11), 12):
        tag, kind, count, place = struct.unpack_from(f"{order}2H2I", data, at)
        size = _SIZES.get(kind, 0)
        place = at + 8 if count * size <= 4 else place
        if size and place + count * size <= len(data):
            fields[tag] = place, count, size
    return order, fields
