"""Fields of TIFF, and of EXIF, which has the same structure (TIFF 6.0, section 2; Exif 3.0, section 4.6)."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_WIDTH, _HEIGHT = 256, 257
_ORIENTATION, _WIDTH_RESOLUTION, _HEIGHT_RESOLUTION, _UNIT = 274, 282, 283, 296
_XMP, _IPTC, _ICC = 700, 33723, 34675
_RESOLUTION = {_WIDTH_RESOLUTION, _HEIGHT_RESOLUTION, _UNIT}
# Tags about the storage of the samples, the program that wrote them, and the metadata that `read_still` returns itself.
_STORAGE = {
    *range(254, 267), 273, _ORIENTATION, *range(277, 282), 284, *range(288, 294), 297, 305, 317, *range(320, 326), 330,
    *range(338, 344), 347, *range(512, 522), *range(529, 533), _XMP, _IPTC, _ICC,
}  # fmt: skip
_OF_IMAGE = {_ORIENTATION, 305}  # those that EXIF keeps: orientation and program
_SUBFILE, _OLD_SUBFILE = 254, 255
_MP_IMAGES = 0xB002  # CIPA DC-007, section 5.2.3: 16 bytes each
_MP_THUMBNAILS = {0x010001, 0x010002}
_MOST_PAGES = 1 << 16
_ORDERS = {b"II": "<", b"MM": ">"}
_UNITS = {2: 0.0254, 3: 0.01}  # in metres; 1 is no unit
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}  # type → bytes of one value
_LARGEST = 0xFFFFFFFF


def orientation(data: bytes) -> int:
    """Read the orientation, 1 to 8; 1 (upright) if none is stated."""
    order, fields = _fields(data)
    at, count, size = fields.get(_ORIENTATION, (0, 0, 0))
    return int(struct.unpack_from(f"{order}H", data, at)[0]) if count and size == 2 else 1


def of_enlarged(data: bytes) -> bytes:
    """Remove EXIF's fields about the storage of the samples, whose number has changed; its orientation becomes 1."""
    order, fields = _fields(data)
    changed = bytearray(data)
    if _ORIENTATION in fields:
        struct.pack_into(f"{order}H", changed, fields[_ORIENTATION][0], 1)
    if not fields:
        return data
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    end = start + 2 + 12 * count
    entries = [changed[at : at + 12] for at in range(start + 2, end, 12)]
    kept = [entry for entry in entries if struct.unpack_from(f"{order}H", entry)[0] not in _STORAGE - _OF_IMAGE]
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + changed[end : end + 4]
    changed[start : start + len(directory)] = directory
    return bytes(changed)


def describes(data: bytes, *, resolution: bool) -> bool:
    """Whether EXIF contains more than the storage of the samples and the orientation.

    Args:
        data: EXIF. FFmpeg makes EXIF of all fields of every TIFF.
        resolution: Whether its resolution counts, too.
    """
    tags = _fields(data)[1].keys() - _STORAGE
    return bool(tags if resolution else tags - _RESOLUTION)


def count_pages(data: bytes) -> int:
    """Count the images of a TIFF, including those of TIFFs joined to it.

    Smaller copies of other images do not count, except for the first image.
    """
    count = 0
    while data:
        order = _ORDERS[data[:2]]
        directories = _directories(data, order)
        count += sum(at == 0 or not _is_reduced(data, order, start) for at, start in enumerate(directories))
        data = next((data[at:] for at in _headers(data) if _is_joined(data, at, directories)), b"")
    return count


def _headers(data: bytes) -> list[int]:
    """Positions of the headers, except for the first."""
    return [match.start() for match in re.finditer(rb"II\*\0|MM\0\*", data) if match.start()]


def _is_joined(data: bytes, at: int, directories: list[int]) -> bool:
    """Whether a header belongs to another file: some writers put headers before the pages of one file, too."""
    other = data[at:]
    starts = _directories(other, _ORDERS[other[:2]])
    known = {_WIDTH, _HEIGHT} <= _fields(other)[1].keys()
    return known and bool(starts) and at + starts[0] not in directories


