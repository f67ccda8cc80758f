"""Parts of Matroska (RFC 9559) that FFmpeg's muxer and demuxer do not handle.

PyAV cannot set a pixel aspect ratio for the muxer; the demuxer reads neither BCP 47 languages nor more than one flat
list of chapters, nor tags that are binary or have the same name as another.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

_SEGMENT, _TRACKS, _CHAPTERS, _TAGS = 0x18538067, 0x1654AE6B, 0x1043A770, 0x1254C367
_CRC, _VOID = 0xBF, 0xEC
_TRACK_NUMBER, _TRACK_TYPE = 0xD7, 0x83
_STREAM_TYPES = {1, 2, 0x11, 0x21}  # video, audio, subtitles, metadata: FFmpeg makes streams of these only
_TRACK, _VIDEO, _LANGUAGE_BCP47, _MAX_BLOCK_ADDITION_ID = 0xAE, 0xE0, 0x22B59D, 0x55EE
_PIXEL_WIDTH, _PIXEL_HEIGHT, _DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0xB0, 0xBA, 0x54B0, 0x54BA, 0x54B2
_STEREO_MODE = 0x53B8
# The header states the shape that one eye sees. Its share, by the mode: views side by side or in columns; one above the
# other or in rows.
_OF_ONE_EYE = {**dict.fromkeys((1, 8, 9, 11), Fraction(1, 2)), **dict.fromkeys((2, 3, 6, 7), Fraction(2))}
_EDITION, _EDITION_DISPLAY, _EDITION_ORDERED = 0x45B9, 0x4520, 0x45DD
_CHAPTER, _CHAPTER_START, _CHAPTER_HIDDEN, _CHAPTER_ENABLED, _CHAPTER_TITLE = 0xB6, 0x91, 0x98, 0x4598, 0x80
_TAG, _TARGETS, _TARGET_VALUE, _SIMPLE_TAG = 0x7373, 0x63C0, 0x68CA, 0x67C8
_TAG_NAME, _TAG_STRING, _TAG_BINARY, _TAG_LANGUAGE = 0x45A3, 0x4487, 0x4485, 0x447A
_ASPECT_RATIO = 3  # DisplayUnit for an aspect ratio
_HEADER = 1 << 20  # bytes at the beginning that contain the tracks, in files written by FFmpeg
_LARGEST = 1 << 24  # maximum size in bytes of chapters, tracks or tags that are read


def unread(file: BinaryIO) -> list[str]:
    """Describe what FFmpeg does not read from a Matroska file; broken parts of the file are ignored.

    Args:
        file: The file, opened for reading in binary mode; or its beginning if the rest cannot be read twice.
    """
    found: list[str] = []
    with suppress(OSError, IndexError, ValueError):
        for kind, body in _masters(file):
            found += _READERS[kind](body)
    return list(dict.fromkeys(found))


def find_tracks(file: BinaryIO) -> bytes:
    """Read the body of the element that lists a file's tracks, anywhere in the file; empty if it is not found.

    Args:
        file: The file, opened for reading in binary mode.
    """
    with suppress(IndexError, ValueError):
        return next((body for kind, body in _masters(file) if kind == _TRACKS), b"")
    return b""


def track_numbers(tracks: bytes) -> dict[int, bool]:
    """Read the numbers of the tracks, in order, and whether FFmpeg makes a stream of each.

    Args:
        tracks: The body of the element that lists them.

    Raises:
        IndexError, ValueError: the element is damaged.
    """
    found = {}
    for kind, _, start, end in _elements(tracks):
        if kind != _TRACK:
            continue
        facts = {part: int.from_bytes(tracks[first:last]) for part, _, first, last in _elements(tracks, start, end)}
        if _TRACK_NUMBER in facts:
            found[facts[_TRACK_NUMBER]] = facts.get(_TRACK_TYPE) in _STREAM_TYPES
    return found


def state_aspect(path: Path, ratio: Fraction, track: int) -> bool:
    """Write a pixel aspect ratio into the header of a video track of a finished file; False if there is no room.

    The muxer leaves room in each track, and writes some default values: the ratio takes their place, so that nothing
    else in the file moves.

    Args:
        path: The file.
        ratio: Width : height of a pixel.
        track: Index of the track, from 0.
    """
    with path.open("r+b") as file:
        data = bytearray(file.read(_HEADER))
        try:
            changed = _with_aspect(data, ratio, track)
        except (IndexError, StopIteration, ValueError):
            return False
        if changed:
            file.seek(0)
            file.write(data)
        return changed


def _with_aspect(data: bytearray, ratio: Fraction, track: int) -> bool:
    segment = next(start for kind, _, start, _ in _elements(data) if kind == _SEGMENT)
    tracks = next((start, end) for kind, _, start, end in _elements(data, segment) if kind == _TRACKS)
    entries = [(start, end) for kind, _, start, end in _elements(data, *tracks) if kind == _TRACK]
    start, end = entries[track]
    children = list(_elements(data, start, end))
    video = next((child for child in children if child[0] == _VIDEO), None)
    if video is not None:
        parts = {number: bytes(data[first:last]) for number, _, first, last in _elements(data, *video[2:])}
        width, height = (int.from_bytes(parts[number]) for number in (_PIXEL_WIDTH, _PIXEL_HEIGHT))
        mode = int.from_bytes(parts.get(_STEREO_MODE, b""))
        shape = ratio * Fraction(width, height) * _OF_ONE_EYE.get(mode, 1)
        display = {_DISPLAY_WIDTH: shape.numerator, _DISPLAY_HEIGHT: shape.denominator, _DISPLAY_UNIT: _ASPECT_RATIO}
        kept = b"".join(_element(number, part) for number, part in parts.items() if number not in display)
        told = _element(_VIDEO, kept + b"".join(_element(number, _uint(value)) for number, value in display.items()))
        others = [bytes(data[child[1] : child[3]]) for child in children if not _is_spare(data, child, video)]
        room = end - start - sum(len(other) for other in others) - len(told)
        if room < 0 or room == 1:
            return False
        data[start:end] = b"".join(others) + told + (_void(room) if room else b"")
        for crc in _elements(data, *tracks):
            if crc[0] == _CRC:  # checksum of all that follows it
                data[crc[2] : crc[3]] = struct.pack("<I", zlib.crc32(data[crc[3] : tracks[1]]))
        return True
    return False


def _is_spare(data: bytearray, child: tuple[int, int, int, int], video: tuple[int, int, int, int]) -> bool:
    kind, _, start, end = child
    default = kind == _MAX_BLOCK_ADDITION_ID and not any(data[start:end])
    return kind == _VOID or default or child == video


def _languages(tracks: bytes) -> list[str]:
    found = []
    for index, (_, _, start, end) in enumerate(child for child in _elements(tracks) if child[0] == _TRACK):
        for kind, _, first, last in _elements(tracks, start, end):
            if kind == _LANGUAGE_BCP47 and b"-" in (tag := tracks[first:last].rstrip(b"\0")):
                found.append(f"all but the first part of the language {tag.decode(errors='replace')} of stream {index}")
    return found


def _chapters(chapters: bytes) -> list[str]:
    editions = [child for child in _elements(chapters) if child[0] == _EDITION]
    found = ["all editions of the chapters but one"] if len(editions) > 1 else []
    for _, _, start, end in editions:
        latest = 0
        for kind, _, first, last in _elements(chapters, start, end):
            if kind == _EDITION_DISPLAY:
                found.append("the titles of editions")
            if kind == _EDITION_ORDERED and any(chapters[first:last]):
                found.append("that chapters are to be played in another order")
            if kind != _CHAPTER:
                continue
            parts = list(_elements(chapters, first, last))
            kinds = [part[0] for part in parts]
            facts = {part: int.from_bytes(chapters[begin:stop]) for part, _, begin, stop in parts}
            if 0 < latest >= facts.get(_CHAPTER_START, 0):
                found.append("chapters that begin no later than the one before")
            latest = max(latest, facts.get(_CHAPTER_START, 0))
            if _CHAPTER in kinds:
                found.append("chapters within chapters")
            if facts.get(_CHAPTER_HIDDEN):
                found.append("that chapters are hidden")
            if facts.get(_CHAPTER_ENABLED) == 0:
                found.append("that chapters are disabled")
            if kinds.count(_CHAPTER_TITLE) > 1:
                found.append("titles of chapters in more than one language")
    return found


def _tags(tags: bytes) -> list[str]:
    """Describe tags that FFmpeg loses: it keeps one tag of each name, and no binary ones."""
    found = []
    known: dict[tuple[object, ...], bytes] = {}
    for _, _, start, end in (child for child in _elements(tags) if child[0] == _TAG):
        parts = list(_elements(tags, start, end))
        # The target of the tags: FFmpeg ignores the level as a number, but not as a word.
        of = tuple(
            (kind, tags[first:last])
            for _, _, begin, stop in (part for part in parts if part[0] == _TARGETS)
            for kind, _, first, last in _elements(tags, begin, stop)
            if kind != _TARGET_VALUE
        )
        for name, language, kind, value in _simple_tags(tags, [part[2:] for part in parts if part[0] == _SIMPLE_TAG]):
            shown = name.decode(errors="replace")
            if kind == _TAG_BINARY:
                found.append(f"the binary tag {shown}")
            elif known.setdefault((of, name.lower(), language), value) != value:
                found.append(f"all but the last of the tags {shown}")
    return found


def _simple_tags(
    tags: bytes, places: list[tuple[int, int]], above: bytes = b""
) -> Iterator[tuple[bytes, bytes, int, bytes]]:
    """(name, after those of its parents; language; kind of the value; value) of tags and of those inside them."""
    for start, end in places:
        parts = list(_elements(tags, start, end))
        facts = {kind: tags[first:last] for kind, _, first, last in parts}
        name = above + facts.get(_TAG_NAME, b"")
        for kind in (_TAG_STRING, _TAG_BINARY):
            if kind in facts:
                yield name, facts.get(_TAG_LANGUAGE, b""), kind, facts[kind]
        yield from _simple_tags(tags, [part[2:] for part in parts if part[0] == _SIMPLE_TAG], name + b"/")


_READERS = {_TRACKS: _languages, _CHAPTERS: _chapters, _TAGS: _tags}


def _masters(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(kind, body) of the tracks, chapters and tags of an open file, anywhere in it."""
    at = 0
    while head := _head(file, at):
        kind, start, size = head
        if kind == _SEGMENT:
            at = start
            continue
        if size is None:
            return  # a cluster of a live stream: the position of the next element is unknown
        if kind in _READERS and size <= _LARGEST:
            file.seek(start)
            yield kind, file.read(size)
        at = start + size


