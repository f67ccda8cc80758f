"""What is hard about a film is right at every seam, not at the first alone."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from tests.stream.conftest import Make, packets, probe
from tests.stream.test_segments import Both, both
from vsr_plugin.stream import Encoding
from vsr_plugin.stream.segments.access import KeyFrame
from vsr_plugin.stream.segments.plan import _cuts, make_plan
from vsr_plugin.stream.selection import Selection

__all__ = ["both"]

_WHOLE = Selection()
_LOSSLESS = Encoding(crf=0, preset="ultrafast")
_SIX_SECONDS = "-f lavfi -i testsrc2=s=64x48:r=25:d=6 -f lavfi -i sine=440:d=6 -c:a aac"
_KEYED = "-c:v libx264 -bf 2 -preset ultrafast -g 25 -keyint_min 25 -sc_threshold 0"
# Pauses of up to 0.6 s, and runs of frames between them; a key frame about each second.
_PAUSES = (
    "-vf select='not(mod(n\\,3))+not(mod(n\\,7))-lt(mod(n\\,50)\\,14)' -fps_mode vfr "
    "-force_key_frames expr:gte(t,n_forced)"
)
_WRAP = Fraction(1 << 33, 90_000)  # of the clock of MPEG-TS, in seconds
_FIELDS = "-vf tinterlace=interleave_top -flags +ilme+ildct"


def _wraps(after: str) -> str:
    """How ffmpeg makes a TS whose clock wraps so many seconds after its first frame, to within a tick."""
    return f"-muxdelay 0 -muxpreload 0 -mpegts_copyts 1 -output_ts_offset {float(_WRAP - Fraction(after)):.6f}"


FILMS = {
    "a variable rate": (f"{_SIX_SECONDS} {_PAUSES} {_KEYED}", "a.mp4"),
    "a variable rate in Matroska": (f"{_SIX_SECONDS} {_PAUSES} {_KEYED}", "a.mkv"),
    "a clock that wraps in the third segment": (f"{_SIX_SECONDS} {_KEYED} {_wraps('2.6')}", "a.ts"),
    "a clock that wraps at the third seam": (f"{_SIX_SECONDS} {_KEYED} {_wraps('3')}", "a.ts"),
    "a clock that wraps among the B-frames before the third seam": (
        f"{_SIX_SECONDS} {_KEYED} {_wraps('2.94')}",
        "a.ts",
    ),
}
INTERLACED = {
    "MPEG-2": (f"{_SIX_SECONDS.replace('r=25', 'r=50')} {_FIELDS} -c:v mpeg2video -g 12 -bf 2", "a.mkv"),
    "MPEG-2 in TS": (f"{_SIX_SECONDS.replace('r=25', 'r=50')} {_FIELDS} -c:v mpeg2video -g 12 -bf 2", "a.ts"),
    "H.264": (f"{_SIX_SECONDS.replace('r=25', 'r=50')} {_FIELDS} -x264-params tff=1 {_KEYED}", "a.mp4"),
}


def _same(film: Path, both: Both, selection: Selection = _WHOLE) -> None:
    """Check frames, their times and durations, and sound, over at least three seams."""
    assert len(make_plan(str(film), selection, Fraction(1)).segments) > 3
    whole, cut = both(film, "out.mp4", encoding=_LOSSLESS, selection=selection)
    assert _shown(cut) == _shown(whole)
    assert packets(cut, "a:0") == packets(whole, "a:0")
    assert packets(cut, "a:0")


def _shown(film: Path) -> list[tuple[str, ...]]:
    """(time, duration, checksum) of all frames, in ticks."""
    command = ["ffmpeg", "-v", "error", "-i", str(film), "-map", "0:v", "-fps_mode", "passthrough", "-copyts"]
    said = subprocess.run([*command, "-f", "framehash", "-"], capture_output=True, check=True, text=True).stdout
    rows = [line.split(",") for line in said.splitlines() if not line.startswith("#")]
    ticks = probe(film, "-select_streams", "v:0", "-show_entries", "stream=time_base")["streams"][0]["time_base"]
    return [(ticks, *(row[at].strip() for at in (2, 3, 5))) for row in rows]


@pytest.mark.parametrize("what", FILMS)
def test_times_are_those_of_one_go_at_every_seam(what: str, make: Make, both: Both) -> None:
    _same(make(*FILMS[what]), both)


@pytest.mark.parametrize("what", INTERLACED)
def test_fields_on_both_sides_of_every_seam_are_those_of_one_go(what: str, make: Make, both: Both) -> None:
    _same(make(*INTERLACED[what]), both, Selection(deinterlace=True))


@pytest.mark.parametrize(
    "edits",
    [
        [(2500, 0), (2500, 3500)],
        [(500, -1), (2520, 480), (2400, 3200)],
        [(1000, 0), (1000, 2000), (1000, 4000), (400, 5300)],
    ],
    ids=["a second is left out", "it begins late, and some is left out", "four pieces"],
)
def test_what_an_edit_list_leaves_out_is_left_out_at_every_seam(
    edits: list[tuple[int, int]], make: Make, both: Both
) -> None:
    film = make(f"{_SIX_SECONDS} {_KEYED} -video_track_timescale 12800", "a.mp4")
    edited = film.with_name(f"edited{len(edits)}.mp4")
    edited.write_bytes(_edit(film.read_bytes(), edits))
    _same(edited, both)


def _edit(film: bytes, edits: list[tuple[int, int]]) -> bytes:
    """A film whose first track has another edit list: (duration, begin) in milliseconds, -1 where it shows nothing."""
    at, sizes = 0, []
    for name in (b"moov", b"trak", b"edts", b"elst"):
        at = film.index(name, at)
        sizes.append(at - 4)
    entries = [
        length.to_bytes(4)
        + (begin if begin < 0 else begin * 12_800 // 1000 + 1024).to_bytes(4, signed=True)
        + b"\0\1\0\0"
        for length, begin in edits
    ]
    table = bytes(4) + len(entries).to_bytes(4) + b"".join(entries)
    old = int.from_bytes(film[sizes[-1] : sizes[-1] + 4])
    more = len(table) + 8 - old
    assert film.index(b"mdat") < sizes[0], "what the tables point to stays where it is"
    changed = bytearray(film)
    for place in sizes:
        changed[place : place + 4] = (int.from_bytes(film[place : place + 4]) + more).to_bytes(4)
    return bytes(changed[: sizes[-1] + 8]) + table + film[sizes[-1] + old :]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 10, 13, 20, 23, 30, 33, 40], [13, 23, 33]),
        ([0, 2, 4, 6, 6.7, 8, 10, 12, 13.3, 14, 15.1, 16, 18, 20], [6.7, 15.1]),
        ([0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22], [8, 16]),
    ],
    ids=["a GOP ends at a scene cut", "and others end at multiples of 2 s, too", "only there"],
)
def test_a_seam_is_at_a_scene_cut_where_one_is_near(times: list[float], expected: list[float]) -> None:
    keys = [KeyFrame(round(time * 1000), closed=True) for time in times]
    length = {13: 12, 6.7: 8, 8: 8}[expected[0]]
    assert [keys[at].pts / 1000 for at in _cuts(keys, 0, keys[-1].pts, Fraction(length * 1000))] == expected


def test_no_segment_is_much_shorter_or_longer_than_asked_for() -> None:
    keys = [KeyFrame(time, closed=True) for time in range(0, 1001, 4)]
    for end in range(200, 1001, 7):
        cuts = [0, *(keys[at].pts for at in _cuts(keys, 0, end, Fraction(200))), end]
        assert all(100 <= after - before <= 300 for before, after in pairwise(cuts))
