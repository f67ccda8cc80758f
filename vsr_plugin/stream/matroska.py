"""`MatroskaBlocks`: whether a Matroska or WebM file is whole, told by its own elements.

FFmpeg's demuxer goes on after what it cannot read, and ends without an error where a file is cut. But the elements of
such a file follow each other without a gap, each states its size, and there are few kinds of them between the frames
(RFC 8794, EBML; RFC 9559, Matroska): one that does not fit is damage, and so is a block that no packet came of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_SEGMENT, _CLUSTER, _TRACKS, _EBML = 0x18538067, 0x1F43B675, 0x1654AE6B, 0x1A45DFA3
_TRACK_ENTRY, _TRACK_NUMBER, _TRACK_TYPE = 0xAE, 0xD7, 0x83
_STREAM_TYPES = {1, 2, 0x11, 0x21}  # video, audio, subtitles, metadata: of others FFmpeg makes no stream
_SIMPLE_BLOCK, _BLOCK_GROUP, _BLOCK = 0xA3, 0xA0, 0xA1
_ANYWHERE = {0xEC, 0xBF}  # Void, CRC-32
_IN_SEGMENT = {_CLUSTER, _TRACKS, 0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367} | _ANYWHERE
_IN_CLUSTER = {_SIMPLE_BLOCK, _BLOCK_GROUP, 0xE7, 0x5854, 0xA7, 0xAB, 0xAF} | _ANYWHERE
_IN_GROUP = {_BLOCK, 0xA2, 0x75A1, 0x9B, 0xFA, 0xFB, 0xFD, 0xA4, 0x75A2, 0x8E, 0xC8} | _ANYWHERE


class _BrokenError(Exception):
    """The elements do not fit from here on."""


class MatroskaBlocks:
    """Follows the demuxer through the file, and counts the blocks of one track.

    Args:
        file: Open for reading in binary; closed with this.
        index: Of the track among the file's streams.
        begin: Position of the cluster to begin with; None for the first.

    Attributes:
        count: Blocks of the track that have been passed.
    """

    def __init__(self, file: BinaryIO, index: int, begin: int | None = None) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        self._index = index
        self._tracks: set[int] = set()
        self._streams: list[int] = []  # track numbers in the order of FFmpeg's streams
        self._walk = self._blocks(begin)
        self._at = 0
        self.count = 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def until(self, position: int | None) -> str | None:
        """Pass all blocks up to a position in bytes, or all that are left.

        Returns:
            What does not fit, said once; then there is nothing more to pass.
        """
        try:
            while position is None or self._at < position:
                self._at, track = next(self._walk)
                if track not in self._tracks:
                    return f"the block at byte {self._at} is of no track"
                self.count += track in self._streams[self._index : self._index + 1]
        except StopIteration:
            return None
        except _BrokenError as broken:
            return str(broken)
        return None

    def _blocks(self, begin: int | None) -> Iterator[tuple[int, int]]:
        """Position and track number of every block."""
        self._file.seek(0)
        kind, end = self._element()
        while kind != _SEGMENT:
            self._file.seek(self._known(end))
            kind, end = self._element()
        if end is not None and end > self._size:
            raise _BrokenError(f"the file ends {end - self._size} bytes before its header says")
        last = self._size if end is None else end
        while self._file.tell() < last:
            at = self._file.tell()
            kind, end = self._element()
            if kind == _EBML:  # another film behind this one
                return
            if kind not in _IN_SEGMENT or (end or 0) > last:
                raise _BrokenError(f"there is no element of Matroska at byte {at}")
            if kind == _TRACKS:
                self._read_tracks(self._known(end))
            if kind == _CLUSTER and begin is not None and at < begin:
                self._file.seek(begin)
                begin = None
                continue
            if kind == _CLUSTER:
                yield from self._in_cluster(end, last)
            else:
                self._file.seek(self._known(end))

    def _in_cluster(self, end: int | None, last: int) -> Iterator[tuple[int, int]]:
        while (at := self._file.tell()) < (last if end is None else end):
            kind, inner = self._element()
            if end is None and (kind in _IN_SEGMENT - _ANYWHERE or kind == _EBML):
                self._file.seek(at)
                return
            inner = self._known(inner)
            if kind not in _IN_CLUSTER or inner > (last if end is None else end):
                raise _BrokenError(f"there is no block of Matroska at byte {at}")
            if kind == _SIMPLE_BLOCK:
                yield self._file.tell(), self._number()[0]
            elif kind == _BLOCK_GROUP:
                yield from self._in_group(inner)
            self._file.seek(inner)

    def _in_group(self, end: int) -> Iterator[tuple[int, int]]:
        blocks = 0
        while (at := self._file.tell()) < end:
            kind, inner = self._element()
            if kind not in _IN_GROUP or self._known(inner) > end:
                raise _BrokenError(f"there is no block of Matroska at byte {at}")
            if kind == _BLOCK:
                blocks += 1
                yield self._file.tell(), self._number()[0]
            self._file.seek(self._known(inner))
        if not blocks:
            raise _BrokenError(f"a group without its block ends at byte {end}")

    def _read_tracks(self, end: int) -> None:
        while self._file.tell() < end:
            entry, entry_end = self._element()
            facts = {}
            while entry == _TRACK_ENTRY and self._file.tell() < self._known(entry_end):
                kind, inner = self._element()
                if kind in (_TRACK_NUMBER, _TRACK_TYPE):
                    facts[kind] = int.from_bytes(self._file.read(self._known(inner) - self._file.tell()))
                self._file.seek(self._known(inner))
            if _TRACK_NUMBER in facts:
                self._tracks.add(facts[_TRACK_NUMBER])
                if facts.get(_TRACK_TYPE) in _STREAM_TYPES:
                    self._streams.append(facts[_TRACK_NUMBER])
            self._file.seek(self._known(entry_end))

    def _element(self) -> tuple[int, int | None]:
        """Identity of the next element, and where it ends: None if that is not known."""
        at = self._file.tell()
        identity, length = self._number(marked=True)
        size, digits = self._number()
        if length > 4:
            raise _BrokenError(f"there is no element of Matroska at byte {at}")
        return identity, None if size == (1 << 7 * digits) - 1 else self._file.tell() + size

    def _known(self, end: int | None) -> int:
        if end is None or end > self._size:
            raise _BrokenError(f"the element before byte {self._file.tell()} does not state its size")
        return end

    def _number(self, *, marked: bool = False) -> tuple[int, int]:
        """A number of variable length, and its length in bytes; ``marked`` leaves the leading bit that tells it."""
        at = self._file.tell()
        first = self._file.read(1)
        length = 9 - first[0].bit_length() if first else 9
        rest = self._file.read(length - 1)
        if length > 8 or len(rest) < length - 1:
            where = "the file ends" if at + length > self._size else "there is no element of Matroska"
            raise _BrokenError(f"{where} at byte {at}")
        value = int.from_bytes(first + rest)
        return (value if marked else value & ((1 << 7 * length) - 1)), length
