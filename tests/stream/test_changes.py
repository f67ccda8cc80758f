"""What changes in the middle of a film and stands in its header: converted to the first frame's, or refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vsr_plugin.errors import InputError
from vsr_plugin.stream import Encoding, Selection, Source
from vsr_plugin.stream.segments.plan import make_plan

from .conftest import Media, streams

Enlarge = Callable[..., Path]
_TV709 = "video_full_range_flag=0:matrix_coefficients=1:colour_primaries=1:transfer_characteristics=1"


@pytest.fixture
def joined(media: Media, tmp_path: Path) -> Callable[..., Path]:
    """``joined(filter, tags, filter, tags)``: two H.264 streams of 5 frames, one after the other."""

    def make(*parts: str) -> Path:
        data = b""
        for picture, tags in zip(parts[::2], parts[1::2], strict=True):
            command = (
                f"-f lavfi -i testsrc2=s=64x48:r=25:d=0.2 -vf format=yuv420p,gblur=6,hue=s=0.4,{picture or 'null'} "
                f"-c:v libx264 -preset ultrafast -crf 1 -bf 0 -bsf:v h264_metadata={tags or _TV709} -f h264 -"
            )
            data += subprocess.run(["ffmpeg", "-v", "error", *command.split()], check=True, capture_output=True).stdout
        file = tmp_path / "joined.h264"
        file.write_bytes(data)
        return file

    return make


def _frames(file: Path) -> list[np.ndarray[Any, Any]]:
    with av.open(str(file)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


@pytest.mark.parametrize(
    ("picture", "tags", "what"),
    [
        ("scale=out_range=full,format=yuv420p", _TV709.replace("flag=0", "flag=1"), "range from limited to full"),
        (
            "scale=in_color_matrix=bt709,format=gbrp,scale=out_color_matrix=smpte170m,format=yuv420p",
            _TV709.replace("coefficients=1", "coefficients=6"),
            "matrix from BT709 to SMPTE170M",
        ),
        ("format=yuv444p", "", "subsampling from 2×2 to 1×1"),
        ("format=yuv420p10le", "", "bits from 8 to 10"),
    ],
)
def test_a_change_is_converted_to_the_first_frames_reading(
    joined: Callable[..., Path],
    enlarge: Enlarge,
    caplog: pytest.LogCaptureFixture,
    picture: str,
    tags: str,
    what: str,
) -> None:
    same = _frames(enlarge(joined("", "", "", ""), "same.y4m", encoding=Encoding()))
    changed = _frames(
        enlarge(joined("scale=out_range=tv", "", picture, tags), "out.y4m", encoding=Encoding(), strict=True)
    )
    assert len(changed) == len(same) == 10
    assert f"joined.h264 changes its {what} at 0.200 s: converted to what the first frame has" in caplog.text
    assert caplog.text.count("changes its") == 1
    # The second half is the first one again, but for the losses of swscale and of a second rounding.
    for first, second in zip(same[5:], changed[5:], strict=True):
        assert first.shape == second.shape
        assert np.abs(first.astype(int) - second).mean() < 0.6


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("picture", "tags", "what"),
    [
        ("", _TV709.replace("characteristics=1", "characteristics=18"), "transfer from BT709 to ARIB_STD_B67"),
        ("", _TV709.replace("primaries=1", "primaries=9"), "primaries from BT709 to BT2020"),
        ("", _TV709 + ":sample_aspect_ratio=4/3", "pixel aspect ratio from 1:1 to 4:3"),
        ("scale=80:48,setsar=1", "", "size from 64×48 to 80×48"),
    ],
)
def test_a_change_that_no_conversion_undoes_is_refused(
    joined: Callable[..., Path], enlarge: Enlarge, tmp_path: Path, picture: str, tags: str, what: str, strict: bool
) -> None:
    source = joined("setsar=1", "", picture, tags)
    with pytest.raises(InputError, match=f"joined.h264 changes its {what} at 0.200 s: cut the file there"):
        enlarge(source, "out.mkv", strict=strict)
    assert not (tmp_path / "out.mkv").exists()


def test_tags_that_appear_later_and_change_nothing_are_no_change(joined: Callable[..., Path], enlarge: Enlarge) -> None:
    silent = _TV709.replace("primaries=1", "primaries=2").replace("characteristics=1", "characteristics=2")
    assert len(streams(enlarge(joined("", silent, "", ""), "out.mkv", strict=True))) == 1


_SAYS = {
    "full": ("scale=out_range=full", "-color_range pc"),
    "silent": ("scale=out_range=tv", ""),
    "hdr": ("null", "-color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc"),
}
_X264 = "-c:v libx264 -preset ultrafast -crf 1 -bf 2 -f h264"


def _encoded(says: str, pixel_format: str = "yuv420p", encoder: str = _X264, seconds: float = 0.4) -> bytes:
    """A stream of 25 fps in another order than its frames are shown in, whose header says what ``says`` has."""
    picture, tags = _SAYS[says]
    source = f"-f lavfi -i testsrc2=s=64x64:r=25:d={seconds}"
    filters = f"gblur=6,hue=s=0.4,{picture},format={pixel_format}"
    command = ["ffmpeg", "-v", "error", *f"{source} -vf {filters} {tags} {encoder} -".split()]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.mark.parametrize(("first", "second"), [("full", "silent"), ("silent", "full")])
@pytest.mark.parametrize(
    ("pixel_format", "options"), [("yuv420p", ""), ("yuv444p", "-x264-params cqm=jvt "), ("yuv420p10le", "")]
)
@pytest.mark.usefixtures("media")
def test_a_header_that_says_nothing_of_colors_does_not_mean_what_another_says(
    enlarge: Enlarge,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    first: str,
    second: str,
    pixel_format: str,
    options: str,
) -> None:
    one, other = (_encoded(says, pixel_format, options + _X264) for says in (first, second))
    file = tmp_path / "joined.h264"
    file.write_bytes(one + one)
    same = _frames(enlarge(file, "same.y4m", encoding=Encoding()))
    file.write_bytes(one + other)
    joined = _frames(enlarge(file, "out.y4m", encoding=Encoding()))
    ranges = {"full": "full", "silent": "limited"}
    assert f"its range from {ranges[first]} to {ranges[second]} at 0.400 s: converted" in caplog.text
    assert caplog.text.count("changes its") == 1
    assert len(joined) == len(same) == 20
    steps = 4 if "10" in pixel_format else 1
    for before, after in zip(same, joined, strict=True):
        assert np.abs(before.astype(int) - after).mean() < 0.6 * steps


_MPEG2 = "-c:v mpeg2video -q:v 2 -g 5 -bf 2"
_ENCODERS = {
    "joined.h264": _X264,
    "joined.m2v": f"{_MPEG2} -f mpeg2video",
    "joined.ts": f"{_MPEG2} -f mpegts",
    "joined.mpg": f"{_MPEG2} -f vob",
    "joined.obu": "-c:v libsvtav1 -preset 12 -f obu",
}


@pytest.mark.parametrize("order", [("hdr", "silent"), ("silent", "hdr")])
@pytest.mark.parametrize("name", _ENCODERS)
@pytest.mark.usefixtures("media")
def test_hdr_beside_a_header_that_says_nothing_is_refused(
    enlarge: Enlarge, tmp_path: Path, name: str, order: tuple[str, str]
) -> None:
    if name == "joined.obu" and not _has("libsvtav1"):
        pytest.skip("this ffmpeg has no SVT-AV1")
    file = tmp_path / name
    file.write_bytes(b"".join(_encoded(says, encoder=_ENCODERS[name]) for says in order))
    source = Source(file)
    assert len(list(islice(source, 10))) == 10, "all of the first film"
    message = r"changes its .*transfer .* at [\d.]+ s: cut the file there"
    with pytest.raises(InputError, match=message):
        next(source)
    with pytest.raises(InputError, match=message):
        enlarge(file, "out.mkv")


def _has(encoder: str) -> bool:
    listed = subprocess.run(["ffmpeg", "-v", "error", "-encoders"], capture_output=True, text=True, check=True)
    return encoder in listed.stdout


def _without_extensions(stream: bytes, *, but: int) -> bytes:
    """A stream of MPEG-2 without the display extensions after the first ``but`` ones."""
    parts = stream.split(b"\0\0\1")
    extensions = [index for index, part in enumerate(parts) if part[0:1] == b"\xb5" and part[1] >> 4 == 2]
    return b"\0\0\1".join(part for index, part in enumerate(parts) if index not in extensions[but:])


@pytest.mark.parametrize("start", [None, Fraction(6, 25)])
@pytest.mark.usefixtures("media")
def test_colors_that_mpeg2_states_once_hold_for_the_film(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, start: Fraction | None
) -> None:
    """One line says so: it may also be two films, the first of which has a single header."""
    caplog.set_level("INFO")
    file = tmp_path / "once.m2v"
    file.write_bytes(_without_extensions(_encoded("hdr", encoder=_ENCODERS["joined.m2v"]), but=1))
    frames = list(Source(file, Selection(start=start)))
    assert {frame.color.transfer for frame in frames} == {16}
    assert (len(frames) == 10) == (start is None)
    assert caplog.messages.count("once.m2v: headers do not state the colors again: read as before") == 1


@pytest.mark.parametrize(
    ("name", "joined"), [("joined.m2v", False), ("joined.m2v", True), ("joined.ts", True), ("joined.mpg", True)]
)
@pytest.mark.usefixtures("media")
def test_a_part_of_mpeg2_is_read_as_in_the_whole_film(tmp_path: Path, name: str, joined: bool) -> None:
    """Before it are the headers that tell whether its own, without colors, continue a film or begin another."""
    film = _encoded("hdr", encoder=_ENCODERS[name], seconds=4)
    rest = _encoded("silent", encoder=_ENCODERS[name].replace("-f", "-output_ts_offset 4 -f"), seconds=4)
    file = tmp_path / name
    file.write_bytes(film + rest if joined else _without_extensions(film, but=1))
    start = Fraction(13, 2) if joined else Fraction(7, 2)
    source = Source(file, Selection(start=start), keep_packets=True)
    transfers = {frame.color.transfer for frame in source}
    source.release()
    assert transfers == ({2} if joined else {16})


@pytest.mark.usefixtures("media")
def test_colors_of_mpeg2_end_with_its_sequence(tmp_path: Path) -> None:
    hdr, silent = (_encoded(says, encoder=f"{_MPEG2} -g 20 -f mpeg2video") for says in ("hdr", "silent"))
    file = tmp_path / "joined.m2v"
    file.write_bytes(hdr + b"\0\0\1\xb7" + silent)
    with pytest.raises(InputError, match=r"changes its .*transfer .* at 0\.400 s: cut the file there"):
        list(Source(file))


@pytest.mark.parametrize(("second", "why"), [("silent", "some of its headers do not state its colors"), ("hdr", "")])
@pytest.mark.usefixtures("media")
def test_mpeg2_whose_headers_depend_on_those_before_is_not_cut(tmp_path: Path, second: str, why: str) -> None:
    at = "-muxdelay 0 -muxpreload 0 -output_ts_offset"
    parts = [
        _encoded(says, encoder=f"-c:v mpeg2video -q:v 2 -g 5 -bf 0 {at} {start} -f mpegts")
        for says, start in (("hdr", 1), (second, 1.4))
    ]
    film = tmp_path / "joined.ts"
    film.write_bytes(b"".join(parts))
    plan = make_plan(str(film), Selection(), Fraction(1, 5))
    assert (plan.whole or "", len(plan.segments) > 1) == (why, not why)


@pytest.mark.usefixtures("media")
def test_yuv_is_not_read_as_the_rgb_of_another_header(enlarge: Enlarge, tmp_path: Path) -> None:
    file = tmp_path / "joined.h264"
    rgb = _encoded("silent", "gbrp", _X264.replace("libx264", "libx264rgb"))
    file.write_bytes(rgb + _encoded("silent", "yuv444p"))
    with pytest.raises(InputError, match=r"changes from RGB to YUV at 0\.400 s: cut the file there"):
        enlarge(file, "out.mkv")
