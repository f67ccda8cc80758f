"""`matroska_check`: checks the elements of Matroska and WebM files.

FFmpeg's demuxer skips what it cannot read, and ends without an error where a file is cut. But the elements of such a
file follow each other without a gap, each states its size, and few kinds occur between the frames (RFC 8794, EBML;
RFC 9559, Matroska): an invalid element is damage, and so is a block without a packet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .matroska_header import find_tracks, track_numbers
from .walk import BrokenError

if TYPE_CHECKING:
    from collections.abc import Generator

    from av.video.stream import VideoStream

    from .walk import Check, Steps, Walk

_SEGMENT, _CLUSTER, _TRACKS, _EBML = 0x18538067, 0x1F43B675, 0x1654AE6B, 0x1A45DFA3
_SIMPLE_BLOCK, _BLOCK_GROUP, _BLOCK = 0xA3, 0xA0, 0xA1
_ANYWHERE = {0xEC, 0xBF}  # Void, CRC-32
_IN_SEGMENT = {_CLUSTER, _TRACKS, 0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367}
_IN_CLUSTER = {_SIMPLE_BLOCK, _BLOCK_GROUP, 0xE7, 0x5854, 0xA7, 0xAB, 0xAF} | _ANYWHERE
_IN_GROUP = {_BLOCK, 0xA2, 0x75A1, 0x9B, 0xFA, 0xFB, 0xFD, 0xA4, 0x75A2, 0x8E, 0xC8} | _ANYWHERE
_LARGEST = 1 << 24  # bytes of tracks
_NO_END = 1 << 62


def matroska_check(stream: VideoStream) -> Check:
    """Return the check of a file; it adds the blocks of the stream to ``frames`` of its walk."""
    return lambda walk: _Elements(walk, stream.index).check()


class _Elements:
    def __init__(self, walk: Walk, index: int) -> None:
        self._walk = walk
        self._index = index
        self._tracks: set[int] = set()
        self._ours: int | None = None  # the track's number

    def check(self) -> Steps:
        walk = self._walk
        kind, end = yield from self._element(_NO_END)
        while kind != _SEGMENT:
            yield -(end - walk.at)
            kind, end = yield from self._element(_NO_END)
        segment = end
        cluster = 0  # end of the current cluster
        while walk.at < segment:
            at = walk.at
            walk.unfinished = None if segment == _NO_END else "its frames and sound"
            known = at < cluster < _NO_END
            kind, end = yield from self._element(cluster if known else segment)
            walk.unfinished = walk.unfinished or (None if end == _NO_END else f"the element at byte {at}")
            if kind == _EBML and not known:  # another film after this one
                break
            if at < cluster and kind in _IN_CLUSTER:
                yield from self._in_cluster(kind, end)
            elif known or kind not in _IN_SEGMENT | _ANYWHERE:
                what = "block" if at < cluster else "element"
                raise BrokenError(f"there is no {what} of Matroska at byte {at}")
            elif kind == _CLUSTER:
                cluster = end
                if not self._tracks and walk.file is not None:
                    self._read_tracks(find_tracks(walk.file))  # after the frames, where editors move it when it grows
            elif end == _NO_END:
                raise BrokenError(f"the element at byte {at} does not state its size")
            elif kind == _TRACKS and end - walk.at <= _LARGEST:
                self._read_tracks((yield end - walk.at))
            else:
                yield -(end - walk.at)
        walk.unfinished = None

    def _in_cluster(self, kind: int, end: int) -> Steps:
        walk = self._walk
        blocks = kind == _SIMPLE_BLOCK
        if blocks:
            yield from self._block()
        while kind == _BLOCK_GROUP and walk.at < end:
            at = walk.at
            inner, inner_end = yield from self._element(end)
            if inner not in _IN_GROUP:
                raise BrokenError(f"there is no block of Matroska at byte {at}")
            if inner == _BLOCK:
                blocks = True
                yield from self._block()
            yield -(inner_end - walk.at)
        if kind == _BLOCK_GROUP and not blocks:
            raise BrokenError(f"a group without its block ends at byte {end}")
        if end > walk.at:
            yield -(end - walk.at)

    def _block(self) -> Steps:
        at = self._walk.at
        track, _ = yield from self._number()
        if track not in self._tracks:
            raise BrokenError(f"the block at byte {at} is of no track")
        if track == self._ours:
            self._walk.frames.append(at)

    def _read_tracks(self, body: bytes) -> None:
        try:
            found = track_numbers(body)
        except (IndexError, ValueError) as error:
            raise BrokenError("there is no list of Matroska's tracks") from error
        self._tracks |= set(found)
        streams = [number for number, is_stream in found.items() if is_stream]
        self._ours = streams[self._index] if self._index < len(streams) else None

    def _element(self, limit: int) -> Generator[int | None, Any, tuple[int, int]]:
        """Read the next element's identity and its end, ``_NO_END`` if that is unknown."""
        at = self._walk.at
        identity, length = yield from self._number(marked=True)
        size, digits = yield from self._number()
        unknown = size == (1 << 7 * digits) - 1
        end = _NO_END if unknown else self._walk.at + size
        if length > 4 or (not unknown and end > limit):
            raise BrokenError(f"there is no element of Matroska at byte {at}")
        return identity, end

    def _number(self, *, marked: bool = False) -> Generator[int | None, Any, tuple[int, int]]:
        """Read a variable-length number, and its length in bytes; ``marked`` keeps the leading bit that encodes it."""
        first = yield 1
        length = 9 - first[0].bit_length()
        if length > 8:
            raise BrokenError(f"there is no element of Matroska at byte {self._walk.at - 1}")
        value = int.from_bytes(first + (yield length - 1))
        return (value if marked else value & ((1 << 7 * length) - 1)), length
