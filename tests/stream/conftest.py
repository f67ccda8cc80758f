"""Real files for the tests of the stream: made by FFmpeg here, judged by ffprobe."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vsr_plugin.engine import Upscaler
from vsr_plugin.execution import Execution
from vsr_plugin.models import NetworkSpec
from vsr_plugin.stream import Encoding, Report, Selection, upscale_file
from vsr_plugin.stream.side_data import _find

FAST = Encoding(preset="ultrafast")
_SELECTS = {field.name for field in fields(Selection)}


class Nearest(nn.Module):
    """The identity among networks: every sample repeated."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


@pytest.fixture(scope="session")
def nearest() -> Iterator[Upscaler]:
    """An upscaler ×2 that repeats luma samples."""
    spec = NetworkSpec(name="nearest", overlap={2: 0})
    with Upscaler.from_module(Nearest(2), spec, 2, Execution(backend="eager", device="cpu")) as upscaler:
        yield upscaler


@pytest.fixture
def enlarge(nearest: Upscaler, tmp_path: Path) -> Callable[..., Path]:
    """``enlarge(file, name, **options)``: the enlarged file, in a folder of the test's own.

    Options are fields of `Selection`, and arguments of `upscale_file`.
    """

    def run(source: str | Path, name: str, **options: Any) -> Path:
        output = tmp_path / name
        selection = Selection(**{key: options.pop(key) for key in _SELECTS & options.keys()})
        report: Report = upscale_file(source, output, nearest, selection, **{"encoding": FAST, **options})
        assert report.frames > 0
        return output

    return run


@contextmanager
def piped(data: bytes, pipe: Path) -> Iterator[Path]:
    """``pipe`` as a named pipe into which these bytes come, once; joined at the end, read or not."""
    os.mkfifo(pipe)

    def feed() -> None:
        with suppress(BrokenPipeError):
            pipe.write_bytes(data)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield pipe
    finally:
        feeder.join()
        pipe.unlink()


def probe(path: Path, *what: str) -> dict[str, Any]:
    """What ffprobe says, as parsed JSON."""
    command = ["ffprobe", "-v", "error", "-of", "json", *what, f"file:{path}"]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def streams(path: Path) -> list[dict[str, Any]]:
    """All streams, in order."""
    found: list[dict[str, Any]] = probe(path, "-show_streams")["streams"]
    return found


def video(path: Path) -> dict[str, Any]:
    """The first video stream."""
    return next(stream for stream in streams(path) if stream["codec_type"] == "video")


def frame_times(path: Path, stream: str = "v:0") -> list[str]:
    """Presentation times of all frames, as ffprobe prints them."""
    frames = probe(path, "-select_streams", stream, "-show_entries", "frame=pts_time")["frames"]
    return [frame["pts_time"] for frame in frames]


def packets(path: Path, stream: str) -> list[tuple[str, str]]:
    """(time, hash of the payload) of all packets of a stream."""
    entries = ("-show_packets", "-show_data_hash", "md5", "-show_entries", "packet=pts_time,data_hash")
    found = probe(path, "-select_streams", stream, *entries)["packets"]
    return [(packet.get("pts_time", ""), packet["data_hash"]) for packet in found]


