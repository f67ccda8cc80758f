"""Files with random damage: whatever comes of them, nothing is lost without a word."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import InputError, VsrError
from vsr_plugin.stream import Source, upscale_file

from .conftest import FAST, Make, piped

_FILM = "-f lavfi -i testsrc2=s=64x48:r=25:d=1.6 -f lavfi -i sine=d=1.6"
_H264 = "-c:v libx264 -preset ultrafast -bf 2 -g 10 -c:a aac -b:a 32k"
_AV1 = "-c:v libaom-av1 -usage realtime -cpu-used 8 -g 10 -c:a libopus -b:a 32k"
_KINDS = {
    "a.mp4": f"{_FILM} {_H264} -movflags faststart",
    "fragments.mp4": f"{_FILM} {_H264} -movflags frag_keyframe+empty_moov",
    "a.mkv": f"{_FILM} {_H264}",
    "hevc.mkv": f"{_FILM} -c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=10 -c:a aac",
    "a.webm": f"{_FILM} -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 10 -c:a libopus -b:a 32k",
    "vp8.webm": f"{_FILM} -c:v libvpx -deadline realtime -g 10 -c:a libopus -b:a 32k",
    "av1.webm": f"{_FILM} {_AV1}",
    "av1.mp4": f"{_FILM} {_AV1} -movflags faststart",
    "a.ts": f"{_FILM} {_H264}",
    "a.flv": f"{_FILM} {_H264}",
    "a.ogv": f"{_FILM} -c:v libtheora -c:a libvorbis",
    "a.wmv": f"{_FILM} -c:v wmv2 -c:a wmav2",
    "a.nut": f"{_FILM} {_H264} -write_index 0",
    "mpeg2.ts": f"{_FILM} -c:v mpeg2video -g 10 -bf 2 -c:a mp2",
    "a.mpg": f"{_FILM} -c:v mpeg2video -g 10 -bf 2 -c:a mp2",
    "a.avi": f"{_FILM} -c:v mpeg4 -g 10 -bf 2 -c:a mp3",
    "a.gif": "-f lavfi -i testsrc2=s=64x48:r=25:d=1.6",
}

_BURST = 150
_END_ANYWHERE = (".flv", ".nut", ".ts")  # nothing in them contradicts a cut between two packets


def _damaged(data: bytes, chance: random.Random) -> bytes:
    """The data cut anywhere, with one to eight bytes changed, or with 150 in a row overwritten."""
    kind = chance.random()
    if kind < 0.4:
        return data[: chance.randrange(1, len(data))]
    changed = bytearray(data)
    if kind > 0.7:
        at = chance.randrange(len(data) // 5, len(data) - _BURST)
        changed[at : at + _BURST] = chance.choice([chance.randbytes(_BURST), bytes(_BURST), b"\xff" * _BURST])
        return bytes(changed)
    for _ in range(chance.randrange(1, 9)):
        changed[chance.randrange(len(data))] ^= chance.randrange(1, 256)
    return bytes(changed)


@pytest.mark.parametrize("name", _KINDS)
@pytest.mark.parametrize("seeds", [range(4), pytest.param(range(4, 54), marks=pytest.mark.slow)])
def test_no_damaged_file_comes_out_short_without_a_word(
    make: Make, nearest: Upscaler, tmp_path: Path, name: str, seeds: range
) -> None:
    whole = make(_KINDS[name], name)
    data, frames = whole.read_bytes(), len(list(Source(whole)))
    file, output = tmp_path / name, tmp_path / "out.mkv"
    silent = []
    for seed in seeds:
        file.write_bytes(_damaged(data, random.Random(f"{name} {seed}")))
        try:
            report = upscale_file(file, output, nearest, encoding=FAST)
        except InputError:  # and no other: what is written is never at fault
            assert not output.exists(), seed
        else:
            if report.frames != frames and not report.damaged and not _between_packets(file, len(data)):
                silent.append((seed, report.frames))
            output.unlink()
        assert list(tmp_path.iterdir()) == [file], seed
    assert not silent


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.flv", "a.nut", "a.ogv", "a.wmv", "fragments.mp4"])
@pytest.mark.parametrize("seeds", [range(3), pytest.param(range(3, 54), marks=pytest.mark.slow)])
def test_no_damaged_pipe_comes_out_short_without_a_word(make: Make, tmp_path: Path, name: str, seeds: range) -> None:
    data = make(_KINDS[name], name).read_bytes()
    file = tmp_path / name
    whole, damaged = _read_pipe(data, tmp_path)
    assert not damaged
    silent = []
    for seed in seeds:
        with suppress(VsrError):
            file.write_bytes(_damaged(data, random.Random(f"pipe {name} {seed}")))
            frames, damaged = _read_pipe(file.read_bytes(), tmp_path)
            if frames != whole and not damaged and not _between_packets(file, len(data)):
                silent.append((seed, frames))
    assert not silent


def _between_packets(file: Path, whole: int) -> bool:
    """Whether the file is cut where it may end: one byte less is damage."""
    size = file.stat().st_size
    if size == whole or file.suffix not in _END_ANYWHERE:
        return False
    shorter = file.with_name(f"shorter{file.suffix}")
    shorter.write_bytes(file.read_bytes()[:-1])
    try:
        source = Source(shorter)
        return bool(list(source)) and source.damaged > 0
    finally:
        shorter.unlink()


def _read_pipe(data: bytes, folder: Path) -> tuple[int, int]:
    """(frames, damage) of what comes by standard input."""
    with (
        piped(data, folder / "pipe") as pipe,
        pipe.open("rb", buffering=0) as opened,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("sys.stdin", SimpleNamespace(buffer=opened))
        source = Source("-")
        return len(list(source)), source.damaged
