"""HDR10 metadata and display rotation: from the input's side data to the output's stream header and bitstream.

PyAV can read a stream's side data but not set it. An MP4 header can state all of it, and a stream made from a template
inherits it in any container: `template` takes such a header, adds the side data, and opens it for reading.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av

from .stills.tiff import describes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from av import VideoFrame
    from av.container import InputContainer

    from ..frames import Frame


# Side data of streams and frames, by FFmpeg's names for a stream and for a frame. The loss of side data in neither
# table is not reported: motion vectors, an encoder's settings, film grain (the decoder applies it), MPEG-2's count of
# its frames, …
_HEADER = {
    "display_matrix": "the rotation",
    "DISPLAYMATRIX": "the rotation",
    "mastering_display_metadata": "HDR metadata",
    "MASTERING_DISPLAY_METADATA": "HDR metadata",
    "content_light_level": "HDR metadata",
    "CONTENT_LIGHT_LEVEL": "HDR metadata",
}
_OTHERS = {
    "dovi_conf": "Dolby Vision",
    "DOVI_METADATA": "Dolby Vision",
    "DOVI_RPU_BUFFER": "Dolby Vision",
    "dynamic_hdr10_plus": "HDR10+",
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
    "ambient_viewing_environment": "the ambient viewing environment",
    "AMBIENT_VIEWING_ENVIRONMENT": "the ambient viewing environment",
    "a53_cc": "closed captions",
    "A53_CC": "closed captions",
    "afd": "the active format description",
    "AFD": "the active format description",
    "spherical": "360° projection",
    "SPHERICAL": "360° projection",
    "stereo_3d": "3D",
    "STEREO3D": "3D",
    "VIEW_ID": "3D",
    "3d_reference_displays": "3D",
    "THREE_D_REFERENCE_DISPLAYS": "3D",
    "s12m_timecode": "the frames' timecode",
    "S12M_TIMECODE": "the frames' timecode",
    "dynamic_hdr_smpte_2094_app5": "dynamic HDR metadata",
    "lcevc": "LCEVC",
    "LCEVC": "LCEVC",
    "icc_profile": "the ICC profile",
    "ICC_PROFILE": "the ICC profile",
    "exif": "EXIF",
    "EXIF": "EXIF",
    "XMP": "XMP",
    "XMP_EXTENSION": "the rest of XMP",
    "IPTC": "IPTC",
    "TEXT": "the text",
    "RESOLUTION": "the resolution",
}


_COUNTS = {"PAGES": "pages", "IMAGES": "images"}
NAMES = _HEADER | _OTHERS
LASTING = frozenset(_HEADER)
"""Side data that is stated once and applies to the frames that follow."""
# Decoders that attach metadata to side data. PyAV frees that metadata twice, so the process crashes as soon as
# `side_data` of such a frame is read, for any entry.
_CRASHING = {"apng", "png"}


def read_side_data(frame: VideoFrame, codec: str, names: Iterable[str]) -> dict[str, bytes]:
    """Return the side data in ``names`` that a decoded frame has, FFmpeg's name → bytes; nothing for PNG.

    Args:
        frame: A frame from a decoder, or a copy of one.
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
        """Read FFmpeg's AVMasteringDisplayMetadata: ten fractions and two flags; None if it has no primaries."""
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
    """Side data of a whole stream.

    Attributes:
        mastering: The mastering display, or None.
        light_level: (MaxCLL, MaxFALL) in cd/m², or None.
        display_matrix: The 9 numbers of a rotation or flip, as 36 bytes in the machine's order, or None.
    """

    mastering: MasteringDisplay | None
    light_level: tuple[int, int] | None
    display_matrix: bytes | None

    @classmethod
    def collect(cls, stream: Mapping[str, bytes], frame: Frame) -> SideData:
        """Take the side data of a stream, or else that of its first frame."""
        mastering = stream.get("mastering_display_metadata") or frame.side_data.get("MASTERING_DISPLAY_METADATA")
        light = stream.get("content_light_level") or frame.side_data.get("CONTENT_LIGHT_LEVEL")
        return cls(
            mastering=MasteringDisplay.parse(mastering) if mastering else None,
            light_level=struct.unpack("2I", light[:8]) if light else None,
            display_matrix=stream.get("display_matrix") or frame.side_data.get("DISPLAYMATRIX"),
        )

    def __bool__(self) -> bool:
        return bool(self.mastering or self.light_level or self.display_matrix)

    def encoder_options(self, codec: str) -> dict[str, str]:
        """Options that make ``codec`` write the HDR metadata into its bitstream, too, where players look first."""
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
        """Return the mdcv and clli boxes of a visual sample entry."""
        data = b""
        if self.mastering:
            points, luminance = self.mastering.integers()
            data += _box(b"mdcv", struct.pack(">8H2I", *points, *luminance))
        if self.light_level:
            data += _box(b"clli", struct.pack(">2H", *self.light_level))
        return data


class Losses:
    """Finds, once for each kind, side data of a film's header and frames that an output cannot store.

    Args:
        stream: The stream's side data.
        first: The first frame; the output's header states its side data with the stream's.
        stated: Kinds that the header states: "the rotation", "HDR metadata".
        repeated: Kinds that are written with each frame: "EXIF", "the ICC profile".
    """

    def __init__(
        self, stream: Mapping[str, bytes], first: Frame, *, stated: Collection[str], repeated: Collection[str] = ()
    ) -> None:
        self._stream = stream
        self._known = {_fold(kind): data for kind, data in (*first.side_data.items(), *stream.items())}
        of_stream = {_fold(kind) for kind in stream}
        self._of_frames = {kind for kind in first.side_data if kind in LASTING and _fold(kind) not in of_stream}
        self._stated = stated
        self._repeated = repeated
        self._told: set[str] = set()

    def of(self, frame: Frame) -> list[str]:
        """Describe what is lost of this frame and has not been returned before."""
        if not self._known and not frame.side_data:
            return []
        missing = self._of_frames - frame.side_data.keys()
        names = [f"{NAMES[kind]} of later frames" for kind in sorted(missing) if NAMES[kind] in self._stated]
        for kind, data in (*self._stream.items(), *frame.side_data.items()):
            name = NAMES.get(kind)
            if kind == "EXIF" and not describes(data, resolution="RESOLUTION" not in frame.side_data):
                continue
            if name in self._stated:
                if data != self._known.get(_fold(kind)):
                    names.append(f"{name} of later frames")
            elif name is not None and name not in self._repeated:
                names.append(name)
        for kind, word in _COUNTS.items():
            if kind in frame.side_data:
                count = int.from_bytes(frame.side_data[kind])
                names.append(f"{count - 1} of its {count} {word}")
        new = [name for name in dict.fromkeys(names) if name not in self._told]
        self._told.update(new)
        return new


def _fold(kind: str) -> str:
    """Convert FFmpeg's names of a stream's and a frame's side data to the same key."""
    return kind.replace("_", "").lower()


def template(header: bytes, side_data: SideData) -> InputContainer:
    """Add ``side_data`` to the one track of an MP4 header, and open it for reading: its video stream is the template.

    Args:
        header: Output of the MP4 or MOV muxer with ``movflags=empty_moov`` and one video track.
        side_data: Side data to add.
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
    """Return the offsets of the boxes along a path, each the first of its kind inside the previous one."""
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