SUBTITLES = "1\n00:00:00,200 --> 00:00:00,700\nHello\n\n2\n00:00:00,800 --> 00:00:01,400\n<i>World</i>\n"
CHAPTERS = """;FFMETADATA1
title=Chaptered
[CHAPTER]
TIMEBASE=1/1000
START=0
END=700
title=One
[CHAPTER]
TIMEBASE=1/1000
START=700
END=1500
title=Two
"""
HDR10 = (
    "log-level=error:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:max-cll=1000,400:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
)
_PICTURE = "-f lavfi -i testsrc2=s=96x54:r=25:d=1.5"
_TONES = "-f lavfi -i sine=440:d=1.5 -f lavfi -i sine=660:d=1.5"
_H264 = "-c:v libx264 -preset ultrafast -bf 2"
_TAGGED = "-color_primaries bt709 -color_trc bt709 -colorspace bt709 -color_range tv"
# name → how ffmpeg makes it, from files that stand above it
_RECIPES = {
    "plain.mp4": f"{_PICTURE} {_H264} {_TAGGED}",
    "two_audio.mp4": f"{_PICTURE} {_TONES} -map 0 -map 1 -map 2 {_H264} {_TAGGED} -c:a aac "
    "-metadata:s:a:0 language=eng -metadata:s:a:1 language=deu -disposition:a:1 comment",
    "all.mkv": "-i two_audio.mp4 -i s.srt -i chapters.txt -map 0 -map 1 -map 1 -map_metadata 2 -map_chapters 2 -c copy "
    "-c:s:0 srt -c:s:1 ass -metadata:s:s:0 language=fra -attach font.ttf -metadata:s:t mimetype=font/ttf",
    "all.mp4": "-i two_audio.mp4 -i s.srt -i chapters.txt -map 0 -map 1 -map_metadata 2 -map_chapters 2 -c copy "
    "-c:s mov_text -metadata:s:s:0 language=fra",
    "late.mp4": "-itsoffset 1.0 -i two_audio.mp4 -i two_audio.mp4 -map 0:v -map 1:a:0 -c copy",
    "late.mkv": "-itsoffset 0.7 -i two_audio.mp4 -map 0 -c copy -copyts",
    "edited.mp4": "-ss 0.5 -i two_audio.mp4 -c copy",
    "long_sound.mp4": f"{_PICTURE} -f lavfi -i sine=440:d=4 {_H264} {_TAGGED} -c:a aac",
    "cover.png": "-f lavfi -i color=red:s=64x64 -frames:v 1",
    "cover.mp4": "-i two_audio.mp4 -i cover.png -map 0 -map 1 -c copy -disposition:v:1 attached_pic",
    "cover.mkv": "-i two_audio.mp4 -c copy -attach cover.png -metadata:s:t mimetype=image/png "
    "-metadata:s:t filename=cover.png",
    "vfr.mp4": f"{_PICTURE} -vf select='not(mod(n\\,3))+not(mod(n\\,7))' -vsync vfr {_H264}",
    "vfr.mkv": "-i vfr.mp4 -c copy",
    "wide.mp4": f"{_PICTURE} -vf setsar=32/27 {_H264}",
    "ten.mp4": f"{_PICTURE} -pix_fmt yuv420p10le -c:v libx264 -preset ultrafast",
    "hdr10.mp4": "-f lavfi -i testsrc2=s=96x54:r=25:d=0.4 -pix_fmt yuv420p10le -c:v libx265 -preset ultrafast "
    f"-x265-params {HDR10} -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc",
    "odd.mkv": "-f lavfi -i testsrc2=s=96x54:r=25:d=0.4 -vf crop=95:53:0:0:exact=1 -pix_fmt yuv420p -c:v ffv1",
    "interlaced.mkv": "-f lavfi -i testsrc2=s=96x54:r=50:d=1 -vf tinterlace=interleave_top -flags +ilme+ildct "
    "-c:v mpeg2video -b:v 2M",
    "fast.mp4": "-i two_audio.mp4 -map 0 -c copy -movflags faststart",
    "groups.ts": "-f lavfi -i testsrc2=s=96x54:r=25:d=4 -c:v mpeg2video -g 12 -bf 2",
    "song.mp3": "-f lavfi -i sine=440:d=0.5 -i cover.png -map 0 -map 1 -c:v copy -disposition:v attached_pic",
    "transport.ts": "-i two_audio.mp4 -map 0 -c copy",
    "lossless.mkv": f"{_PICTURE} -frames:v 12 -pix_fmt yuv420p -c:v ffv1 {_TAGGED}",
}


