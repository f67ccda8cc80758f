"""`hide_tracks`: tracks of MP4 and MOV that players show only when they are asked to."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path
    from typing import BinaryIO

_ENABLED = 1  # of the flags of a track


def hide_tracks(path: Path, tracks: Collection[int]) -> None:
    """Let tracks of a finished file not be among those that are shown unasked (ISO/IEC 14496-12, section 8.3.2).

    FFmpeg's muxer has players show the first subtitles of a film where none are to be.

    Args:
        path: The file.
        tracks: Which of its tracks, from 0.
    """
    with path.open("r+b") as file:
        movie = next(box for box in _boxes(file, 0, path.stat().st_size) if box[0] == b"moov")
        found = [box for box in _boxes(file, *movie[1:]) if box[0] == b"trak"]
        for track in tracks:
            header = next(box for box in _boxes(file, *found[track][1:]) if box[0] == b"tkhd")
            file.seek(header[1] + 3)
            flags = file.read(1)[0]
            file.seek(header[1] + 3)
            file.write(bytes([flags & ~_ENABLED]))


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name of each box between two places, where its contents begin, and where it ends."""
    while start + 8 <= end:
        file.seek(start)
        size, name = struct.unpack(">I4s", file.read(8))
        begin = start + 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            begin += 8
        start += size or end - start
        yield name, begin, start
