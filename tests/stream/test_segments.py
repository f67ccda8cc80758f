"""A film in segments is the film in one go, whatever happens in between."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import fields, replace
from fractions import Fraction
from inspect import signature
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from tests.cli.warm import CONTEXT
from tests.stream.conftest import HDR10, Make, Media, Nearest, packets, probe, streams
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import InputError, OutputError, UsageError
from vsr_plugin.execution import Execution
from vsr_plugin.models import NetworkSpec
from vsr_plugin.sizes import Target, Window
from vsr_plugin.stream import Encoding, Progress, Report, upscale_file
from vsr_plugin.stream.reader import Reader
from vsr_plugin.stream.segments import job, making, original
from vsr_plugin.stream.segments.encoding import check_cuttable
from vsr_plugin.stream.segments.executor import Task, ThisProcess
from vsr_plugin.stream.segments.job import selection_of, settings
from vsr_plugin.stream.segments.join import join
from vsr_plugin.stream.segments.manifest import SAME_RESULT, PartsFolder, jobs_of, versions
from vsr_plugin.stream.segments.parts import Part, read_part, store_part
from vsr_plugin.stream.segments.plan import make_plan
from vsr_plugin.stream.segments.section import Section
from vsr_plugin.stream.selection import Selection

FFV1 = Encoding(codec="ffv1")
_FILM = "-f lavfi -i testsrc2=s=64x48:r=25:d=4"
_SHORT = "-preset ultrafast -g 25 -keyint_min 25 -sc_threshold 0"

_WRAPPING = "-output_ts_offset 95443.2 -muxdelay 0 -muxpreload 0 -mpegts_copyts 1"
_X264 = f"-c:v libx264 {_SHORT}"


def frames(file: Path) -> list[tuple[str, ...]]:
    """(stream, time, checksum) of all decoded frames and copied packets."""
    command = ["ffmpeg", "-v", "error", "-i", f"file:{file}", "-map", "0:v", "-fps_mode", "passthrough", "-copyts"]
    said = subprocess.run([*command, "-f", "framehash", "-"], capture_output=True, check=True, text=True).stdout
    rows = [line.split(",") for line in said.splitlines() if not line.startswith("#")]
    return [(row[0].strip(), row[2].strip(), row[5].strip()) for row in rows]


Both = Callable[..., tuple[Path, Path]]


class _Apart(ThisProcess):
    """Decodes every segment for itself, as workers do."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def run(self, task: Task) -> Generator[Part]:
        while task.waiting:
            for part in super().run(replace(task, waiting=deque([task.waiting.popleft()]))):
                self.made.append(part.number)
                yield part


@pytest.fixture
def both(nearest: Upscaler, tmp_path: Path) -> Both:
    """``both(file, name, **options)``: the file enlarged in one go, and in segments of a second."""

    def run(source: Path, name: str, length: str = "1", **options: Any) -> tuple[Path, Path]:
        whole, cut = tmp_path / f"whole_{name}", tmp_path / f"cut_{name}"
        options = {"encoding": FFV1, **options}
        upscale_file(source, whole, nearest, **options)
        apart = _Apart()
        upscale_file(source, cut, nearest, resume=True, segment_length=Fraction(length), executor=apart, **options)
        assert apart.made == sorted(set(apart.made))  # nothing had to be made again
        assert not cut.with_name(f"{cut.name}.parts").exists()
        return whole, cut

    return run


# What a cut must get right → (how ffmpeg makes the file, its name)
HARD = {
    "closed GOPs": (f"{_FILM} -c:v libx264 -bf 2 {_SHORT}", "a.mp4"),
    "a B-pyramid": (f"{_FILM} -c:v libx264 -bf 5 -b-pyramid normal -preset medium -g 25 -sc_threshold 0", "a.mkv"),
    "open GOPs of H.264": (f"{_FILM} -c:v libx264 -bf 2 -x264-params open-gop=1 {_SHORT}", "a.mkv"),
    "open GOPs of H.264 in TS": (f"{_FILM} -c:v libx264 -bf 2 -x264-params open-gop=1 {_SHORT}", "a.ts"),
    "open GOPs of HEVC": (
        f"{_FILM} -c:v libx265 -preset ultrafast -x265-params open-gop=1:keyint=25:bframes=3:log-level=error",
        "a.mkv",
    ),
    "intra refresh": (f"{_FILM} -c:v libx264 -x264-params intra-refresh=1:keyint=20 -preset ultrafast", "a.mkv"),
    "leading frames of MPEG-2": (f"{_FILM} -c:v mpeg2video -g 12 -bf 2", "a.ts"),
    "a variable rate": (f"{_FILM} -vf select='not(mod(n\\,3))+not(mod(n\\,7))' -vsync vfr {_X264}", "a.mp4"),
    "a late start": (f"-itsoffset 3.3 {_FILM} -c:v libx264 -bf 2 {_SHORT} -copyts", "a.mkv"),
    "a start before 0": (f"{_FILM} -bf 2 {_X264} -output_ts_offset -1.3 -avoid_negative_ts disabled", "a.mp4"),
    "only key frames": (f"{_FILM} -c:v mjpeg -pix_fmt yuvj420p", "a.mkv"),
    "a clock that wraps, and so begins before 0": (f"{_FILM} -c:v libx264 {_SHORT} {_WRAPPING}", "a.ts"),
    "AVI, which has decoding times alone": (f"{_FILM} -c:v mpeg4 -g 25", "a.avi"),
    "VP9's hidden frames": (f"{_FILM} -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25 -auto-alt-ref 1", "a.webm"),
}  # fmt: skip


@pytest.mark.parametrize("what", HARD)
def test_a_film_in_segments_is_the_film_in_one_go(what: str, make: Make, both: Both) -> None:
    film = make(*HARD[what])
    assert len(make_plan(str(film), Selection(), Fraction(1)).segments) > 1
    whole, cut = both(film, "out.mkv")
    assert frames(cut) == frames(whole)


@pytest.mark.parametrize(
    ("selection", "length", "why"),
    [
        (Selection(), "20", "it is too short for two segments"),
        (Selection(duration=Fraction(1, 10)), "1", "what is taken of it is too short for two segments"),
        (Selection(), "1/5", "it has no key frame to cut it at"),
        (Selection(frames=10), "1/5", "what is taken of it has no key frame to cut it at"),
    ],
)
def test_why_a_film_is_not_cut_is_said(media: Media, selection: Selection, length: str, why: str) -> None:
    assert make_plan(str(media("plain.mp4")), selection, Fraction(length)).whole == why


def test_a_plan_has_no_samples_for_the_machines_that_it_is_sent_to() -> None:
    clip = Path(__file__).parents[2] / "examples/clip.mp4"
    opening = make_plan(str(clip), Selection(frames=2), Fraction(1)).opening
    assert len(pickle.dumps(opening)) < 3000 < opening.frame.width * opening.frame.height


def test_an_edit_list_hides_the_same_frames(make: Make, media: Media, both: Both) -> None:
    film = make(f"{_FILM} -f lavfi -i sine=440:d=4 -c:v libx264 -bf 2 {_SHORT} -c:a aac", "a.mp4")
    edited = film.with_name("edited.mp4")
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-ss", "0.5", "-i", film, "-c", "copy", edited], check=True)
    whole, cut = both(edited, "out.mp4", encoding=Encoding(crf=0, preset="ultrafast"))
    assert frames(cut) == frames(whole)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(start=Fraction(3, 2)),
        Selection(duration=Fraction(5, 2)),
        Selection(start=Fraction(1, 2), duration=Fraction(3)),
        Selection(frames=60),
        Selection(start=Fraction("0.53"), frames=70),
    ],
    ids=["start", "duration", "start and duration", "frames", "start and frames"],
)
def test_a_part_of_a_film_is_cut_alike(selection: Selection, make: Make, both: Both) -> None:
    film = make(f"{_FILM} -f lavfi -i sine=440:d=4 -c:v libx264 -bf 2 {_SHORT} -c:a aac", "a.mkv")
    whole, cut = both(film, "out.mkv", selection=selection)
    assert frames(cut) == frames(whole)
    assert packets(cut, "a:0") == packets(whole, "a:0")


