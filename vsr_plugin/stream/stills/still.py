"""Metadata of still images: reads it from an image's bytes, and writes it into those of an encoder.

FFmpeg's decoders return EXIF and the ICC profile, but PNG's cannot be read (see `side_data`), and XMP, text and the
resolution are missing; and PyAV passes none of it to an encoder. So the bytes of the image are read and changed.
"""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import av

from ..orientation import exif_matrix
from . import jpeg, png
from .jpeg import read_jpeg, write_jpeg
from .png import read_png, write_png
from .tiff import of_enlarged, orientation, read_tiff, write_tiff
from .webp import is_webp, read_webp, write_webp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av.packet import Packet

# Metadata that can be written into an image, by encoder.
WRITTEN = {
    "bmp": {"the resolution"},
    "libwebp": {"EXIF", "the ICC profile", "XMP"},
    "mjpeg": {"EXIF", "the ICC profile", "XMP", "the rest of XMP", "the text", "the resolution"},
    "png": {"EXIF", "the ICC profile", "XMP", "the text", "the resolution"},
    "tiff": {"the ICC profile", "XMP", "the resolution"},
}
# Codec → number of first bytes that are the same in joined images of one size; FFmpeg reads only the first image.
_HEADERS = {"dds": 20, "exr": 12, "pcx": 12, "sgi": 12, "sunrast": 16, "targa": 18}
READ = {"bmp", "mjpeg", "pam", "pbm", "pgm", "png", "ppm", "tiff", "webp", *_HEADERS}  # codecs that `read_still` knows
_NAMES = {"EXIF": "EXIF", "ICC_PROFILE": "the ICC profile", "XMP": "XMP", "TEXT": "the text"}
_BMP_RESOLUTION = 38  # its position: 4 bytes for each axis, in pixels per metre
_NETPBM = re.compile(rb"P[14]\s+\d+\s+\d+\s|P[2356]\s+\d+\s+\d+\s+\d+\s|P7\n(?:[^\n]*\n)+?ENDHDR\n")  # headers
_PROFILE_HEADER = 128  # bytes: ICC.1:2022, section 7.2


def read_still(data: bytes, codec: str = "") -> dict[str, bytes]:
    """Read EXIF, ICC_PROFILE, XMP, TEXT (chunks of PNG), RESOLUTION (pixels per metre), DISPLAYMATRIX, if present.

    PAGES (of a TIFF) or IMAGES (of others) is the total number of images, if there are several.
    """
    found: dict[str, bytes] = {}
    with suppress(struct.error, ValueError, IndexError):  # damaged, which the decoder reports
        if data.startswith(png.SIGNATURE):
            read_png(data, found)
        elif data.startswith(jpeg.SIGNATURE):
            read_jpeg(data, found)
        elif is_webp(data):
            read_webp(data, found)
        elif data[:4] in (b"II*\0", b"MM\0*"):
            read_tiff(data, found)
        elif data.startswith(b"BM"):
            dots = struct.unpack_from("<2i", data, _BMP_RESOLUTION)
            if min(dots) > 0:
                found["RESOLUTION"] = struct.pack(">2I", *dots)
        elif (header := _header(data, codec)) and (images := data.count(header)) > 1:
            found["IMAGES"] = struct.pack(">I", images)
    with suppress(struct.error):
        if (matrix := exif_matrix(orientation(found.get("EXIF", b"")))) is not None:
            found["DISPLAYMATRIX"] = matrix
    return found


def _header(data: bytes, codec: str) -> bytes:
    """The first bytes of further images of the same size and kind that may be joined to this one; empty if unknown."""
    if header := _NETPBM.match(data):
        return header[0]
    return data[: _HEADERS[codec]] if codec in _HEADERS else b""


def write_still(data: bytes, said: Mapping[str, bytes]) -> bytes:
    """Add the metadata in ``said`` to an encoder's image; EXIF loses its fields about the storage of samples."""
    said = {**said, "EXIF": of_enlarged(said["EXIF"])} if "EXIF" in said else said
    if data.startswith(png.SIGNATURE):
        return write_png(data, said)
    if data.startswith(jpeg.SIGNATURE):
        return write_jpeg(data, said)
    if is_webp(data):
        return write_webp(data, said)
    if data.startswith(b"BM"):
        dots = struct.unpack(">2I", said["RESOLUTION"]) if "RESOLUTION" in said else None
        end = _BMP_RESOLUTION + 8
        return data if dots is None else data[:_BMP_RESOLUTION] + struct.pack("<2I", *dots) + data[end:]
    return write_tiff(data, said)


class StillWriter:
    """Writes the metadata of each frame into the image that an encoder makes of it.

    Args:
        codec: The encoder, one of `WRITTEN`.
        gray: Whether the images have no color.
    """

    def __init__(self, codec: str, *, gray: bool) -> None:
        self._is_jpeg = codec == "mjpeg"
        self._gray = gray
        self._said: dict[int | None, Mapping[str, bytes]] = {}  # pts → side data of the images inside the encoder
        self._told: set[str] = set()

    def keep(self, pts: int, side_data: Mapping[str, bytes]) -> dict[str, str]:
        """Keep metadata for the image with this timestamp; return what it cannot store, and why, each once."""
        lost = {key: why for key, data in side_data.items() if (why := self._misfit(key, data))}
        self._said[pts] = {key: data for key, data in side_data.items() if key not in lost}
        new = {_NAMES[key]: why for key, why in lost.items() if key not in self._told}
        self._told.update(lost)
        return new

    def write(self, packet: Packet[Any]) -> Packet[Any]:
        """Return the encoder's packet with the metadata kept for it."""
        said = self._said.pop(packet.pts, None)
        if not said:
            return packet
        written: Packet[Any] = av.Packet(write_still(bytes(packet), said))
        written.pts, written.dts, written.duration = packet.pts, packet.dts, packet.duration
        written.time_base = packet.time_base
        return written

    def _misfit(self, key: str, data: bytes) -> str | None:
        if key == "ICC_PROFILE" and (why := _unfit(data, gray=self._gray)):
            return why
        if self._is_jpeg and len(data) > (most := jpeg.CAPACITY.get(key, len(data))):
            return f"it has {len(data)} bytes, and JPEG holds {most}"
        if self._is_jpeg and key == "TEXT" and jpeg.comments(data) is None:
            return "JPEG holds comments of up to 65533 bytes, and no other text"
        return None


def _unfit(profile: bytes, *, gray: bool) -> str | None:
    """Why an ICC profile does not fit gray samples, or else RGB samples; None if it does."""
    if len(profile) < _PROFILE_HEADER or profile[36:40] != b"acsp":
        return "it is damaged, or too large"
    space, written = profile[16:20].decode("latin-1").strip(), "GRAY" if gray else "RGB"
    return None if space == written else f"it is one for {space}, and {written} is written"
