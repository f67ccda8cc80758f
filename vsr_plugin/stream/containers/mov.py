"""`mov_check`: checks the boxes and tracks of an MP4 or MOV file; each track states its length several times.

Sources: ISO/IEC 14496-12, and Apple's QuickTime File Format.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .walk import FAR, BrokenError, another, perhaps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .walk import Steps, Walk

    Integers = NDArray[np.int64]

# Boxes at the top level of a file (also of ISO/IEC 23009-1).
_BOXES = {
    b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"mfra", b"sidx", b"ssix", b"free", b"skip", b"wide", b"uuid", b"meta",
    b"emsg", b"prft", b"pdin", b"udta", b"junk", b"pnot", b"imda",
}  # fmt: skip
_IN_FRAGMENT = {
    b"mfhd", b"traf", b"tfhd", b"tfdt", b"trun", b"sdtp", b"sbgp", b"sgpd", b"subs", b"saiz", b"saio", b"senc", b"pssh",
    b"meta", b"uuid", b"udta", b"free", b"skip",
}  # fmt: skip
_LARGEST_INDEX = 1 << 26  # bytes
_IN_TRACK = {b"mdia", b"minf", b"dinf", b"stbl", b"edts"}
_KINDS = {b"soun": "sound", b"vide": "video"}
_EMPTY = -1  # media time of an edit that shows nothing
_ALLOWED = 0.25  # seconds by which two statements of a duration may differ, or
_ALLOWED_SHARE = 0.02  # this share of the duration


def mov_check(walk: Walk) -> Steps:
    """Check the boxes at the top level and in each fragment, and the consistency of the tracks."""
    fragments = False
    seen: set[bytes] = set()  # kinds of boxes
    tracks: list[_Track] = []
    while True:
        at = walk.at
        head = yield from perhaps(8)
        if not head:
            break
        length, kind = struct.unpack(">I4s", head)
        if kind == b"ftyp" and seen:
            raise BrokenError(another(at))
        seen.add(kind)
        fragments = fragments or kind == b"moof"
        if kind not in _BOXES:
            if fragments:
                raise BrokenError(f"there is no box at byte {at}")
            break
        if length == 1:
            length = int.from_bytes((yield 8)) - 8
        left = length - 8 if length else FAR  # 0: to the end
        walk.unfinished = f"the box at byte {at}" if fragments and length else None
        if kind == b"moof" and left <= _LARGEST_INDEX:
            for inner, name in _in_fragment((yield max(left, 0))):
                if name not in _IN_FRAGMENT:
                    raise BrokenError(f"there is no box at byte {at + 8 + inner}")
        elif kind == b"moov" and 0 <= left <= _LARGEST_INDEX:
            try:
                tracks = _tracks((yield from perhaps(left)))
            except BrokenError as broken:
                walk.note(at, f"its index is damaged: {broken}")
            for track in tracks:
                if wrong := track.contradiction():
                    walk.note(at, f"the index of a track of {track.kind} is damaged: {wrong}")
        else:
            yield -max(left, 0)
        walk.unfinished = None
    if misplaced := _misplaced(tracks, walk.size):
        walk.note(walk.at, misplaced)


def _in_fragment(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(start, kind) of each box in a fragment and in its tracks; the kind is empty if the box does not fit."""
    at = 0
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data.ljust(at + 8, b"\0"), at)
        yield at, kind if 8 <= length <= len(data) - at else b""
        at += 8 if kind == b"traf" else max(length, 8)