def test_a_deinterlacer_sees_beyond_the_seams(make: Make, both: Both) -> None:
    film = make(
        "-f lavfi -i testsrc2=s=64x48:r=50:d=3 -vf tinterlace=interleave_top -flags +ilme+ildct -c:v mpeg2video -g 12",
        "a.mkv",
    )
    whole, cut = both(film, "out.mkv", selection=Selection(deinterlace=True))
    assert frames(cut) == frames(whole)


_SEES_THROUGH = "-vf format=yuva444p10le,geq=lum='lum(X,Y)':cb='cb(X,Y)':cr='cr(X,Y)':a='{}' -c:v prores_ks"


@pytest.mark.parametrize(("alpha", "told"), [("1023", 0), ("if(eq(N,25),0,1023)", 1)], ids=["opaque", "at a seam"])
def test_transparency_that_is_lost_is_told_as_in_one_go(
    alpha: str, told: int, make: Make, both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    film = make(f"{_FILM} {_SEES_THROUGH.format(alpha)} -profile:v 4444", "a.mov")
    both(film, "out.mkv", encoding=Encoding("libx264", preset="ultrafast"))
    assert caplog.text.count("dropping the transparency") == 2 * told


def test_3d_that_is_kept_is_not_called_lost(make: Make, both: Both, caplog: pytest.LogCaptureFixture) -> None:
    film = make(f"{_FILM} -c:v libx264 -bf 2 {_SHORT} -metadata:s:v stereo_mode=left_right", "a.mkv")
    whole, cut = both(film, "out.mkv")
    assert "dropping" not in caplog.text
    said = [probe(file, "-show_streams")["streams"][0] for file in (whole, cut)]
    assert said[0]["tags"] == said[1]["tags"]
    assert said[1]["tags"]["stereo_mode"] == "left_right"


ENCODERS = {
    "x264": ("out.mp4", Encoding(crf=0, preset="ultrafast", options={"bf": "3"})),
    "x265": ("out.mkv", Encoding("libx265", preset="ultrafast", options={"x265-params": "lossless=1"})),
    "ProRes": ("out.mov", Encoding("prores_ks")),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_makes_parts_that_fit(name: str, make: Make, both: Both) -> None:
    film = make(f"{_FILM} -c:v libx264 -bf 2 {_SHORT}", "a.mp4")
    output, encoding = ENCODERS[name]
    whole, cut = both(film, output, encoding=encoding)
    assert frames(cut) == frames(whole)
    assert streams(cut)[0]["codec_name"] == streams(whole)[0]["codec_name"]


@pytest.mark.parametrize(
    ("codec", "missing"),
    [("libx264", set()), ("libx265", {"sdtp"}), ("libsvtav1", {"sdtp"})],
)
def test_an_mp4_has_all_tables_but_the_one_that_repeats_what_its_frames_say(
    codec: str, missing: set[str], make: Make, both: Both
) -> None:
    film = make(f"{_FILM} -c:v libx264 -bf 2 {_SHORT}", "a.mp4")
    whole, cut = both(film, "out.mp4", encoding=Encoding(codec, preset="12" if codec == "libsvtav1" else "ultrafast"))
    assert set(_boxes(whole.read_bytes())) - set(_boxes(cut.read_bytes())) == missing
    assert set(_boxes(cut.read_bytes())) <= set(_boxes(whole.read_bytes()))
    if codec == "libx265":  # ITU-T H.265, table 7-1: of what is no reference, the type is even and below 16
        with av.open(whole) as container:
            said = [(packet.is_disposable, _kind(bytes(packet)) in (0, 6, 8)) for packet in container.demux(video=0)]
        assert (True, True) in said
        assert all(table == frame for table, frame in said)


def _boxes(data: bytes) -> Iterator[str]:
    """The names of all boxes of an MP4."""
    while len(data) >= 8:
        size, name = int.from_bytes(data[:4]), data[4:8].decode("latin-1")
        yield name
        if name in ("moov", "trak", "mdia", "minf", "stbl"):
            yield from _boxes(data[8:size])
        data = data[size:]


def _kind(data: bytes) -> int | None:
    """The type of the first slice in a packet of HEVC in MP4."""
    while data:
        size, kind = int.from_bytes(data[:4]), data[4] >> 1 & 0x3F
        if kind < 32:
            return kind
        data = data[4 + size :]
    return None


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("out.mkv", Encoding("libsvtav1", preset="12")),
        ("out.webm", Encoding("libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "1"})),
    ],
)
def test_frames_that_reach_far_do_not_reach_over_a_seam(name: str, encoding: Encoding, make: Make, both: Both) -> None:
    film = make(f"{_FILM} -c:v libx264 -bf 2 {_SHORT}", "a.mp4")
    whole, cut = both(film, name, encoding=encoding)
    assert [time for _, time, _ in frames(cut)] == [time for _, time, _ in frames(whole)]
    lossless, _ = both(film, "lossless.mkv")
    quality, usual = _psnr(cut, lossless), _psnr(whole, lossless)
    at_seams = [at + near for at in (25, 50, 75) for near in range(-2, 2)]
    assert min(quality[at] for at in at_seams) >= min(usual), "no worse than the encoder is without seams"


def _psnr(film: Path, original: Path) -> list[float]:
    """Of the luma of each frame, in dB."""
    found = []
    with av.open(film) as one, av.open(original) as other:
        for frame, wanted in zip(one.decode(video=0), other.decode(video=0), strict=True):
            first, second = (each.to_ndarray()[: each.height].astype(float) for each in (frame, wanted))
            found.append(10 * np.log10(255**2 / np.mean((first - second) ** 2)))
    return found


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("out.mp4", Encoding("libx265", preset="ultrafast")),
        ("out.mkv", Encoding("libx265", preset="ultrafast")),
        ("out.mkv", Encoding("libsvtav1", preset="12")),
        ("out.mp4", Encoding("libx264", preset="ultrafast")),
    ],
    ids=lambda value: value if isinstance(value, str) else value.codec,
)
def test_hdr_metadata_is_as_in_one_go_on_both_sides_of_a_seam(
    name: str, encoding: Encoding, make: Make, both: Both
) -> None:
    color = "-color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc"
    params = f"{HDR10}:keyint=25:min-keyint=25:scenecut=0:open-gop=0"
    film = make(
        "-f lavfi -i testsrc2=s=96x64:r=25:d=2 -pix_fmt yuv420p10le -c:v libx265 -preset ultrafast "
        f"-x265-params {params} {color}",
        "a.mp4",
    )
    whole, cut = both(film, name, encoding=encoding)
    stated, of_frames = _hdr(cut)
    usual, (first, *_) = _hdr(whole)
    assert stated == usual
    kinds = {"Mastering display metadata", "Content light level metadata"}
    assert kinds <= {one["side_data_type"] for one in stated + first}
    assert of_frames[0] == of_frames[25] == first, "where players begin"
    assert len(of_frames) == 50
    assert all(said in ([], first) for said in of_frames)


def _hdr(film: Path) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """What the header says, and every frame."""
    entries = "stream_side_data:frame_side_data:frame=pts"
    found = probe(film, "-select_streams", "v:0", "-show_streams", "-show_frames", "-show_entries", entries)
    of_frames = [
        [one for one in frame.get("side_data_list", []) if "Unregistered SEI" not in one["side_data_type"]]
        for frame in found["frames"]
    ]
    return found["streams"][0].get("side_data_list", []), of_frames


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("all.mkv", "out.mkv"),
        ("all.mp4", "out.mp4"),
        ("late.mp4", "out.mp4"),
        ("cover.mp4", "out.mkv"),
        ("cover.mp4", "out.mp4"),
    ],
)
def test_all_else_is_as_in_one_go(source: str, name: str, media: Media, make: Make, both: Both) -> None:
    film = media(source).with_name(f"keyed_{source}")
    command = ["ffmpeg", "-v", "error", "-y", "-i", media(source), "-map", "0", "-c", "copy", "-c:v:0", "libx264"]
    subprocess.run([*map(str, command), "-preset", "ultrafast", "-g", "10", str(film)], check=True)
    whole, cut = both(film, name, length="0.4", encoding=Encoding(crf=0, preset="ultrafast"))
    assert frames(cut) == frames(whole)
    for index, stream in enumerate(streams(whole)):
        assert streams(cut)[index].get("tags") == stream.get("tags")
        assert streams(cut)[index]["disposition"] == stream["disposition"]
        if stream["codec_type"] in ("audio", "subtitle") or stream["disposition"]["attached_pic"]:
            assert packets(cut, str(index)) == packets(whole, str(index))
    assert source.startswith("cover") == any(stream["disposition"]["attached_pic"] for stream in streams(cut))
    assert _chapters(cut) == _chapters(whole)


