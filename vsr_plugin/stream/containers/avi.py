"""`avi_check`: checks the chunks of an AVI file, and counts its frames, also those that its index does not list.

Sources: Microsoft's "AVI RIFF File Reference", and OpenDML's extensions for files of several parts.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from .walk import BrokenError

if TYPE_CHECKING:
    from av.video.stream import VideoStream

    from .walk import Check, Steps, Walk

_PARTS = (b"movi", b"rec ")  # lists that contain frames, or lists of them
_OPEN = (0, 0xFFFFFFFF)  # lengths in files that were written without seeking back


def avi_check(stream: VideoStream) -> Check:
    """Return the check of an AVI file, which records the positions of the stream's frames."""
    kinds = (f"{stream.index:02d}dc".encode(), f"{stream.index:02d}db".encode())
    sound = {f"{other.index:02d}wb".encode() for other in stream.container.streams}

    def check(walk: Walk) -> Steps:
        end = 0  # end of the current part, in bytes
        while True:
            at = walk.at
            try:
                head = yield 8
            except EOFError:
                if walk.unfinished:
                    raise
                return
            kind, length = struct.unpack("<4sI", head)
            if at >= end:
                if kind != b"RIFF" or length in _OPEN:
                    return
                end = at + 8 + length
                walk.unfinished = "its list of chunks"
                yield -4
                continue
            if kind == b"LIST":
                name = yield 4
                if name not in _PARTS:
                    yield -(length + length % 2 - 4)
            elif not kind.isascii() or not kind.strip(b" ").isalnum():
                raise BrokenError(f"there is no chunk at byte {at}")
            else:
                if kind in kinds and length:
                    walk.frames.append(at)
                if kind[2:] == b"wb" and kind not in sound:
                    sound.add(kind)
                    walk.note(at, f"the header says nothing of the sound at byte {at}")
                yield -(length + length % 2)
            if walk.at >= end:
                walk.unfinished = None

    return check
