"""Reads and writes metadata of JPEG (JFIF 1.02; Exif 3.0, section 4.7; ICC.1:2022, annex B.4)."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from .png import png_chunk, png_chunks
from .tiff import count_images

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SIGNATURE = b"\xff\xd8"
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_ICC = b"ICC_PROFILE\0"
_INDEX = b"MPF\0"
_COMMENT = b"Comment\0"  # the keyword of the equivalent PNG chunk
_LONGEST = 65533  # maximum bytes of a segment after its length
_PART = _LONGEST - len(_ICC) - 2  # maximum bytes of a profile's part, after its number and that of all parts
# The maximum that one image can store, in bytes.
CAPACITY = {"EXIF": _LONGEST - len(_EXIF), "XMP": _LONGEST - len(_XMP), "ICC_PROFILE": 255 * _PART}
_INCH = 0.0254
_ENCODERS = (b"Lavc", b"CREATOR: gd-jpeg")  # comments in which encoders name themselves
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # a marker that ends a scan
_JFIF = b"JFIF\0\1\1\0\0\1\0\1\0\0"  # version 1.1, no unit, square pixels, no thumbnail


def read_jpeg(data: bytes, found: dict[str, bytes]) -> None:
    """Add the segments' metadata to ``found``, keyed as in `read_still`; the decoder reads EXIF and the profile."""
    for marker, body in _segments(data):
        if marker == 0xE0 and body.startswith(b"JFIF\0") and body[7] in (1, 2):
            unit = _INCH if body[7] == 1 else 0.01
            found["RESOLUTION"] = struct.pack(
                ">2I", *(round(dots / unit) for dots in struct.unpack_from(">2H", body, 8))
            )
        elif marker == 0xE1 and body.startswith(_XMP):
            found["XMP"] = body[len(_XMP) :]
        elif marker == 0xE1 and body.startswith(_XMP_EXTENSION):
            found["XMP_EXTENSION"] = found.get("XMP_EXTENSION", b"") + _segment(marker, body)
        elif marker == 0xE2 and body.startswith(_INDEX):
            if (images := count_images(body[len(_INDEX) :], len(data))) > 1:
                found["IMAGES"] = struct.pack(">I", images)
        elif marker == 0xED and body.startswith(b"Photoshop 3.0\0"):
            found["IPTC"] = body
        elif marker == 0xFE and not body.startswith(_ENCODERS):
            text = body.rstrip(b"\0").replace(b"\0", b" ")
            found["TEXT"] = found.get("TEXT", b"") + png_chunk(b"tEXt", _COMMENT + text)
    if "IMAGES" not in found and (images := count_joined(data)) > 1:
        found["IMAGES"] = struct.pack(">I", images)


def is_whole(data: bytes) -> bool:
    """Whether an image's end marker follows its scans; also True without a scan, where the decoder fails anyway."""
    scan = data.find(b"\xff\xda", 2 + sum(4 + len(body) for _, body in _segments(data)))
    return scan < 0 or data.find(b"\xff\xd9", scan) >= 0


def count_joined(data: bytes) -> int:
    """Count the images that follow each other without a gap, including this one."""
    count = at = 0
    while data.startswith(SIGNATURE + b"\xff", at):
        count, at = count + 1, _end(data, at)
    return count


def _end(data: bytes, at: int) -> int:
    """Return the end of the image that begins at ``at``, or the end of the data if its segments do not lead to it."""
    at += 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xD9:
        scan = data[at + 1] == 0xDA
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
        if scan and (marker := _MARKER.search(data, at)):
            at = marker.start()
    return at + 2 if data.startswith(b"\xff\xd9", at) else len(data)


def comments(text: bytes) -> list[bytes] | None:
    """Convert text chunks of PNG to comments; None if JPEG cannot store one of them."""
    chunks = [(kind, body.removeprefix(_COMMENT), body) for kind, body in png_chunks(text)]
    if all(kind == b"tEXt" and len(body) > len(said) <= _LONGEST for kind, said, body in chunks):
        return [said for _, said, _ in chunks]
    return None


def write_jpeg(data: bytes, said: Mapping[str, bytes]) -> bytes:
    """Add the metadata in ``said``, within its `CAPACITY`, to an encoder's JPEG."""
    segments, rest = [], data[2:]
    if rest.startswith(b"\xff\xe0"):
        (length,) = struct.unpack_from(">H", rest, 2)
        segments, rest = [(0xE0, rest[4 : 2 + length])], rest[2 + length :]
    if "RESOLUTION" in said:
        jfif = segments.pop()[1] if segments else _JFIF
        dots = (min(round(value * _INCH), 65535) for value in struct.unpack(">2I", said["RESOLUTION"]))
        segments = [(0xE0, jfif[:7] + struct.pack(">B2H", 1, *dots) + jfif[12:])]
    if "EXIF" in said:
        segments.append((0xE1, _EXIF + said["EXIF"]))
    if "XMP" in said:
        segments.append((0xE1, _XMP + said["XMP"]))
    profile = said.get("ICC_PROFILE", b"")
    parts = [profile[at : at + _PART] for at in range(0, len(profile), _PART)]
    if texts := comments(said.get("TEXT", b"")):
        segments += [(0xFE, text) for text in texts]
        if rest.startswith(b"\xff\xfe") and rest[4:].startswith(_ENCODERS):  # readers show one comment, often the last
            rest = rest[2 + int.from_bytes(rest[2:4]) :]
    segments += [(0xE2, _ICC + bytes((number, len(parts))) + part) for number, part in enumerate(parts, 1)]
    written = b"".join(_segment(marker, body) for marker, body in segments)
    return SIGNATURE + written + said.get("XMP_EXTENSION", b"") + rest


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (marker, body) of all segments before the image's data."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + length


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
