"""Reads and writes metadata of PNG (W3C PNG, third edition, section 11.3)."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from typing import TYPE_CHECKING

import av

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEYWORD = b"XML:com.adobe.xmp\0\0\0\0\0"  # not compressed, no language, no translation
_LARGEST_PROFILE = 255 * 65519  # bytes, JPEG's maximum; a few kilobytes of PNG can inflate to gigabytes


def png(rgb: Tensor) -> bytes:
    """Encode an (H, W, 3) uint8 tensor of RGB as PNG."""
    frame = av.VideoFrame.from_ndarray(rgb.numpy(), format="rgb24")
    encoder = av.VideoCodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "rgb24"
    encoder.time_base = frame.time_base = Fraction(1)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return one chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def read_png(data: bytes, found: dict[str, bytes]) -> None:
    """Add the chunks' metadata to ``found``, keyed as in `read_still`; a profile that does not inflate is empty."""
    for kind, body in png_chunks(data, len(SIGNATURE)):
        if kind == b"iCCP":
            found["ICC_PROFILE"] = _inflated(body[body.index(b"\0") + 2 :])
        elif kind == b"eXIf":
            found["EXIF"] = body
        elif kind == b"pHYs" and body[8] == 1:
            found["RESOLUTION"] = body[:8]
        elif kind == b"iTXt" and body.startswith(_XMP_KEYWORD):
            found["XMP"] = body[len(_XMP_KEYWORD) :]
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            found["TEXT"] = found.get("TEXT", b"") + png_chunk(kind, body)


def write_png(data: bytes, said: Mapping[str, bytes]) -> bytes:
    """Add the metadata in ``said`` to an encoder's PNG."""
    replaced = set()
    added = b""
    if "ICC_PROFILE" in said:
        replaced |= {b"cICP", b"cHRM", b"gAMA", b"iCCP", b"sRGB"}
        added += png_chunk(b"iCCP", b"ICC\0\0" + zlib.compress(said["ICC_PROFILE"]))
    if "RESOLUTION" in said:
        replaced.add(b"pHYs")
        added += png_chunk(b"pHYs", said["RESOLUTION"] + b"\1")
    if "EXIF" in said:
        added += png_chunk(b"eXIf", said["EXIF"])
    if "XMP" in said:
        added += png_chunk(b"iTXt", _XMP_KEYWORD + said["XMP"])
    added += said.get("TEXT", b"")
    chunks = [png_chunk(kind, body) for kind, body in png_chunks(data, len(SIGNATURE)) if kind not in replaced]
    return SIGNATURE + chunks[0] + added + b"".join(chunks[1:])


def png_chunks(data: bytes, at: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """Yield (kind, body) of each chunk from byte ``at`` on."""
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _inflated(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        profile = stream.decompress(data, _LARGEST_PROFILE)
    except zlib.error:
        return b""
    return profile if stream.eof else b""
