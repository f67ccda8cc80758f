"""HDR10 metadata and display rotation: out of the input's side data, into the output's stream header and bitstream.

PyAV reads a stream's side data but cannot set it. An MP4 header can state all of it, and a stream made from a template
takes it over, into any container: so `template` takes such a header, adds what must be there, and reads it back.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from av import VideoFrame
    from av.container import InputContainer

    from ..frames import Frame


# What no encoder of PyAV's can be given, by FFmpeg's names for a stream and for a frame.
LOST = {
    "dovi_conf": "Dolby Vision",
    "dynamic_hdr10_plus": "HDR10+",
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "A53_CC": "closed captions",
    "spherical": "360° projection",
    "stereo_3d": "3D",
}


# Decoders that attach metadata to side data. PyAV frees that metadata twice, so the process crashes as soon as
# `side_data` of such a frame is read, whichever entry is asked for.
_CRASHING = {"apng", "png"}


def read_side_data(frame: VideoFrame, codec: str, names: Iterable[str]) -> dict[str, bytes]:
    """FFmpeg's name → bytes, of the side data in ``names`` that a decoded frame has; nothing of PNG.

    Args:
        frame: From a decoder, or a copy of such a frame.
        codec: Canonical name of the decoder's codec.
        names: As in `av.sidedata.sidedata.Type`.
    """
    if codec in _CRASHING:
        return {}
    found = {kind.name: data for kind, data in frame.side_data.items()}
    return {name: bytes(found[name]) for name in names if name in found}


@dataclass(frozen=True, slots=True)
class MasteringDisplay:
    """SMPTE ST 2086: the display a picture was graded on.

    Attributes:
        primaries: CIE 1931 (x, y) of red, green and blue.
        white: CIE 1931 (x, y) of the white point.
        luminance: (minimum, maximum) in cd/m².
    """

    primaries: tuple[tuple[Fraction, Fraction], ...]
    white: tuple[Fraction, Fraction]
    luminance: tuple[Fraction, Fraction]

    @classmethod
    def parse(cls, data: bytes) -> MasteringDisplay | None:
        """From FFmpeg's AVMasteringDisplayMetadata: ten fractions and two flags; None if it has no primaries."""
        numbers = struct.unpack("20i2i", data[:88])
        if not numbers[20]:
            return None
        pairs = zip(numbers[0:20:2], numbers[1:20:2], strict=True)
        v = [Fraction(top, bottom) if bottom else Fraction(0) for top, bottom in pairs]
        return cls(((v[0], v[1]), (v[2], v[3]), (v[4], v[5])), (v[6], v[7]), (v[8], v[9]))

    def integers(self) -> tuple[list[int], tuple[int, int]]:
        """x, y of green, blue, red and white in 0.00002, and (maximum, minimum) in 0.0001 cd/m², as in SEI."""
        red, green, blue = self.primaries
        points = [coordinate for point in (green, blue, red, self.white) for coordinate in point]
        low, high = self.luminance
        return [round(value * 50_000) for value in points], (round(high * 10_000), round(low * 10_000))


@dataclass(frozen=True, slots=True)
class SideData:
    """What a whole stream says beside its samples.

    Attributes:
        mastering: The mastering display, or None.
        light_level: (MaxCLL, MaxFALL) in cd/m², or None.
        display_matrix: The 9 numbers of a rotation or flip, as 36 bytes in the machine's order, or None.
        lost: Names of what the input has and no encoder of PyAV's can be given.
    """

    mastering: MasteringDisplay | None
    light_level: tuple[int, int] | None
    display_matrix: bytes | None
    lost: tuple[str, ...]

    @classmethod
    def collect(cls, stream: Mapping[str, bytes], frame: Frame) -> SideData:
        """From a stream's side data and, where that is silent, its first frame's."""
        mastering = stream.get("mastering_display_metadata") or frame.side_data.get("MASTERING_DISPLAY_METADATA")
        light = stream.get("content_light_level") or frame.side_data.get("CONTENT_LIGHT_LEVEL")
        return cls(
            mastering=MasteringDisplay.parse(mastering) if mastering else None,
            light_level=struct.unpack("2I", light[:8]) if light else None,
            display_matrix=stream.get("display_matrix"),
            lost=tuple(dict.fromkeys(name for key, name in LOST.items() if key in stream or key in frame.side_data)),
        )

    def __bool__(self) -> bool:
        return bool(self.mastering or self.light_level or self.display_matrix)

    def encoder_options(self, codec: str) -> dict[str, str]:
        """Options that make ``codec`` repeat the HDR metadata inside its bitstream, where players look first."""
        parts = []
        if self.mastering:
            points, (high, low) = self.mastering.integers()
            names = ("G", "B", "R", "WP")
            if codec == "libsvtav1":
                values = "".join(
                    f"{name}({points[2 * i] / 50_000:.5f},{points[2 * i + 1] / 50_000:.5f})"
                    for i, name in enumerate(names)
                )
                parts.append(f"mastering-display={values}L({high / 10_000:.4f},{low / 10_000:.4f})")
            else:
                values = "".join(f"{name}({points[2 * i]},{points[2 * i + 1]})" for i, name in enumerate(names))
                key = "master-display" if codec == "libx265" else "mastering-display"
                parts.append(f"{key}={values}L({high},{low})")
        if self.light_level:
            key = {"libx265": "max-cll", "libx264": "cll"}.get(codec, "content-light")
            parts.append(f"{key}={self.light_level[0]},{self.light_level[1]}")
        option = {"libx264": "x264-params", "libx265": "x265-params", "libsvtav1": "svtav1-params"}.get(codec)
        return {option: ":".join(parts)} if option and parts else {}

    def _boxes(self) -> bytes:
        """The mdcv and clli boxes of a visual sample entry."""
        data = b""
        if self.mastering:
            points, luminance = self.mastering.integers()
            data += _box(b"mdcv", struct.pack(">8H2I", *points, *luminance))
        if self.light_level:
            data += _box(b"clli", struct.pack(">2H", *self.light_level))
        return data


def template(header: bytes, side_data: SideData) -> InputContainer:
    """An MP4 header with ``side_data`` added to its one track, opened for reading: its video stream is the template.

    Args:
        header: What the MP4 or MOV muxer writes with ``movflags=empty_moov``: one video track.
        side_data: What to add.
    """
    data = bytearray(header)
    if side_data.display_matrix:
        track_header = _find(data, "moov", "trak", "tkhd")[-1]
        matrix = struct.unpack("=9i", side_data.display_matrix)
        at = track_header + (52 if data[track_header + 8] == 1 else 40) + 8
        struct.pack_into(">9i", data, at, *matrix)
    if added := side_data._boxes():
        path = _find(data, "moov", "trak", "mdia", "minf", "stbl", "stsd")
        entry = path[-1] + 16
        (size,) = struct.unpack_from(">I", data, entry)
        data[entry + size : entry + size] = added
        for box in (*path, entry):
            (size,) = struct.unpack_from(">I", data, box)
            struct.pack_into(">I", data, box, size + len(added))
    return av.open(io.BytesIO(bytes(data)), "r", format="mov")


def _box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def _find(data: bytearray, *path: str) -> list[int]:
    """Offsets of the boxes along a path, each the first of its kind inside the one before."""
    found: list[int] = []
    start, end = 0, len(data)
    for kind in path:
        while start < end:
            size, name = struct.unpack_from(">I4s", data, start)
            if name == kind.encode():
                found.append(start)
                start, end = start + 8, start + size
                break
            start += size
        else:
            raise LookupError(f"no {kind} box")
    return found
