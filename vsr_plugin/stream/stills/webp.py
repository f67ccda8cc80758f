"""Reads and writes metadata of WebP (RFC 9649, section 2.7)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FLAGS = {b"ICCP": ("ICC_PROFILE", 0x20), b"EXIF": ("EXIF", 0x08), b"XMP ": ("XMP", 0x04)}


def is_webp(data: bytes) -> bool:
    """Whether the data begins like a WebP file."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def read_webp(data: bytes, found: dict[str, bytes]) -> None:
    """Add its XMP to ``found``, keyed as in `read_still`; the decoder reads EXIF and the profile."""
    chunks = dict(_chunks(data))
    if b"XMP " in chunks:
        found["XMP"] = chunks[b"XMP "]


def write_webp(data: bytes, said: Mapping[str, bytes]) -> bytes:
    """Add the metadata in ``said`` to an encoder's WebP."""
    chunks = dict(_chunks(data))
    header = bytearray(chunks.pop(b"VP8X", b"") or _header(chunks))
    for kind, (name, flag) in _FLAGS.items():
        if name in said:
            chunks[kind] = said[name]
            header[0] |= flag
    order = [b"ICCP", *(kind for kind in chunks if kind not in _FLAGS), b"EXIF", b"XMP "]
    body = b"WEBP"
    for kind, part in ((b"VP8X", bytes(header)), *((kind, chunks[kind]) for kind in order if kind in chunks)):
        body += kind + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _header(chunks: Mapping[bytes, bytes]) -> bytes:
    """Make the VP8X chunk of a file that has none, with its alpha flag and size."""
    if lossless := chunks.get(b"VP8L"):
        (bits,) = struct.unpack_from("<I", lossless, 1)
        width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
    else:
        width, height = ((int(side) - 1) & 0x3FFF for side in struct.unpack_from("<2H", chunks[b"VP8 "], 6))
        alpha = b"ALPH" in chunks
    flags = 0x10 if alpha else 0
    return struct.pack("<IHBHB", flags, width & 0xFFFF, width >> 16, height & 0xFFFF, height >> 16)
