"""`hide_tracks`: makes players show tracks of MP4 and MOV only on request."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path
    from typing import BinaryIO

_ENABLED = 1  # flag of a track


def hide_tracks(path: Path, tracks: Collection[int]) -> None:
    """Make players show tracks of a finished file only on request (ISO/IEC 14496-12, section 8.3.2).

    If no subtitles are to be shown by default, FFmpeg's muxer enables the first ones.

    Args:
        path: The file.
        tracks: Indices of the tracks, from 0.
    """
    with path.open("r+b") as file:
        movie = next(box for box in boxes(file, 0, path.stat().st_size) if box[0] == b"moov")
        found = [box for box in boxes(file, *movie[1:]) if box[0] == b"trak"]
        for track in tracks:
            header = next(box for box in boxes(file, *found[track][1:]) if box[0] == b"tkhd")
            file.seek(header[1] + 3)
            flags = file.read(1)[0]
            file.seek(header[1] + 3)
            file.write(bytes([flags & ~_ENABLED]))


def boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start of the contents and end of each box between two positions."""
    while start + 8 <= end:
        file.seek(start)
        size, name = struct.unpack(">I4s", file.read(8))
        begin = start + 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            begin += 8
        if 0 < size < begin - start:
            return  # damage
        start += size or end - start
        yield name, begin, start