def _chapters(file: Path) -> Any:
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_chapters", "-show_format", str(file)]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    tags = {key: value for key, value in said["format"].get("tags", {}).items() if key != "encoder"}
    return said["chapters"], tags


@pytest.fixture
def film(make: Make) -> Path:
    """Four seconds with a key frame in each, and sound."""
    return make(f"{_FILM} -f lavfi -i sine=440:d=4 -c:v libx264 -bf 2 {_SHORT} -c:a aac", "a.mkv")


class Stopped(Exception):  # noqa: N818
    """A crash in the middle."""


def _until(frame: int) -> Callable[[Progress], None]:
    def stop(done: Progress) -> None:
        if done.written.frames >= frame:
            raise Stopped

    return stop


def _stop(*_: Any, **how: Any) -> None:
    raise Stopped


Resume = Callable[..., Report]


@pytest.fixture
def resume(film: Path, tmp_path: Path, nearest: Upscaler) -> Resume:
    """Enlarge ``film`` to out.mkv in segments of a second."""

    def run(source: Path = film, **options: Any) -> Report:
        how = {"encoding": FFV1, "resume": True, "segment_length": Fraction(1), **options}
        return upscale_file(source, tmp_path / "out.mkv", nearest, **how)

    return run


def test_the_same_call_goes_on_where_the_last_one_ended(
    film: Path, resume: Resume, nearest: Upscaler, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(60))
    parts = tmp_path / "out.mkv.parts"
    done = {file.name: file.stat().st_mtime_ns for file in parts.glob("*.part")}
    assert done
    assert not (tmp_path / "out.mkv").exists()
    seen: list[Progress] = []
    report = resume(on_progress=seen.append)
    assert seen[0].frame > 25, "what was done counts from the beginning"
    assert seen[-1].frame == seen[-1].written.encoded == report.frames == 100
    assert not parts.exists()
    upscale_file(film, tmp_path / "whole.mkv", nearest, encoding=FFV1)
    assert frames(tmp_path / "out.mkv") == frames(tmp_path / "whole.mkv")


def test_where_nothing_is_done_nothing_is_left(resume: Resume, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(3))
    assert not list(tmp_path.iterdir())


def _say_of(file: Path, **known: Any) -> None:
    """Say of a part what is not so."""
    part = read_part(file)
    assert part is not None
    store_part(file.parent, replace(part, **known), file.read_bytes()[: part.size])


def test_parts_of_damaged_input_are_not_kept_where_damage_is_refused(resume: Resume, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(60))
    there = sorted((tmp_path / "out.mkv.parts").glob("0*.part"))
    _say_of(there[0], damaged=1)
    report = resume(strict=True)
    assert report.damaged == 0
    assert [one.kept for one in report.segments[: len(there)]] == [False, *[True] * (len(there) - 1)]


def test_parts_of_another_job_that_come_late_are_removed(resume: Resume, tmp_path: Path) -> None:
    """Workers of a command that was killed may go on for a minute."""
    with pytest.raises(Stopped):
        resume(on_progress=_until(60), encoding=Encoding(codec="ffv1", options={"slices": "4"}))
    late = (tmp_path / "out.mkv.parts").rename(tmp_path / "late")
    with pytest.raises(Stopped):
        resume(on_progress=_until(60))
    before, parts = _numbers(tmp_path), list(late.glob("0*"))
    for file in parts:
        file.replace(tmp_path / "out.mkv.parts" / file.name)
    assert parts
    assert len(PartsFolder(tmp_path / "out.mkv").done()[0]) == len(before)
    report = resume(on_progress=lambda _: len(_numbers(tmp_path)) > 4 and pytest.fail("they are there"))
    assert report.kept == 25 * len(before)


@pytest.mark.parametrize("end", [None, 50], ids=["other bytes", "too short"])
def test_a_damaged_part_is_made_again(
    end: int | None,
    resume: Resume,
    tmp_path: Path,
    film: Path,
    nearest: Upscaler,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(99))
    (part,) = (tmp_path / "out.mkv.parts").glob("00001-*.part")
    data = bytearray(part.read_bytes())[:end]
    data[10] ^= 1
    part.write_bytes(data)
    resume()
    (line,) = [line for line in caplog.messages if "is damaged" in line]
    assert line == f"{part} is damaged: segment 1 is made again"
    upscale_file(film, tmp_path / "whole.mkv", nearest, encoding=FFV1)
    assert frames(tmp_path / "out.mkv") == frames(tmp_path / "whole.mkv")


_FAIL = {"EIO": errno.EIO, "ESTALE": errno.ESTALE, "ENOSPC": errno.ENOSPC}


def _fails(monkeypatch: pytest.MonkeyPatch, name: str, what: str, error: str) -> None:
    """Let a method of paths fail for one file, as a disk or a network drive does for a while."""
    works = getattr(Path, name)

    def fail(file: Path, *given: Any, **how: Any) -> Any:
        if re.fullmatch(what, file.name):
            raise OSError(_FAIL[error], os.strerror(_FAIL[error]), str(file))
        return works(file, *given, **how)

    monkeypatch.setattr(Path, name, fail)


@pytest.mark.parametrize("error", ["EIO", "ESTALE"])
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("read_text", "manifest.json"),
        ("open", r"00001-\w+\.part"),
    ],
)
def test_a_disk_that_fails_for_a_while_loses_nothing(
    name: str, what: str, error: str, resume: Resume, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(99))
    there = {file: file.stat().st_mtime_ns for file in (tmp_path / "out.mkv.parts").iterdir()}
    with pytest.MonkeyPatch.context() as failing:
        _fails(failing, name, what, error)
        with pytest.raises(OutputError) as caught:
            resume()
    (place,) = (file for file in there if re.fullmatch(what, file.name))
    assert str(caught.value) == f"Cannot read {place}: {os.strerror(_FAIL[error])}"
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out.mkv.parts").iterdir()} == there
    assert resume().kept


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("mkdir", "out.mkv.parts"),
        ("open", r"\.manifest\.json\..*"),
        ("open", r"\.00000\.part\..*"),
        ("replace", r"\.00000\.part\..*"),
        ("open", r"\.result\.json\..*"),
    ],
)
def test_a_full_disk_is_one_line(
    name: str, what: str, resume: Resume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fails(monkeypatch, name, what, "ENOSPC")
    with pytest.raises(OutputError) as caught:
        resume()
    assert str(caught.value) == f"Cannot write to {tmp_path / 'out.mkv.parts'}: {os.strerror(errno.ENOSPC)}"


@pytest.mark.parametrize(("share", "kept"), [(0.6, 50), (1.5, 100)], ids=["at the third part", "when it is joined"])
def test_a_disk_that_is_really_full_loses_nothing(
    share: float, kept: int, film: Path, nearest: Upscaler, tmp_path: Path
) -> None:
    whole, small = tmp_path / "whole.mkv", tmp_path / "small"
    upscale_file(film, whole, nearest, encoding=FFV1)
    small.mkdir()
    size = int(whole.stat().st_size * share)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small file system here")
    how: dict[str, Any] = {"encoding": FFV1, "resume": True, "segment_length": Fraction(1)}
    try:
        with pytest.raises(OutputError, match=r"^Cannot write .*: No space left on device$"):
            upscale_file(film, small / "out.mkv", nearest, **how)
        assert [file.name for file in small.iterdir()] == ["out.mkv.parts"]
        subprocess.run(["mount", "-o", "remount,size=100m", str(small)], check=True)
        assert upscale_file(film, small / "out.mkv", nearest, **how).kept == kept
        assert frames(small / "out.mkv") == frames(whole)
        assert [file.name for file in small.iterdir()] == ["out.mkv"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_damaged_part_that_cannot_be_removed_is_one_line(
    resume: Resume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(99))
    (part,) = (tmp_path / "out.mkv.parts").glob("00001-*.part")
    part.write_bytes(b"")
    _fails(monkeypatch, "unlink", r"00001-\w+\.part", "EIO")
    with pytest.raises(OutputError, match=r"^Cannot write to \S+out\.mkv\.parts: "):
        resume()


def test_a_folder_that_is_made_is_on_the_disk_before_its_parts(
    resume: Resume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noted(file: int) -> None:
        synced.append(Path(f"/proc/self/fd/{file}").readlink().name)
        fsync(file)

    monkeypatch.setattr(os, "fsync", noted)
    with pytest.raises(Stopped):
        resume(on_progress=_until(60))
    assert synced[0] == tmp_path.name


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"encoding": replace(FFV1, options={"slices": "4"})}, "another job: options was"),
        ({"segment_length": Fraction(2)}, "another job: seconds of a segment was"),
        ({"selection": Selection(frames=90)}, "another job: frames was"),
    ],
)
def test_parts_of_other_settings_are_not_mixed_in(
    other: dict[str, Any], words: str, resume: Resume, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(60))
    before = sorted((tmp_path / "out.mkv.parts").iterdir())
    with pytest.raises(OutputError) as caught:
        resume(**other)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted((tmp_path / "out.mkv.parts").iterdir()) == before, "nothing good is thrown away"
    resume(fresh=True, **other)
    assert not (tmp_path / "out.mkv.parts").exists()