@dataclass(frozen=True, slots=True)
class _Track:
    """A track of sound or video, as described by its boxes.

    Attributes:
        kind: "sound" or "video".
        counts: Number of samples by the tables of sizes, durations and chunks: (least, most) of each.
        seconds: Total duration of the samples, and the duration that the track states; None if it states none.
        stated: Duration of the track in the movie, in seconds; None if not stated.
        edits: Start in the track (`_EMPTY` for nothing) and duration of each edit, in seconds.
        begins, ends: Positions of each chunk, in bytes of the file.
        tick: Seconds of one tick of the movie, to which edits and ``stated`` are rounded.
        is_pcm: Whether each sample lasts one tick: FFmpeg omits gaps in PCM from the samples.
    """

    kind: str
    counts: tuple[tuple[int, int], ...]
    seconds: tuple[float, float | None]
    stated: float | None
    edits: tuple[tuple[float, float], ...]
    begins: Integers
    ends: Integers
    tick: float
    is_pcm: bool

    def contradiction(self) -> str | None:
        """Describe a contradiction between the track's statements; None if there is none."""
        samples, durations, chunks = self.counts
        for name, (least, most) in (("durations", durations), ("chunks", chunks)):
            if not least <= samples[0] <= most:
                return f"it has {samples[0]} packets by their sizes, and {most} by their {name}"
        length, said = self.seconds
        if self.is_pcm and said is not None:
            length = max(length, said)
        elif self.kind == "video" and said is not None:  # a frame lasts until the next in decoding order
            length = min(length, said)
        if said is not None and _differ(length, said):
            return f"its packets last {length:.3f} s, and it says {said:.3f} s"
        rounded = self.tick * (len(self.edits) + 1)
        shown = sum(duration for _, duration in self.edits) if self.edits else length
        if self.stated is not None and _differ(shown, self.stated, rounded):
            return f"it says that {shown:.3f} s of it are shown, and that {self.stated:.3f} s are"
        taken = sum(duration for begin, duration in self.edits if begin != _EMPTY)
        if taken > length and _differ(taken, length, rounded):
            return f"its packets last {length:.3f} s, and {taken:.3f} s of them are shown"
        if self.kind == "sound" and self.edits:  # video may include frames before the first key frame
            end = sum(self.edits[-1])
            if end > length and _differ(end, length, rounded):
                return f"its packets last {length:.3f} s, and are shown up to {end:.3f} s"
        latest = max((begin for begin, _ in self.edits), default=0.0)
        return f"its packets last {length:.3f} s, and are shown from {latest:.3f} s on" if latest > length else None


def _differ(one: float, other: float, rounded: float = 0.0) -> bool:
    return abs(one - other) > max(_ALLOWED, _ALLOWED_SHARE * max(one, other), rounded)


def _tracks(movie: bytes) -> list[_Track]:
    """Read the audio and video tracks; none if the movie is fragmented, or its header is compressed."""
    boxes = dict(_inside(movie))
    if b"mvex" in boxes or b"mvhd" not in boxes:
        return []
    found = []
    try:
        second = _header(boxes[b"mvhd"], 4)[0]
        for name, body in _inside(movie):
            if name == b"trak":
                inner = dict(reversed(list(_inside(body))))  # QuickTime has a second handler, for data
                found += _track(inner, second)
    except (KeyError, IndexError, ValueError) as lack:  # a table is missing, or too short
        raise BrokenError("a track lacks one of its tables") from lack
    return found