class Media:
    """Files made on demand and kept for the session: ``media("all.mkv")``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "s.srt").write_text(SUBTITLES)
        (folder / "chapters.txt").write_text(CHAPTERS)
        (folder / "font.ttf").write_bytes(bytes(range(256)) * 20)
        (folder / "text.txt").write_text("no video at all\n")

    def __call__(self, name: str) -> Path:
        """The file of this name, made now if it is not there yet."""
        file = self.folder / name
        if not file.exists():
            recipe = _RECIPES[name].split()
            for word in recipe:
                if word in _RECIPES:
                    self(word)
            command = ["ffmpeg", "-v", "error", "-y", "-threads", "1", *recipe, name]
            subprocess.run(command, cwd=self.folder, check=True, capture_output=True)
        return file

    def cut(self, name: str, part: float) -> Path:
        """The first part of a file's bytes, as a broken copy leaves it."""
        whole = self(name)
        file = self.folder / f"cut_{name}"
        file.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * part)])
        return file


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    """The maker of files; skips where there is no ffmpeg to make them and no ffprobe to judge."""
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        pytest.skip("no ffmpeg and ffprobe on the path to make and judge files with")
    return Media(tmp_path_factory.mktemp("media"))


Make = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def make(media: Media, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """``make(recipe, name)``: a file made by ffmpeg, once."""
    folder = tmp_path_factory.mktemp("made")

    def run(recipe: str, name: str) -> Path:
        place = folder / re.sub(r"\W+", "_", recipe)[-150:]
        if not (place / name).exists():
            place.mkdir(exist_ok=True)
            command = ["ffmpeg", "-v", "error", "-y", "-threads", "1", *recipe.split(), name]
            subprocess.run(command, cwd=place, check=True, capture_output=True)
        return place / name

    return run


def rotated(media: Media, folder: Path, degrees: int) -> Path:
    """A film that is to be shown turned."""
    file = folder / f"rotated{degrees}.mp4"
    words = ("-c", "copy", "-metadata:s:v", f"rotate={degrees}")
    subprocess.run(["ffmpeg", "-v", "error", "-i", media("wide.mp4"), *words, file], check=True)
    return file


_DELIMITER = {".h264": b"\0\0\0\1\x09", ".hevc": b"\0\0\0\1\x46\x01"}


def with_units(bare: Path, nal: bytes, places: Collection[int], target: Path) -> None:
    """Write a film of 25 fps with ``nal`` in some of its frames, which begin with delimiters and come in order.

    ``bare`` is changed, too: ``film.h264`` or ``film.hevc``.
    """
    mark = _DELIMITER[bare.suffix]
    units = [mark + unit for unit in bare.read_bytes().split(mark)[1:]]
    head = len(mark) + 1
    bare.write_bytes(
        b"".join(unit[:head] + nal + unit[head:] if index in places else unit for index, unit in enumerate(units))
    )
    command = f"ffmpeg -v error -y -fflags +genpts -r 25 -i {bare} -c copy {target}"
    subprocess.run(command.split(), check=True, capture_output=True)


def with_aperture(film: bytes, width: int, height: int) -> bytes:
    """An MP4, whose frames come before its index, with a clean aperture in the middle of its first track's frames."""
    data = bytearray(film)
    path = _find(data, "moov", "trak", "mdia", "minf", "stbl", "stsd")
    entry = path[-1] + 16
    (size,) = struct.unpack_from(">I", data, entry)
    box = struct.pack(">I4s8I", 40, b"clap", width, 1, height, 1, 0, 1, 0, 1)
    assert data.index(b"moov") > data.index(b"mdat"), "else positions in the file would change"
    data[entry + size : entry + size] = box
    for at in (*path, entry):
        (size,) = struct.unpack_from(">I", data, at)
        struct.pack_into(">I", data, at, size + len(box))
    return bytes(data)
