"""Fields: found wherever they are stated, and made into whole frames as FFmpeg's bwdif makes them."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import pytest

from vsr_plugin.errors import InputError
from vsr_plugin.stream import Selection, Source

from .conftest import Media, frame_times

_FIELDS = "-f lavfi -i testsrc2=s=96x64:r=50:d=0.24 -vf tinterlace=interleave_top,setfield={first} -pix_fmt {format}"
_WHOLE = "-f lavfi -i testsrc2=s=96x64:r=25:d=0.24 -pix_fmt yuv420p"


def _make(folder: Path, recipe: str, name: str) -> Path:
    command = ["ffmpeg", "-v", "error", "-y", "-threads", "1", *recipe.split(), name]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / name


def _samples(file: Path, *, deinterlace: bool) -> bytes:
    frames = list(Source(file, Selection(deinterlace=deinterlace)))
    return b"".join(plane.tobytes() for frame in frames for plane in frame.planes)


def _ffmpegs(file: Path, filters: str) -> bytes:
    command = ["ffmpeg", "-v", "error", "-i", str(file), "-vf", filters, "-f", "rawvideo", "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.mark.parametrize("first", ["tff", "bff"])
@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("huffyuv", "a.mkv"),
        ("ffvhuff", "a.mov"),
        ("utvideo", "a.mkv"),
        ("rawvideo", "a.mkv"),
        ("ffv1", "a.mkv"),
        ("libx264 -flags +ildct+ilme", "a.mp4"),  # fields of one frame, flagged: MBAFF
        ("mpeg2video -flags +ildct+ilme", "a.ts"),
    ],
)
def test_fields_that_the_codec_or_the_container_states(
    media: Media, tmp_path: Path, codec: str, name: str, first: str
) -> None:
    form = "yuv420p" if codec[:3] in ("lib", "mpe") else "yuv422p"
    file = _make(tmp_path, f"{_FIELDS.format(first=first, format=form)} -c:v {codec}", name)
    with pytest.raises(InputError, match="is interlaced"):
        list(Source(file))
    assert _samples(file, deinterlace=True) == _ffmpegs(file, f"setfield={first},bwdif=send_frame")


@pytest.mark.parametrize("codec", ["huffyuv", "libx264", "utvideo"])
def test_fields_that_nothing_states_are_deinterlaced_on_request(
    media: Media, tmp_path: Path, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = _FIELDS.format(first="prog", format="yuv422p")
    file = _make(tmp_path, f"{recipe} -c:v {codec}", "a.mkv")
    assert _samples(file, deinterlace=False) == _ffmpegs(file, "null")
    with caplog.at_level(logging.INFO, "vsr_plugin"):
        assert _samples(file, deinterlace=True) == _ffmpegs(file, "bwdif=send_frame")
    assert caplog.text.count("Deinterlacing: every two fields become one frame") == 1
    assert "No frame is flagged as interlaced so far: all are deinterlaced, top field first" in caplog.text


@pytest.mark.parametrize("fields_first", [True, False])
def test_flags_are_believed_from_the_first_on(media: Media, tmp_path: Path, fields_first: bool) -> None:
    fields = _make(
        tmp_path, f"{_FIELDS.format(first='tff', format='yuv420p')} -flags +ildct+ilme -c:v mpeg2video", "f.m2v"
    )
    whole = _make(tmp_path, f"{_WHOLE} -c:v mpeg2video", "w.m2v")
    parts = {fields: "bwdif=send_frame", whole: "null" if fields_first else "bwdif=send_frame"}
    order = list(parts) if fields_first else list(parts)[::-1]
    both = tmp_path / "both.m2v"
    both.write_bytes(b"".join(part.read_bytes() for part in order))
    # At the joint bwdif sees the neighbour: what is compared is the rest.
    frame, samples = 96 * 64 * 3 // 2, _samples(both, deinterlace=True)
    expected = [_ffmpegs(part, parts[part]) for part in order]
    assert len(samples) == sum(map(len, expected)) == 12 * frame
    assert samples[: 5 * frame] == expected[0][: 5 * frame]
    assert samples[7 * frame :] == expected[1][frame:]


def test_a_film_that_becomes_interlaced_is_refused_there(media: Media, tmp_path: Path) -> None:
    whole = _make(tmp_path, f"{_WHOLE} -c:v mpeg2video", "w.ts")
    fields = _make(
        tmp_path, f"{_FIELDS.format(first='tff', format='yuv420p')} -flags +ildct+ilme -c:v mpeg2video", "f.ts"
    )
    (tmp_path / "both.ts").write_bytes(whole.read_bytes() + fields.read_bytes())
    source = Source(tmp_path / "both.ts")
    for _ in range(6):
        next(source)
    with pytest.raises(InputError, match=r"both\.ts is interlaced from 1\.\d\d\d s on: .* use deinterlace=True"):
        next(source)
    assert len(list(Source(tmp_path / "both.ts", Selection(deinterlace=True)))) == 12


def test_what_the_container_calls_progressive_and_pulldown_is_not_refused(media: Media, tmp_path: Path) -> None:
    """Soft telecine codes whole frames and says how many fields each is shown; the times already hold that."""
    for recipe, name in (
        (f"{_WHOLE} -c:v libx264 -x264-params pulldown=32", "pulldown.ts"),
        (f"{_WHOLE} -c:v libx264 -x264-params fake-interlaced=1", "fake.mkv"),
    ):
        file = _make(tmp_path, recipe, name)
        times = [float(frame.pts * frame.time_base) for frame in Source(file)]
        assert times == pytest.approx([float(time) for time in frame_times(file)], abs=1e-6)


@pytest.mark.parametrize("deinterlace", [True, False])
def test_single_fields_coded_as_frames_are_refused(media: Media, tmp_path: Path, deinterlace: bool) -> None:
    recipe = "-f lavfi -i testsrc2=s=96x64:r=25:d=0.2 -vf separatefields -c:v libx265 -preset ultrafast"
    file = _make(tmp_path, f"{recipe} -x265-params interlace=tff:log-level=error", "fields.mkv")
    with pytest.raises(InputError, match=r"fields\.mkv: each of its frames is a single field"):
        list(Source(file, Selection(deinterlace=deinterlace)))