def _inside(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and contents of each box, and of the boxes inside that describe a track."""
    at = 0
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if not 8 <= length <= len(data) - at:
            return
        body = data[at + 8 : at + length]
        yield name, body
        if name in _IN_TRACK:
            yield from _inside(body)
        at += length


def _track(boxes: dict[bytes, bytes], movie_second: int) -> list[_Track]:
    """Read the track that these boxes describe; empty if it is of another kind, or they do not describe all of it.

    Raises:
        BrokenError: a table does not fit its box, or a clock has no ticks per second.
    """
    kind = _KINDS.get(boxes[b"hdlr"][8:12])
    references = boxes.get(b"dref", b"").ljust(20, b"\1")
    if kind is None or not references[19] & 1 or b"stz2" in boxes:
        return []
    second, said = _header(boxes[b"mdhd"], 4)
    count, sizes = _sizes(boxes[b"stsz"])
    runs = _table(boxes[b"stts"], "u4", 2)
    begins = _table(boxes[b"co64"], "u8", 1)[:, 0] if b"co64" in boxes else _table(boxes[b"stco"], "u4", 1)[:, 0]
    if not count and not len(begins):
        return []  # a track without samples may still have a row of defaults
    in_chunk = _samples_of_chunks(_table(boxes[b"stsc"], "u4", 3), len(begins))
    if not second or not movie_second:
        raise BrokenError("a second has no ticks")
    durations, chunks = int(runs[:, 0].sum()), int(in_chunk.sum())
    last = int(in_chunk[-1]) if len(in_chunk) else 1  # in files of some programs, it is shorter than stated
    ends = begins
    if chunks >= count:
        edges = np.minimum(np.concatenate(([0], np.cumsum(in_chunk))), count)
        ends = begins + np.diff(
            edges * sizes if isinstance(sizes, int) else np.concatenate(([0], np.cumsum(sizes)))[edges]
        )
    stated = _header(boxes[b"tkhd"], 8)[1] if b"tkhd" in boxes else None
    edits = _edits(boxes.get(b"elst", bytes(8)), movie_second, second)
    if edits is None:
        stated = None
    track = _Track(
        kind,
        ((count, count), (durations, durations), (chunks - last + 1, chunks)),
        (float((runs[:, 0] * runs[:, 1]).sum()) / second, None if said is None else said / second),
        None if stated is None else stated / movie_second,
        edits or (),
        begins,
        ends,
        1 / movie_second,
        bool((runs[:, 1] == 1).all()),
    )
    return [track]


def _header(box: bytes, gap: int) -> tuple[int, int | None]:
    """Read the field after the times of creation and change, and the duration ``gap`` bytes on; None if unknown."""
    first, size = (20, 8) if box[0] == 1 else (12, 4)
    duration = int.from_bytes(box[first + gap : first + gap + size])
    unknown = duration in (0, (1 << 8 * size) - 1)
    return int.from_bytes(box[first : first + 4]), None if unknown else duration


def _table(box: bytes, kind: str, columns: int) -> Integers:
    """Read the rows of a box that begins with their number."""
    count = int.from_bytes(box[4:8])
    if count * columns * int(kind[1]) > len(box) - 8:
        raise BrokenError("a table is longer than its box")
    return np.frombuffer(box, f">{kind}", count * columns, 8).reshape(-1, columns).astype(np.int64)


def _sizes(box: bytes) -> tuple[int, Integers | int]:
    """Number of samples, and the size in bytes of each, or one size for all; 0 if its unit differs, as for PCM."""
    size = int.from_bytes(box[4:8])
    if not size:
        sizes = _table(box[4:], "u4", 1)[:, 0]
        return len(sizes), sizes
    if len(box) >= 20:
        raise BrokenError("all packets have one size, and each has its own")
    return int.from_bytes(box[8:12]), size if size > 1 else 0


def _samples_of_chunks(runs: Integers, chunks: int) -> Integers:
    """Number of samples in each chunk; a run applies to all chunks from its first on, which are numbered from 1."""
    firsts = runs[:, 0] - 1
    lengths = np.diff(firsts, append=chunks)
    if len(runs) and (firsts[0] != 0 or lengths.min() <= 0):
        raise BrokenError("its chunks are not in order")
    return np.repeat(runs[:, 1], lengths)


_ITS_OWN = 1 << 16  # normal speed, in units of 1/65,536


def _edits(box: bytes, movie_second: int, second: int) -> tuple[tuple[float, float], ...] | None:
    """Start of each edit in the track, and its duration; empty if one has no duration, as during a recording.

    None if an edit is not shown at normal speed: its duration differs from that of what it shows.
    """
    form = ">Qqi" if box[0] == 1 else ">Iii"
    size = int.from_bytes(box[4:8]) * struct.calcsize(form)
    if not 0 <= len(box) - 8 - size < struct.calcsize(form):
        raise BrokenError("its edits do not fill their box")
    rows = list(struct.iter_unpack(form, box[8 : 8 + size]))
    if any(speed != _ITS_OWN for _, _, speed in rows):
        return None
    if not all(duration for duration, _, _ in rows):
        return ()
    return tuple((_EMPTY if begin == -1 else begin / second, duration / movie_second) for duration, begin, _ in rows)


def _misplaced(tracks: list[_Track], end: int | None) -> str | None:
    """Describe samples that would be after the end of the file, or inside another chunk; None if there are none."""
    begins = np.concatenate([track.begins for track in tracks]) if tracks else np.zeros(0, np.int64)
    ends = np.concatenate([track.ends for track in tracks]) if tracks else begins
    order = np.lexsort((ends, begins))
    begins, ends = begins[order], ends[order]
    if end is not None and len(ends) and ends.max() > end:
        return f"its index names bytes behind its end, at byte {ends.max()}"
    same = (begins[1:] == begins[:-1]) & (ends[1:] == ends[:-1])  # two tracks may share samples
    wrong = np.flatnonzero((begins[1:] < ends[:-1]) & ~same)
    return f"its index names the bytes at {begins[1:][wrong[0]]} twice" if len(wrong) else None
