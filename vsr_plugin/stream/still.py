"""What a still image says of itself beside its pixels: read out of PNG, JPEG and WebP, and put into them.

FFmpeg's decoders give a frame's EXIF and ICC profile; but those of PNG cannot be read (see `side_data`), XMP, text and
the resolution are not among them, and PyAV gives none of it to an encoder. So the bytes of the image are read: PNG
(W3C PNG, third edition, section 11.3), JPEG (JFIF 1.02; Exif 3.0, section 4.7; ICC.1:2022, annex B.4) and WebP
(RFC 9649, section 2.7).
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from .orientation import exif_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# What can be written into an image, by encoder.
WRITTEN = {
    "png": {"EXIF", "the ICC profile", "XMP", "the text", "the resolution"},
    "mjpeg": {"EXIF", "the ICC profile", "XMP", "the resolution"},
    "libwebp": {"EXIF", "the ICC profile", "XMP"},
}
_PNG = b"\x89PNG\r\n\x1a\n"
_XMP_KEYWORD = b"XML:com.adobe.xmp\0\0\0\0\0"  # not compressed, no language, no translation
_XMP_SPACE = b"http://ns.adobe.com/xap/1.0/\0"
_INCH = 0.0254
_ENCODERS = (b"Lavc", b"CREATOR: gd-jpeg")  # comments by which encoders name themselves


def read_still(data: bytes) -> dict[str, bytes]:
    """EXIF, ICC_PROFILE, XMP, TEXT (chunks of PNG), RESOLUTION (pixels per metre), DISPLAYMATRIX; what there is."""
    found: dict[str, bytes] = {}
    try:
        if data.startswith(_PNG):
            found = _read_png(data)
        elif data.startswith(b"\xff\xd8"):
            found = _read_jpeg(data)
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            chunks = dict(_riff_chunks(data))
            found = {"XMP": chunks[b"XMP "]} if b"XMP " in chunks else {}
    except (struct.error, zlib.error, ValueError, IndexError):  # damaged: its decoder says so
        pass
    if (matrix := exif_matrix(_orientation(found.get("EXIF", b"")))) is not None:
        found["DISPLAYMATRIX"] = matrix
    return found


def write_still(data: bytes, said: Mapping[str, bytes]) -> bytes:
    """An encoder's PNG, JPEG or WebP with what ``said`` holds; EXIF's orientation becomes 1, for pixels are upright."""
    said = {**said, "EXIF": _upright(said["EXIF"])} if "EXIF" in said else said
    if data.startswith(_PNG):
        return _write_png(data, said)
    if data.startswith(b"\xff\xd8"):
        return _write_jpeg(data, said)
    return _write_webp(data, said)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _read_png(data: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for kind, body in _png_chunks(data):
        if kind == b"iCCP":
            found["ICC_PROFILE"] = zlib.decompress(body[body.index(b"\0") + 2 :])
        elif kind == b"eXIf":
            found["EXIF"] = body
        elif kind == b"pHYs" and body[8] == 1:
            found["RESOLUTION"] = body[:8]
        elif kind == b"iTXt" and body.startswith(_XMP_KEYWORD):
            found["XMP"] = body[len(_XMP_KEYWORD) :]
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            found["TEXT"] = found.get("TEXT", b"") + _png_chunk(kind, body)
    return found


def _write_png(data: bytes, said: Mapping[str, bytes]) -> bytes:
    replaced = set()
    added = b""
    if "ICC_PROFILE" in said:
        replaced |= {b"cICP", b"cHRM", b"gAMA", b"iCCP", b"sRGB"}
        added += _png_chunk(b"iCCP", b"ICC\0\0" + zlib.compress(said["ICC_PROFILE"]))
    if "RESOLUTION" in said:
        replaced.add(b"pHYs")
        added += _png_chunk(b"pHYs", said["RESOLUTION"] + b"\1")
    if "EXIF" in said:
        added += _png_chunk(b"eXIf", said["EXIF"])
    if "XMP" in said:
        added += _png_chunk(b"iTXt", _XMP_KEYWORD + said["XMP"])
    added += said.get("TEXT", b"")
    chunks = [_png_chunk(kind, body) for kind, body in _png_chunks(data) if kind not in replaced]
    return _PNG + chunks[0] + added + b"".join(chunks[1:])


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, body) of all segments before the image's data."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + length


def _jpeg_segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _read_jpeg(data: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for marker, body in _jpeg_segments(data):
        if marker == 0xE0 and body.startswith(b"JFIF\0") and body[7] in (1, 2):
            unit = _INCH if body[7] == 1 else 0.01
            found["RESOLUTION"] = struct.pack(
                ">2I", *(round(dots / unit) for dots in struct.unpack_from(">2H", body, 8))
            )
        elif marker == 0xE1 and body.startswith(_XMP_SPACE):
            found["XMP"] = body[len(_XMP_SPACE) :]
        elif marker == 0xED and body.startswith(b"Photoshop 3.0\0"):
            found["IPTC"] = body
        elif marker == 0xFE and not body.startswith(_ENCODERS):
            text = body.rstrip(b"\0").replace(b"\0", b" ")
            found["TEXT"] = found.get("TEXT", b"") + _png_chunk(b"tEXt", b"Comment\0" + text)
    return found


def _write_jpeg(data: bytes, said: Mapping[str, bytes]) -> bytes:
    first = 2
    head = data[:2]
    if data[2:4] == b"\xff\xe0":
        (length,) = struct.unpack_from(">H", data, 4)
        first += 2 + length
        jfif = bytearray(data[2:first])
        if "RESOLUTION" in said:
            dots = (min(round(value * _INCH), 65535) for value in struct.unpack(">2I", said["RESOLUTION"]))
            struct.pack_into(">B2H", jfif, 11, 1, *dots)
        head += jfif
    added = []
    if "EXIF" in said:
        added.append((0xE1, b"Exif\0\0" + said["EXIF"]))
    if "XMP" in said:
        added.append((0xE1, _XMP_SPACE + said["XMP"]))
    if profile := said.get("ICC_PROFILE"):
        parts = [profile[at : at + 65519] for at in range(0, len(profile), 65519)]
        added += [(0xE2, b"ICC_PROFILE\0" + bytes((number, len(parts))) + part) for number, part in enumerate(parts, 1)]
    return head + b"".join(_jpeg_segment(marker, body) for marker, body in added if len(body) <= 65533) + data[first:]


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _write_webp(data: bytes, said: Mapping[str, bytes]) -> bytes:
    chunks = dict(_riff_chunks(data))
    header = bytearray(chunks.pop(b"VP8X", b"") or _webp_header(chunks))
    flags = {b"ICCP": ("ICC_PROFILE", 0x20), b"EXIF": ("EXIF", 0x08), b"XMP ": ("XMP", 0x04)}
    for kind, (name, flag) in flags.items():
        if name in said:
            chunks[kind] = said[name]
            header[0] |= flag
    order = [b"ICCP", *(kind for kind in chunks if kind not in flags), b"EXIF", b"XMP "]
    body = b"WEBP"
    for kind, part in ((b"VP8X", bytes(header)), *((kind, chunks[kind]) for kind in order if kind in chunks)):
        body += kind + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_header(chunks: Mapping[bytes, bytes]) -> bytes:
    """The VP8X of a file that has none: whether there is alpha, and the size."""
    if lossless := chunks.get(b"VP8L"):
        (bits,) = struct.unpack_from("<I", lossless, 1)
        width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
    else:
        width, height = ((int(side) - 1) & 0x3FFF for side in struct.unpack_from("<2H", chunks[b"VP8 "], 6))
        alpha = b"ALPH" in chunks
    flags = 0x10 if alpha else 0
    return struct.pack("<IHBHB", flags, width & 0xFFFF, width >> 16, height & 0xFFFF, height >> 16)


def _orientation_at(exif: bytes) -> tuple[int, str] | None:
    """Where EXIF's first directory has its orientation, and the byte order."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 10:
        return None
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    if start + 2 > len(exif):
        return None
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        if struct.unpack_from(f"{order}H", exif, at) == (0x112,):
            return at + 8, order
    return None


def _orientation(exif: bytes) -> int:
    found = _orientation_at(exif)
    return int(struct.unpack_from(f"{found[1]}H", exif, found[0])[0]) if found else 1


def _upright(exif: bytes) -> bytes:
    found = _orientation_at(exif)
    changed = bytearray(exif)
    if found:
        struct.pack_into(f"{found[1]}H", changed, found[0], 1)
    return bytes(changed)