def _directories(data: bytes, order: str) -> list[int]:
    """Positions of the directories, which form a linked list."""
    starts: dict[int, None] = {}
    link = 4  # position of the offset of the next directory
    while link + 4 <= len(data) and len(starts) < _MOST_PAGES:
        (start,) = struct.unpack_from(f"{order}I", data, link)
        if not start or start in starts or start + 2 > len(data):
            break
        starts[start] = None
        (entries,) = struct.unpack_from(f"{order}H", data, start)
        link = start + 2 + 12 * entries
    return list(starts)


def _is_reduced(data: bytes, order: str, start: int) -> bool:
    """Whether a directory's first entry says that its image is a smaller copy of another."""
    entry = start + 2
    if data[start:entry] == bytes(2) or entry + 12 > len(data):
        return False
    tag, kind, _ = struct.unpack_from(f"{order}2HI", data, entry)
    (value,) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, entry + 8)
    return bool(value & 1) if tag == _SUBFILE else tag == _OLD_SUBFILE and value == 2


def count_images(data: bytes, size: int) -> int:
    """Count the images in the index of a Multi-Picture JPEG (CIPA DC-007, section 5), without thumbnails.

    Args:
        data: The index.
        size: Bytes of the file: one that was cut after the first image may still have the index of all.
    """
    order, fields = _fields(data)
    at, length, _ = fields.get(_MP_IMAGES, (0, 0, 0))
    images = [struct.unpack_from(f"{order}3I", data, entry) for entry in range(at, at + length - 15, 16)]
    return sum(kind & 0xFFFFFF not in _MP_THUMBNAILS and place < size for kind, _, place in images)


def read_tiff(data: bytes, found: dict[str, bytes]) -> None:
    """Add resolution, XMP, IPTC and the number of pages to ``found``, keyed as in `read_still`.

    The decoder reads the rest.
    """
    if (pages := count_pages(data)) > 1:
        found["PAGES"] = struct.pack(">I", pages)
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
    """Add the metadata in ``said`` to an encoder's TIFF, which has one page and states a resolution."""
    order, fields = _fields(data)
    changed = bytearray(data)
    if "RESOLUTION" in said and {_WIDTH_RESOLUTION, _HEIGHT_RESOLUTION, _UNIT} <= fields.keys():
        for tag, dots in zip(
            (_WIDTH_RESOLUTION, _HEIGHT_RESOLUTION), struct.unpack(">2I", said["RESOLUTION"]), strict=True
        ):
            struct.pack_into(f"{order}2I", changed, fields[tag][0], min(dots * 254, _LARGEST), 10_000)
        struct.pack_into(f"{order}H", changed, fields[_UNIT][0], 2)
    added = {tag: (kind, said[key]) for tag, kind, key in ((_XMP, 1, "XMP"), (_ICC, 7, "ICC_PROFILE")) if key in said}
    return _with_fields(changed, order, added) if added else bytes(changed)


def _with_fields(data: bytearray, order: str, added: Mapping[int, tuple[int, bytes]]) -> bytes:
    """Add fields to a TIFF, tag → (type, values of one byte each): they and the new directory are appended."""
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    entries = {
        struct.unpack_from(f"{order}H", data, at)[0]: bytes(data[at : at + 12])
        for at in range(start + 2, start + 2 + 12 * count, 12)
    }
    for tag, (kind, values) in added.items():
        data += bytes(len(data) % 2)
        entries[tag] = struct.pack(f"{order}2H2I", tag, kind, len(values), len(data))
        data += values
    data += bytes(len(data) % 2)
    struct.pack_into(f"{order}I", data, 4, len(data))
    data += struct.pack(f"{order}H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    return bytes(data)


def _fields(data: bytes) -> tuple[str, dict[int, tuple[int, int, int]]]:
    """Read the byte order, and from the first directory: tag → (position, number, bytes of one) of the values."""
    order = _ORDERS.get(data[:2], "")
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