def test_another_model_is_named_and_not_what_follows_from_it(resume: Resume, film: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(60))
    spec, how = NetworkSpec(name="other", overlap={2: 0}), Execution(backend="openvino", device="cpu")
    with Upscaler.from_module(Nearest(2), spec, 2, how) as other, pytest.raises(OutputError) as caught:
        upscale_file(
            film, tmp_path / "out.mkv", other, encoding=FFV1, resume=True, segment_length=Fraction(1), strict=True
        )
    assert "another job: model was nearest and is other now" in str(caught.value)


# A value of each field that changes the result, other than the default.
_OTHER: dict[type, dict[str, Any]] = {
    Selection: {
        "start": Fraction(1),
        "duration": Fraction(1),
        "frames": 3,
        "frame_rate": Fraction(5),
        "deinterlace": True,
        "hwaccel": "cuda",
        "matrix": "bt709",
        "range": "full",
    },
    Encoding: {"codec": "ffv1", "crf": 3.0, "preset": "slow", "options": {"g": "5"}, "pixel_format": "yuv444p"},
    Target: {
        "width": 90,
        "height": 90,
        "scales": (3,),
        "ratio": Fraction(2),
        "window": Window(Fraction(1), Fraction(1), Fraction(62), Fraction(46)),
    },
    Execution: {"backend": "openvino", "device": "cpu", "precision": "bfloat16", "self_ensemble": True},
}


@pytest.mark.parametrize("kind", _OTHER)
def test_every_setting_that_changes_the_result_is_in_the_manifest(kind: type) -> None:
    names = {field.name for field in fields(kind)} - (SAME_RESULT if kind is Execution else set())
    assert names == set(_OTHER[kind]), "a new field changes the result, or is among SAME_RESULT"
    spec = NetworkSpec(name="nearest", overlap={2: 0})

    def told(**changed: Any) -> dict[str, Any]:
        given: dict[type, Any] = {
            Execution: {"backend": "eager", "device": "cpu"},
            Target: {"width": 128, "height": 96, "scales": (2,)},
            Selection: {},
            Encoding: {},
        }
        given[kind] |= changed
        with Upscaler.from_module(Nearest(2), spec, 2, Execution(**given[Execution])) as upscaler:
            target = Target(**given[Target])
            return settings(upscaler, target, Selection(**given[Selection]), Encoding(**given[Encoding]), Fraction(20))

    plain = json.dumps(told(), default=str)
    for name, value in _OTHER[kind].items():
        if name != "device":  # there is one
            assert json.dumps(told(**{name: value}), default=str) != plain, name


def test_every_argument_is_known_to_change_the_result_or_not() -> None:
    told = {"source", "upscaler", "selection", "encoding", "segment_length"}
    same = {"output", "overwrite", "strict", "on_progress", "resume", "fresh", "executor"}
    assert set(signature(upscale_file).parameters) == told | same


def test_parts_of_another_input_are_not_mixed_in(resume: Resume, film: Path, tmp_path: Path) -> None:
    copy = tmp_path / "a.mkv"
    copy.write_bytes(film.read_bytes())
    with pytest.raises(Stopped):
        resume(copy, on_progress=_until(60))
    copy.write_bytes(film.read_bytes() + b"\0")
    with pytest.raises(OutputError, match="the input's size was"):
        resume(copy)
    copy.write_bytes(film.read_bytes())
    os.utime(copy, ns=(0, 1_700_000_000_123_456_789))
    changed = r"the input's last change was 2\d{3}-\d\d-.* and is 2023-11-1\d \d\d:\d\d:20\.123 now"
    with pytest.raises(OutputError, match=changed):
        resume(copy)


def test_the_same_film_may_have_another_name(resume: Resume, film: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(60))
    link = tmp_path / "link.mkv"
    link.symlink_to(film)
    assert [job.path.name for job in jobs_of(link, tmp_path)] == ["out.mkv.parts"]
    assert resume(link).kept


def test_another_film_of_the_same_name_has_no_part_in_it(resume: Resume, film: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(60))
    other = tmp_path / "elsewhere" / film.name
    other.parent.mkdir()
    other.write_bytes(film.read_bytes() + b"\0")
    assert not jobs_of(other, tmp_path)
    film.write_bytes(other.read_bytes())  # it has changed, but these are its parts
    assert [job.path.name for job in jobs_of(film, tmp_path)] == ["out.mkv.parts"]


@pytest.mark.parametrize("fresh", [False, True])
def test_what_was_begun_anew_goes_on_without_fresh(
    fresh: bool, resume: Resume, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(60), fresh=fresh)
    assert f"run it again {'without fresh ' if fresh else ''}to go on" in caplog.messages[-1]