def _head(file: BinaryIO, at: int) -> tuple[int, int, int | None] | None:
    """(kind, start of the body, size or None if unknown) of the element at ``at``; None at the end of the file."""
    file.seek(at)
    data = file.read(12)
    if len(data) < 2:
        return None
    kind, after = _number(data, 0, marked=True)
    size, body = _number(data, after, marked=False)
    unknown = size == (1 << 7 * (body - after)) - 1
    return kind, at + body, None if unknown else size


def _elements(data: bytes | bytearray, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int, int]]:
    """(kind, start, start of the body, end) of the consecutive elements in ``data``."""
    end = len(data) if end is None else end
    at = start
    while at < end:
        begin = at
        kind, at = _number(data, at, marked=True)
        size, at = _number(data, at, marked=False)
        yield kind, begin, at, min(at + size, end)
        at += size


def _number(data: bytes | bytearray, at: int, *, marked: bool) -> tuple[int, int]:
    """Read a variable-size integer (RFC 8794, section 4) with or without its marker, and where it ends."""
    first = data[at]
    if not first:
        raise ValueError("no element begins here")
    length = 9 - first.bit_length()
    value = int.from_bytes(data[at : at + length])
    return value if marked else value & ((1 << 7 * length) - 1), at + length


def _element(kind: int, body: bytes) -> bytes:
    name = kind.to_bytes((kind.bit_length() + 7) // 8)
    return name + (bytes((0x80 | len(body),)) if len(body) < 127 else struct.pack(">H", 0x4000 | len(body))) + body


def _uint(value: int) -> bytes:
    return value.to_bytes(max((value.bit_length() + 7) // 8, 1))


def _void(size: int) -> bytes:
    """Return an empty element with a total of 2 to 128 bytes."""
    return bytes((_VOID, 0x80 | size - 2)) + bytes(size - 2)