def test_the_lock_is_let_go_of_before_the_folder_is_removed(
    resume: Resume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS keeps a removed file that is open, and so the folder that it is in; here it would not be seen."""
    free: list[bool] = []
    rmdir = Path.rmdir

    def look(folder: Path) -> None:
        if folder.name.endswith(".part") and not (folder / "lock").exists():
            opened = [str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
            free.append(not any(place.startswith(f"{folder}/") for place in opened))
        rmdir(folder)

    monkeypatch.setattr(Path, "rmdir", look)
    resume()
    assert free == [True]
    assert not (tmp_path / "out.mkv.parts").exists()


def test_the_files_of_a_sequence_are_not_all_looked_at_for_every_segment(
    film: Path, tmp_path: Path, nearest: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    subprocess.run(["ffmpeg", "-v", "error", "-i", film, tmp_path / "images" / "%03d.png"], check=True)
    count = len(list((tmp_path / "images").iterdir()))
    looked: list[int] = []
    look = original._edges

    def counting(files: Sequence[Path], *, contents: bool) -> dict[str, Any]:
        looked.append(len(files))
        return look(files, contents=contents)

    monkeypatch.setattr(original, "_edges", counting)
    source = tmp_path / "images" / "%03d.png"
    for seconds in (1, 2):
        looked.clear()
        how: dict[str, Any] = {"encoding": FFV1, "resume": True, "segment_length": Fraction(seconds)}
        upscale_file(source, tmp_path / f"{seconds}.mkv", nearest, **how)
        assert looked == [count] * 3, "when it is planned, before it is joined, and before it gets its name"


def test_what_a_kill_has_left_unfinished_is_removed_when_the_job_goes_on(resume: Resume, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(60))
    left = tmp_path / "out.mkv.parts" / ".00003.part.0123abcd.tmp"
    left.touch()
    resume(on_progress=lambda _: left.exists() and pytest.fail("it is there"))


def test_an_output_that_another_process_has_made_meanwhile_is_said_before_any_work(
    resume: Resume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(*given: Any, **how: Any) -> Any:
        (tmp_path / "out.mkv").touch()
        return make_plan(*given, **how)

    monkeypatch.setattr(job, "make_plan", plan)
    with pytest.raises(OutputError, match="exists"):
        resume(on_progress=lambda _: pytest.fail("it works"))
    assert [file.name for file in tmp_path.iterdir()] == ["out.mkv"]


def test_the_settings_of_a_job_say_which_frames_it_takes(nearest: Upscaler) -> None:
    for name, value in _OTHER[Selection].items():
        selection = Selection(**{name: value})
        told = settings(nearest, Target(128, 96, (2,)), selection, Encoding(), Fraction(20))
        assert selection_of(json.loads(json.dumps(told, default=str))) == selection


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda there: there.update(settings=1), "parts of another version of vsr_plugin"),
        (lambda there: there.update(version=0), "parts of another version of vsr_plugin"),
        (lambda there: there["versions"].update(torch="1.0"), "another job: torch was 1.0 and is "),
        (lambda there: there["versions"].pop("torch"), "another job: torch was not set and is "),
        (lambda there: there["segments"].pop(), "parts of a film that was cut at other places"),
        (lambda there: there.update(time_base="1/7"), "parts of a film that was cut at other places"),
    ],
)
def test_parts_of_other_versions_are_not_mixed_in(
    change: Callable[[dict[str, Any]], None], words: str, resume: Resume, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(60))
    manifest = tmp_path / "out.mkv.parts" / "manifest.json"
    there = json.loads(manifest.read_text())
    change(there)
    manifest.write_text(json.dumps(there))
    before = sorted(manifest.parent.iterdir())
    with pytest.raises(OutputError) as caught:
        resume()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.use == {"fresh": True}
    assert sorted(manifest.parent.iterdir()) == before, "nothing good is thrown away"
    resume(fresh=True)
    assert not manifest.parent.exists()


@pytest.mark.parametrize("how", ["cleared", "begun anew"])
def test_parts_in_a_form_of_before_are_removed(how: str, resume: Resume, film: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(60))
    parts = tmp_path / "out.mkv.parts"
    there = json.loads((parts / "manifest.json").read_text())
    there.update(version=3, segments=[{"number": 0, "from": 7}])
    (parts / "manifest.json").write_text(json.dumps(there))
    for name in ("00000.json", "00000.packets"):
        (parts / name).write_text("{}")
    (left,) = jobs_of(film, tmp_path)
    assert left.done() == ([], 1)
    if how == "cleared":
        assert left.remove() is None
    else:
        assert resume(fresh=True).kept == 0
    assert not parts.exists()


def test_the_manifest_has_the_versions_of_all_that_computes() -> None:
    assert {"vsr_plugin", "PyAV", "libavcodec", "torch"} <= versions("eager").keys()
    assert versions("openvino").keys() - versions("eager").keys() == {"openvino"}


def test_a_disk_without_locks_is_no_matter_of_the_user(
    resume: Resume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", missing)
    with pytest.raises(Stopped):
        resume(on_progress=_until(60))
    assert resume().kept >= 25
    assert not [str(warning.message) for warning in recwarn]
    assert [file.name for file in tmp_path.iterdir()] == ["out.mkv"]


def test_what_another_process_cleans_up_meanwhile_is_no_error(
    resume: Resume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes the folder that is put away for a stale one as soon as its lock is gone."""
    rmdir = Path.rmdir

    def late(folder: Path) -> None:
        if folder.name.startswith(".vsr-"):
            rmdir(folder)
        rmdir(folder)

    monkeypatch.setattr(Path, "rmdir", late)
    resume()
    assert not caplog.messages
    assert [file.name for file in tmp_path.iterdir()] == ["out.mkv"]


def test_a_folder_that_is_in_use_is_left_alone(resume: Resume, film: Path, tmp_path: Path) -> None:
    def again(done: Progress) -> None:
        if done.written.frames == 30:
            resume()

    with pytest.raises(OutputError, match="in use"):
        resume(on_progress=again)


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        (Encoding("libx264", options={"b": "2M"}), "bit rate"),
        (Encoding("libx264", options={"maxrate": "2M", "bufsize": "4M"}), "bit rate"),
        (Encoding("libx265", options={"x265-params": "vbv-bufsize=100:vbv-maxrate=100"}), "rate buffer"),
        (Encoding("libx264", options={"x264-params": "vbv_bufsize=500"}), "rate buffer"),
        (Encoding("libx264", options={"x264opts": "bitrate=500:vbv-maxrate=500:vbv-bufsize=500"}), "bit rate"),
        (Encoding("libsvtav1", options={"svtav1-params": "rc=1"}), "bit rate"),
        (Encoding("libx264", options={"x264-params": "pass=1"}), "passes"),
        (Encoding("libx264", options={"flags": "+pass1"}), "passes"),
        (Encoding("h264_nvenc", options={"rc": "cbr"}), "bit rate"),
    ],
)
def test_what_needs_the_whole_film_is_refused(encoding: Encoding, words: str, resume: Resume, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        resume(encoding=encoding)
    assert words in str(caught.value).lower()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("passes", ["disabled", "qres", "fullres"])
def test_two_passes_within_a_frame_are_no_passes_of_the_film(passes: str) -> None:
    check_cuttable(".mkv", Encoding("h264_nvenc", options={"multipass": passes}))


@pytest.mark.parametrize(
    ("recipe", "name", "output", "why"),
    [
        (
            f"{_FILM} -c:v libx264 -g 1000 -keyint_min 1000 -sc_threshold 0 -preset ultrafast",
            "a.mkv",
            "out.mkv",
            "no key frame to cut it at",
        ),
        (f"{_FILM} -frames:v 1 -c:v ffv1", "a.mkv", "out.mkv", "too short for two segments"),
        (f"{_FILM} -c:v mpeg4 -g 25 -bf 2", "a.avi", "out.mkv", "when they are shown"),
        (f"{_FILM} -c:v libx264 {_SHORT}", "a.mkv", "out.avi", "counts its frames"),
    ],
)
def test_what_cannot_be_cut_is_one_segment_and_that_is_said(
    recipe: str,
    name: str,
    output: str,
    why: str,
    make: Make,
    tmp_path: Path,
    nearest: Upscaler,
    caplog: pytest.LogCaptureFixture,
) -> None:
    encoding = Encoding("ffv1") if output.endswith("mkv") else Encoding("mpeg4")
    report = upscale_file(
        make(recipe, name), tmp_path / output, nearest, encoding=encoding, resume=True, segment_length=Fraction(1)
    )
    assert report.frames in (1, 100)
    assert why in caplog.text
    assert [file.name for file in tmp_path.iterdir()] == [output]


_STEPS = {"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir"}


def _resume_and_die_at(step: int, film: Path, output: Path, steps: Path) -> None:
    """Be killed before the step of this number among those that change a folder; how many there were is noted."""
    done = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal done
        if event in _STEPS:
            if done == step:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            steps.write_text(str(done))

    sys.addaudithook(count)
    spec = NetworkSpec(name="nearest", overlap={2: 0})
    with Upscaler.from_module(Nearest(2), spec, 2, Execution(backend="eager", device="cpu")) as upscaler:
        upscale_file(film, output, upscaler, encoding=FFV1, resume=True, segment_length=Fraction(1))


@pytest.mark.slow
def test_a_film_survives_a_kill_at_every_step_of_its_end(
    film: Path, resume: Resume, nearest: Upscaler, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kept = tmp_path_factory.mktemp("kept")
    upscale_file(film, kept / "whole.mkv", nearest, encoding=FFV1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(making, "join", _stop)
        with pytest.raises(Stopped):
            resume()
    (tmp_path / "out.mkv.parts").rename(kept / "parts")
    outcomes: list[tuple[bool, bool]] = []  # whether there is the file, and what is known of it
    while True:
        (tmp_path / "out.mkv").unlink(missing_ok=True)
        shutil.copytree(kept / "parts", tmp_path / "out.mkv.parts")
        words = (len(outcomes), film, tmp_path / "out.mkv", kept / "steps")
        process = CONTEXT.Process(target=_resume_and_die_at, args=words)
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        outcomes.append(((tmp_path / "out.mkv").exists(), (tmp_path / "out.mkv.parts" / "result.json").exists()))
        if outcomes[-1] == (True, False):  # all was done
            with pytest.raises(OutputError, match="exists"):
                resume()
        else:
            report = resume()
            assert report.kept == report.frames == 100
            assert len(report.segments) == 4
        assert frames(tmp_path / "out.mkv") == frames(kept / "whole.mkv")
        assert [file.name for file in tmp_path.iterdir()] == ["out.mkv"], outcomes
    assert outcomes == sorted(outcomes, key=[(False, False), (False, True), (True, True), (True, False)].index)
    assert outcomes.count((True, True)) == 9, "the segments are removed one by one"
    assert outcomes.count((True, False)) == 3, "what is known, the lock and the folder, under another name"


@pytest.mark.parametrize("other", [{"encoding": replace(FFV1, options={"slices": "4"})}, {"strict": True}, {"film": 1}])
def test_another_job_is_not_taken_for_one_that_is_whole(
    other: dict[str, Any], film: Path, resume: Resume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(PartsFolder, "remove", lambda _: None)
        resume()
    assert (tmp_path / "out.mkv.parts" / "result.json").exists()
    if other.pop("film", None):
        os.utime(film)
    with pytest.raises(OutputError, match="exists"):
        resume(**other)
    assert [file.name for file in tmp_path.iterdir()] == ["out.mkv"]


def test_a_film_in_one_go_leaves_no_folder(film: Path, tmp_path: Path, nearest: Upscaler) -> None:
    upscale_file(film, tmp_path / "out.mkv", nearest, encoding=FFV1)
    with pytest.raises(Stopped):
        upscale_file(film, tmp_path / "other.mkv", nearest, encoding=FFV1, on_progress=_until(60))
    assert [file.name for file in tmp_path.iterdir()] == ["out.mkv"]


class _Mistaken(ThisProcess):
    """Says of parts what is not so.

    Args:
        mistakes: Number of a part → what is said of it, each time that it is made.
    """

    def __init__(self, mistakes: dict[int, list[dict[str, Any]]]) -> None:
        self._mistakes = mistakes
        self.made: list[int] = []

    def run(self, task: Task) -> Generator[Part]:
        for part in super().run(task):
            mistakes = self._mistakes.get(part.number, [])
            mistake = mistakes[self.made.count(part.number)] if self.made.count(part.number) < len(mistakes) else {}
            self.made.append(part.number)
            yield replace(part, **mistake)


_OTHER_FRAME = (None, "0" * 32)
_BEYOND = {"beyond": _OTHER_FRAME}


@pytest.mark.parametrize(
    ("mistakes", "made"),
    [
        ({1: [_BEYOND]}, [1, 2]),
        (
            {1: [{"beyond": _OTHER_FRAME}], 2: [{}, {"beyond": _OTHER_FRAME}], 3: [{}, {"first": _OTHER_FRAME}]},
            [1, 2, 3],
        ),
    ],
    ids=["two", "and then one beside them"],
)
def test_segments_that_do_not_fit_together_are_made_again(
    mistakes: dict[int, list[dict[str, Any]]],
    made: list[int],
    film: Path,
    resume: Resume,
    nearest: Upscaler,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mistaken = _Mistaken(mistakes)
    with pytest.raises(Stopped):
        resume(on_progress=_until(30))
    before = len(list((tmp_path / "out.mkv.parts").glob("*.part")))
    seen: list[Progress] = []
    report = resume(executor=mistaken, on_progress=seen.append)
    assert mistaken.made == [*range(before, 4), *made]
    assert max(now.frame for now in seen) == 100
    assert [one.kept for one in report.segments] == [n < before and n not in made for n in range(4)]
    assert report.kept == seen[-1].kept
    assert "does not fit: decoding again from the beginning" in caplog.text
    upscale_file(film, tmp_path / "whole.mkv", nearest, encoding=FFV1)
    assert frames(tmp_path / "out.mkv") == frames(tmp_path / "whole.mkv")


def _film_whose_recovery_points_are_none(path: Path) -> None:
    """Frames after an I-frame refer to frames before it, though the stream says that decoding may begin there."""
    chance = np.random.default_rng(1)
    scenes = [np.kron(chance.integers(0, 255, (6, 8)), np.ones((8, 8), int)) for _ in range(2)]
    encoded = BytesIO()
    with av.open(encoded, "w", format="matroska") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"x264-params": "keyint=infinite:min-keyint=100:scenecut=400:ref=12:bframes=0:mbtree=0"}
        for number in range(100):  # two scenes in turns: the frame that is most alike lies before the cut
            samples = np.full((72, 64), 128, np.uint8)
            samples[:48] = np.clip(scenes[number // 6 % 2] + chance.integers(-6, 7, (48, 64)), 0, 255)
            frame = av.VideoFrame.from_ndarray(samples, "yuv420p")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    recovery_point = bytes([0, 0, 0, 5, 6, 6, 1, 0x84, 0x80])  # ITU-T H.264, D.1.8: no frame later
    with av.open(BytesIO(encoded.getvalue()), "r") as decoded:
        intra = {frame.pts for frame in decoded.decode(video=0) if frame.pict_type == PictureType.I}
    with av.open(BytesIO(encoded.getvalue()), "r") as source, av.open(path, "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if not packet.size:
                continue
            marked = av.Packet((recovery_point if packet.pts in intra and packet.pts else b"") + bytes(packet))
            marked.pts, marked.dts, marked.duration = packet.pts, packet.dts, packet.duration
            marked.stream, marked.time_base, marked.is_keyframe = stream, packet.time_base, packet.pts in intra
            output.mux(marked)


def test_a_recovery_point_that_is_none_is_found_out(
    resume: Resume, nearest: Upscaler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film = tmp_path / "film.mkv"
    _film_whose_recovery_points_are_none(film)
    assert len(make_plan(str(film), Selection(), Fraction(1)).segments) > 1
    resume(film, executor=_Apart())
    assert "does not fit: decoding again from the beginning" in caplog.text
    upscale_file(film, tmp_path / "whole.mkv", nearest, encoding=FFV1)
    assert frames(tmp_path / "out.mkv") == frames(tmp_path / "whole.mkv")


@pytest.mark.parametrize("at", [Fraction(3, 2), Fraction(7, 2)], ids=["in the middle", "in the last segment"])
@pytest.mark.parametrize("executor", [ThisProcess, _Apart], ids=["in one go", "one by one"])
def test_what_a_read_error_cut_short_is_made_again(
    executor: Callable[[], Any],
    at: Fraction,
    film: Path,
    resume: Resume,
    nearest: Upscaler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that passes, as a network's does: the same file can be read a moment later."""
    upscale_file(film, tmp_path / "whole.mkv", nearest, encoding=FFV1)
    demuxed, state = Reader._demuxed, ["planning"]

    def fails_once(reader: Any) -> Iterator[Any]:
        for packet in demuxed(reader):
            if state == ["working"] and packet.pts is not None and packet.pts * packet.time_base > at:
                state[0], reader.failed = "failed", True
                reader._damage("the file cannot be read to its end (Input/output error)")
                return
            yield packet

    def work(*given: Any) -> Section:
        state[:] = ["working"] if state == ["planning"] else state
        return Section(*given)

    monkeypatch.setattr(Reader, "_demuxed", fails_once)
    monkeypatch.setattr("vsr_plugin.stream.segments.work.Section", work)
    report = resume(executor=executor())
    assert state == ["failed"]
    assert (report.frames, report.damaged) == (100, 0)
    assert frames(tmp_path / "out.mkv") == frames(tmp_path / "whole.mkv")


def test_what_cannot_be_read_twice_is_left_out_and_the_rest_is_kept(
    film: Path,
    resume: Resume,
    nearest: Upscaler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    upscale_file(film, tmp_path / "whole.mkv", nearest, encoding=FFV1)
    demuxed, working = Reader._demuxed, [False]

    def fails(reader: Any) -> Iterator[Any]:
        for packet in demuxed(reader):
            if working[0] and packet.pts is not None and packet.pts * packet.time_base > Fraction(7, 2):
                reader.failed = True
                reader._damage("the file cannot be read to its end (Input/output error)")
                return
            yield packet

    def work(*given: Any) -> Section:
        working[0] = True
        return Section(*given)

    with monkeypatch.context() as patched:
        patched.setattr(Reader, "_demuxed", fails)
        patched.setattr("vsr_plugin.stream.segments.work.Section", work)
        report = resume()
    assert report.frames < 100
    assert report.damaged
    assert _numbers(tmp_path) == [0, 1, 2]
    place = tmp_path / "out.mkv.parts"
    assert caplog.messages[-1] == (
        f"{film.name} could not be read in segment 3, which out.mkv lacks. The other segments are kept in {place}: run "
        "it again, overwriting the file, to read the rest"
    )
    report = resume(overwrite=True)
    assert (report.frames, report.damaged, report.kept) == (100, 0, 75)
    assert frames(tmp_path / "out.mkv") == frames(tmp_path / "whole.mkv")
    assert not place.exists()


def test_segments_that_are_done_are_those_that_are_not_made_again(resume: Resume, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(99))
    folder = PartsFolder(tmp_path / "out.mkv")
    done, count = folder.done()
    there = sorted((tmp_path / "out.mkv.parts").glob("0*.part"))
    assert ([one.number for one in done], count) == (list(range(len(there))), 4)
    _say_of(there[0], job="0" * 16)
    _say_of(there[1], unread=True)
    assert [one.number for one in folder.done()[0]] == list(range(2, len(there)))
    report = resume()
    assert [one.kept for one in report.segments] == [
        False,
        False,
        *[True] * (len(there) - 2),
        *[False] * (4 - len(there)),
    ]


def test_segments_that_never_fit_together_are_not_joined(resume: Resume, tmp_path: Path) -> None:
    mistaken = _Mistaken({1: [_BEYOND] * 9})
    with pytest.raises(InputError) as caught:
        resume(executor=mistaken)
    assert re.fullmatch(
        r"a\.\w+: segments 1 and 2 were made twice, and do not begin and end with the same frame at 2\.\d+ s: "
        r"use another segment_length, or leave resume out",
        str(caught.value),
    )
    assert mistaken.made == [0, 1, 2, 3, 1, 2], "each is made twice at most"
    assert not (tmp_path / "out.mkv").exists()
    assert _numbers(tmp_path) == [0, 3], "what is good is kept"
    assert resume().kept == 50


def _numbers(folder: Path) -> list[int]:
    """Of the parts that are there."""
    return sorted(int(file.name[:5]) for file in (folder / "out.mkv.parts").glob("0*.part"))


def test_damage_that_never_decodes_alike_does_not_end_the_job(resume: Resume, tmp_path: Path) -> None:
    mistaken = _Mistaken({1: [{"beyond": _OTHER_FRAME, "damaged": 1}] * 9})
    assert resume(executor=mistaken).damaged == 1
    assert mistaken.made == [0, 1, 2, 3, 1, 2]
    assert len(frames(tmp_path / "out.mkv")) == 100


def test_a_seam_is_compared_as_soon_as_both_sides_are_there(resume: Resume) -> None:
    """Not when all is made: that may be hours later."""

    class Apart(_Apart):
        def run(self, task: Task) -> Generator[Part]:
            for part in super().run(task):
                first = part.number == 0 and self.made.count(0) == 1
                yield replace(part, beyond=_OTHER_FRAME) if first else part

    apart = Apart()
    resume(executor=apart)
    assert apart.made == [0, 1, 0, 1, 2, 3]


def test_parts_that_do_not_fit_are_made_again_before_any_other(resume: Resume, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(99))
    there = sorted((tmp_path / "out.mkv.parts").glob("0*.part"))
    _say_of(there[0], beyond=_OTHER_FRAME)
    apart = _Apart()
    report = resume(executor=apart)
    assert apart.made[:2] == [0, 1]
    assert len(apart.made) == 2 + 4 - len(there)
    assert not any(one.kept for one in report.segments[:2])


def test_who_makes_a_part_twice_replaces_nothing(film: Path, resume: Resume, tmp_path: Path, nearest: Upscaler) -> None:
    """A worker that outlives its command ends after the new one has made the same part, in other bytes."""
    late: list[Path] = []

    class Late(ThisProcess):
        def run(self, task: Task) -> Generator[Part]:
            for part in super().run(task):
                yield part
                store_part(task.folder, replace(part, token=f"{part.number:08}", sha256="0" * 64), bytes(part.size))
                late.append(task.folder)

    upscale_file(film, tmp_path / "whole.mkv", nearest, encoding=FFV1)
    resume(executor=Late())
    assert len(late) == 4
    assert frames(tmp_path / "out.mkv") == frames(tmp_path / "whole.mkv")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.mkv", "whole.mkv"]


def test_of_two_parts_of_a_segment_one_is_taken(resume: Resume, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(99))
    for number, file in enumerate(sorted((tmp_path / "out.mkv.parts").glob("0*.part"))):
        part = read_part(file)
        assert part is not None
        data = file.read_bytes()[: part.size]
        store_part(file.parent, replace(part, token="f" * 8 if number else "0" * 8), data)
        if number == 1:  # the other one is damaged, whichever is looked at first
            file.write_bytes(b"")
    before = len({file.name[:5] for file in (tmp_path / "out.mkv.parts").glob("0*.part")})
    assert resume().kept == before * 25


def _replace(path: Path) -> None:
    other = path.with_name("other.mkv")
    subprocess.run(["ffmpeg", "-v", "error", *f"{_FILM} -vf negate -c:v libx264 {_SHORT}".split(), other], check=True)
    other.replace(path)


def _overwrite(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(bytes(size - size // 2 - 1))


CHANGES: dict[str, Callable[[Path], Any]] = {
    "longer": lambda path: path.open("ab").write(b"0"),
    "shorter": lambda path: os.truncate(path, path.stat().st_size // 2),
    "as long": _overwrite,
    "another": _replace,
}


@pytest.mark.parametrize("executor", [ThisProcess, _Apart], ids=["in one go", "one by one"])
@pytest.mark.parametrize("what", CHANGES)
def test_of_an_input_that_changes_meanwhile_no_part_is_kept(
    what: str,
    executor: Callable[[], Any],
    resume: Resume,
    film: Path,
    nearest: Upscaler,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    upscale_file(film, tmp_path / "whole.mkv", nearest, encoding=FFV1)
    copy, parts = tmp_path / "a.mkv", tmp_path / "out.mkv.parts"
    shutil.copy2(film, copy)
    before: list[Path] = []

    def change(done: Progress) -> None:
        if done.frame < 75 and not before and list(parts.glob("00000-*.part")):
            before.extend(parts.glob("0*.part"))
            CHANGES[what](copy)

    with pytest.raises(InputError) as caught:
        resume(copy, on_progress=change, executor=executor())
    assert str(caught.value) == "a.mkv has changed while it was read: use fresh=True"
    assert not [line for line in caplog.messages if "run it again" in line or "going on" in line]
    assert not (tmp_path / "out.mkv").exists()
    assert {*before} <= {*parts.glob("0*.part")}, "nothing good is thrown away"
    assert not list(parts.glob("00003-*.part"))
    shutil.copy2(film, copy)
    assert resume(copy).kept >= 25
    assert frames(tmp_path / "out.mkv") == frames(tmp_path / "whole.mkv"), "and nothing bad is kept"


def test_an_input_that_changes_while_it_is_joined_is_not_joined(
    resume: Resume, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "a.mkv"
    copy.write_bytes(film.read_bytes())

    def changed(*given: Any, **how: Any) -> Any:
        os.utime(copy, (1, 1))
        return join(*given, **how)

    monkeypatch.setattr(making, "join", changed)
    with pytest.raises(InputError, match="has changed while it was read"):
        resume(copy)
    assert not (tmp_path / "out.mkv").exists()
    assert len(list((tmp_path / "out.mkv.parts").glob("*.part"))) == 4, "nothing good is thrown away"


_OTHER_ENCODER = "out.mkv: the encoder of segment 1 was not the same one as here"


def test_a_part_of_another_encoder_is_found_out_when_it_is_made(resume: Resume, tmp_path: Path) -> None:
    mistaken = _Mistaken({1: [{"header": "00"}]})
    with pytest.raises(OutputError, match=_OTHER_ENCODER):
        resume(executor=mistaken)
    assert mistaken.made == [0, 1]
    assert _numbers(tmp_path) == [0]
    assert resume().kept == 25


def test_a_part_of_another_encoder_is_found_out_before_any_work(resume: Resume, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(75))
    (part,) = (tmp_path / "out.mkv.parts").glob("00001-*.part")
    _say_of(part, header="00")
    with pytest.raises(OutputError, match=_OTHER_ENCODER) as caught:
        resume(on_progress=lambda _: pytest.fail("it works"))
    assert caught.value.use == {"fresh": True}
    assert part.exists(), "nothing is thrown away"


def test_what_was_lost_of_parts_is_told_again_and_refused_where_it_must_not_be(
    make: Make, resume: Resume, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film = make(f"{_FILM} {_SEES_THROUGH.format('if(gt(N,5),0,1023)')} -profile:v 4444", "a.mov")
    how: dict[str, Any] = {"source": film, "encoding": Encoding("libx264", preset="ultrafast")}
    with pytest.raises(Stopped):
        resume(on_progress=_until(75), **how)
    there = sorted((tmp_path / "out.mkv.parts").iterdir())
    _say_of(there[0], damaged=1, told=("a frame is damaged",))
    with pytest.raises(OutputError, match=r"^a\.mov: the transparency would be lost: libx264 takes none"):
        resume(strict=True, on_progress=lambda _: pytest.fail("it works"), **how)
    assert sorted((tmp_path / "out.mkv.parts").iterdir()) == there, "nothing good is thrown away"
    caplog.clear()
    assert resume(**how).damaged == 1
    assert caplog.text.count("a.mov: dropping the transparency: libx264 takes none") == 1
    assert caplog.text.count("a.mov: a frame is damaged; going on") == 1


def test_what_the_output_cannot_hold_is_refused_before_any_work(
    media: Media, nearest: Upscaler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film = media("all.mkv").with_name("keyed_attached.mkv")
    command = ["ffmpeg", "-v", "error", "-y", "-i", media("all.mkv"), "-map", "0", "-c", "copy", "-c:v", "libx264"]
    subprocess.run([*map(str, command), "-preset", "ultrafast", "-g", "10", str(film)], check=True)
    how: dict[str, Any] = {"encoding": Encoding(preset="ultrafast"), "resume": True, "segment_length": Fraction(2, 5)}
    with pytest.raises(OutputError, match="would be lost"):
        upscale_file(
            film, tmp_path / "out.mp4", nearest, strict=True, on_progress=lambda _: pytest.fail("it works"), **how
        )
    assert not list(tmp_path.iterdir())
    caplog.clear()
    upscale_file(film, tmp_path / "out.mp4", nearest, **how)
    told = [line for line in caplog.messages if "dropping" in line]
    assert told
    assert len(told) == len(set(told))


def test_the_size_so_far_is_that_of_the_frames_encoded_so_far(resume: Resume) -> None:
    """From which the size of the film is estimated."""
    seen: list[tuple[int, int]] = []
    report = resume(on_progress=lambda now: seen.append((now.written.size, now.written.encoded)))
    assert seen[-1] == (sum(part.size for part in report.segments), 100)
    assert all((size > 0) == (encoded > 0) for size, encoded in seen)
    usual = seen[-1][0] / 100
    assert all(usual / 2 < size / encoded < usual * 2 for size, encoded in seen if encoded)


def test_each_segment_is_reported(resume: Resume) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(60))
    report = resume()
    assert [(one.number, one.frames) for one in report.segments] == [(number, 25) for number in range(4)]
    assert [round(one.start) for one in report.segments] == [0, 1, 2, 3]
    kept = sum(one.kept for one in report.segments)
    assert 1 <= kept < 4
    assert report.kept == 25 * kept
    assert report.fps == pytest.approx((100 - 25 * kept) / report.seconds)


def test_what_is_reused_is_reported(make: Make, tmp_path: Path) -> None:
    still = make("-f lavfi -i color=red:s=64x48:r=25:d=4 -c:v libx264 -qp 0 -g 25", "a.mkv")
    with Upscaler("espcn", 2, Execution(backend="eager", device="cpu", precision="float32")) as espcn:
        whole = upscale_file(still, tmp_path / "whole.mkv", espcn, encoding=FFV1)
        apart, cut = (
            upscale_file(
                still, tmp_path / name, espcn, encoding=FFV1, resume=True, segment_length=Fraction(1), executor=executor
            )
            for name, executor in (("apart.mkv", _Apart()), ("cut.mkv", None))
        )
    assert len(cut.segments) == 4
    assert whole.reused == cut.reused == 0.99
    assert apart.reused == 0.96, "whoever begins anew knows no frame before"


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("inside", ["notes.txt", "sub/notes.txt", "film.mkv"])
def test_a_folder_of_somebody_else_is_refused_and_stays(
    resume: Resume, film: Path, tmp_path: Path, inside: str, *, fresh: bool
) -> None:
    theirs = tmp_path / "out.mkv.parts" / inside
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(film.read_bytes())
    with pytest.raises(OutputError, match=r"out.mkv.parts is in the way: it holds (notes.txt|sub|film.mkv), which"):
        resume(theirs if inside == "film.mkv" else film, fresh=fresh)
    assert theirs.read_bytes() == film.read_bytes()
    assert [file.name for file in theirs.parent.iterdir()] == [theirs.name]
    assert not (tmp_path / "out.mkv").exists()


def test_parts_are_never_kept_through_a_link(resume: Resume, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out.mkv.parts").symlink_to("real")
    with pytest.raises(OutputError, match=r"out\.mkv\.parts is a link"):
        resume()
    assert list((tmp_path / "real").iterdir()) == []


def test_what_somebody_puts_beside_the_parts_stays(resume: Resume, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(60))
    notes = tmp_path / "out.mkv.parts" / "notes.txt"
    notes.write_text("mine")
    resume(fresh=True)
    assert (tmp_path / "out.mkv").exists()
    assert [file.name for file in notes.parent.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("length", [Fraction(0), Fraction(-5)])
def test_a_segment_has_a_length(resume: Resume, tmp_path: Path, length: Fraction) -> None:
    with pytest.raises(UsageError, match="Expected a segment length above 0 seconds"):
        resume(segment_length=length)
    assert not (tmp_path / "out.mkv").exists()


def test_what_is_done_is_on_the_disk_before_its_segments_are_removed(
    resume: Resume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a loss of power at the end would lose everything."""
    calls: list[tuple[str, str]] = []
    fsync, link, unlink = os.fsync, os.link, Path.unlink

    def synced(file: int) -> None:
        calls.append(("sync", Path(f"/proc/self/fd/{file}").readlink().name))
        fsync(file)

    def linked(file: Path, place: Path) -> None:
        calls.append(("place", place.name))
        link(file, place)

    def unlinked(file: Path, **how: Any) -> None:
        if file.exists():
            calls.append(("remove", file.name))
        unlink(file, **how)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)
    monkeypatch.setattr(Path, "unlink", unlinked)
    resume()
    placed = calls.index(("place", "out.mkv"))
    assert ("sync", "output.mkv") in calls[:placed]
    assert calls[placed + 1] == ("sync", tmp_path.name)
    assert not any(what == "remove" and name.endswith(".part") for what, name in calls[: placed + 1])


def test_parts_of_a_film_that_is_not_cut_now_are_not_passed_over(resume: Resume, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        resume(on_progress=_until(60))
    with pytest.raises(OutputError, match="a film, which is not cut now, because what is taken of it is too short"):
        resume(selection=Selection(frames=3))
    with pytest.raises(OutputError, match="parts of another job: seconds of a segment was 1 and is 60 now"):
        resume(segment_length=Fraction(60))
    assert (tmp_path / "out.mkv.parts").exists()
    resume()
    assert not (tmp_path / "out.mkv.parts").exists()
