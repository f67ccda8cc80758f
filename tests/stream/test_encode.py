from __future__ import annotations

import logging
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tests import PATIENCE
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import InputError, OutputError, UsageError
from vsr_plugin.execution import Execution
from vsr_plugin.frames import ColorSpec, Frame, Matrix, Range
from vsr_plugin.models import NetworkSpec
from vsr_plugin.stream import Encoding, Progress, Selection, Source, default_output, upscale_file
from vsr_plugin.stream.containers.loop import read_plays
from vsr_plugin.stream.encode import encode
from vsr_plugin.stream.encoder import check_encoding
from vsr_plugin.stream.encoding import DEFAULTS, encoder_options
from vsr_plugin.stream.written import Written

from .conftest import FAST, Make, Media, Nearest, frame_times, probe, video

Enlarge = Callable[..., Path]


def test_a_lossless_copy_holds_exactly_the_enlarged_samples(media: Media, enlarge: Enlarge, nearest: Upscaler) -> None:
    before = media("lossless.mkv")
    after = enlarge(before, "out.mkv", encoding=Encoding(codec="ffv1"))
    expected = nearest.upscale(list(Source(before)))
    got = list(Source(after))
    assert len(got) == len(expected) == 12
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.color == theirs.color
        assert all(np.array_equal(a, b) for a, b in zip(ours.planes, theirs.planes, strict=True))


def test_the_picture_is_tagged_as_it_was_read(media: Media, enlarge: Enlarge) -> None:
    keys = ("color_space", "color_primaries", "color_transfer", "color_range", "chroma_location")
    before, after = media("plain.mp4"), enlarge(media("plain.mp4"), "out.mp4")
    assert [video(after).get(key) for key in keys] == [video(before).get(key) for key in keys]
    untagged = enlarge(media("vfr.mp4"), "vfr.mp4")  # or a player would read the larger picture as BT.709
    assert (video(untagged)["color_space"], video(untagged)["color_range"]) == ("smpte170m", "tv")


def test_progress_tells_frames_and_the_time_left(media: Media, enlarge: Enlarge) -> None:
    told: list[Progress] = []
    enlarge(media("lossless.mkv"), "out.mkv", on_progress=told.append)
    assert [now.frame for now in told] == list(range(1, 13))
    assert {now.total for now in told} == {12}
    assert told[0].eta is None
    assert told[-1].eta == 0
    middle = told[5]
    assert middle.eta is not None
    assert middle.eta * middle.fps == pytest.approx(6)


def test_an_encoding_may_be_an_encoders_name(media: Media, enlarge: Enlarge) -> None:
    assert video(enlarge(media("lossless.mkv"), "out.mkv", encoding="ffv1"))["codec_name"] == "ffv1"


@pytest.mark.parametrize(("matrix", "color_range"), [("bt709", "full"), ("bt601", "limited"), ("bt2020nc", "full")])
def test_named_colors_are_what_ffmpeg_makes_of_them(
    media: Media, enlarge: Enlarge, tmp_path: Path, matrix: str, color_range: str
) -> None:
    """A film is tagged so, and a picture has the RGB that FFmpeg's own conversion gives."""
    source = tmp_path / "untagged.mkv"
    to_yuv = ["-vf", "format=yuv444p", "-frames:v", "1", "-c:v", "ffv1"]
    subprocess.run(["ffmpeg", "-v", "error", "-i", media("plain.mp4"), *to_yuv, source], check=True)
    named = {"matrix": matrix, "range": color_range}
    film = video(enlarge(source, "film.mkv", **named))
    names = {"bt601": "smpte170m", "limited": "tv", "full": "pc"}
    assert (film["color_space"], film["color_range"]) == (names.get(matrix, matrix), names[color_range])
    spec = NetworkSpec(name="identity", overlap={1: 0})
    with Upscaler.from_module(Nearest(1), spec, 1, Execution(backend="eager", device="cpu")) as identity:
        upscale_file(source, tmp_path / "ours.png", identity, Selection(**named), encoding=Encoding())  # type: ignore[arg-type]
    scale = f"scale=in_color_matrix={matrix}:in_range={color_range}:flags=accurate_rnd+full_chroma_int,format=rgb24"
    picture = tmp_path / "ffmpeg.png"
    subprocess.run(["ffmpeg", "-v", "error", "-i", source, "-vf", scale.replace("0nc", "0"), picture], check=True)
    ours, theirs = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB"), int) for name in ("ours", "ffmpeg"))
    assert np.abs(ours - theirs).max() <= 1


def test_aspect_ratio_survives(media: Media, enlarge: Enlarge) -> None:
    assert video(enlarge(media("wide.mp4"), "out.mp4"))["sample_aspect_ratio"] == "32:27"


def test_aspect_ratio_survives_y4m(media: Media, enlarge: Enlarge) -> None:
    through = enlarge(media("wide.mp4"), "out.y4m", encoding=Encoding(), frames=1)
    assert through.read_bytes().partition(b"\n")[0].split()[5] == b"A32:27"
    assert video(enlarge(through, "back.mkv"))["sample_aspect_ratio"] == "32:27"


def test_an_aspect_ratio_without_a_place_is_said(
    media: Media, enlarge: Enlarge, caplog: pytest.LogCaptureFixture
) -> None:
    enlarge(media("wide.mp4"), "ffv1.avi", encoding=Encoding(codec="ffv1"), frames=1)
    assert "dropping the pixel aspect ratio 32:27: it cannot be stated in avi with ffv1" in caplog.text
    caplog.clear()
    for name, codec in (("out.mp4", "libsvtav1"), ("out.avi", "mpeg4")):  # in the header, and in the bitstream
        after = enlarge(media("wide.mp4"), name, encoding=Encoding(codec=codec), frames=1)
        assert video(after)["sample_aspect_ratio"] == "32:27"
    assert "aspect" not in caplog.text


def test_every_picture_says_its_colors(media: Media, enlarge: Enlarge) -> None:
    after = enlarge(media("plain.mp4"), "out.mov", encoding=Encoding(codec="prores_ks"), frames=1)
    keys = ("color_space", "color_primaries", "color_transfer", "color_range")
    assert [video(after)[key] for key in keys] == ["bt709", "bt709", "bt709", "tv"]


def test_ten_bits_get_a_ten_bit_encoder(media: Media, enlarge: Enlarge) -> None:
    found = video(enlarge(media("ten.mp4"), "out.mp4"))
    assert (found["codec_name"], found["pix_fmt"]) == ("hevc", "yuv420p10le")
    found = video(enlarge(media("ten.mp4"), "out.webm", encoding=Encoding(preset="12"), frames=2))
    assert (found["codec_name"], found["pix_fmt"]) == ("av1", "yuv420p10le")


def test_odd_sizes_stay_where_the_encoder_takes_them(make: Make, tmp_path: Path) -> None:
    odd = make(
        "-f lavfi -i testsrc2=s=192x144:d=0.1,format=gbrp,crop=161:121 -pix_fmt yuv420p -c:v libvpx-vp9", "odd.webm"
    )
    for codec, kind, size in (
        ("ffv1", "mkv", (483, 363)),
        ("ffvhuff", "nut", (484, 363)),
        ("libx264", "mkv", (484, 364)),
    ):
        with Upscaler.from_module(
            _Times3(), NetworkSpec(name="nearest", overlap={3: 0}), 3, Execution(backend="eager", device="cpu")
        ) as three:
            output = tmp_path / f"{codec}.{kind}"
            report = upscale_file(odd, output, three, Selection(frames=2), encoding=Encoding(codec=codec))
        assert (report.width, report.height) == size
        assert (video(output)["width"], video(output)["height"]) == size


class _Times3(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(3, 2).repeat_interleave(3, 3)


@pytest.mark.parametrize(
    ("codec", "name", "options", "pix_fmt"),
    [
        ("libx265", "out.mkv", {}, "yuv420p"),
        ("libsvtav1", "out.mp4", {"preset": "12"}, "yuv420p"),
        ("libvpx-vp9", "out.webm", {"cpu-used": "8"}, "yuv420p"),
        ("prores_ks", "out.mov", {}, "yuv422p10le"),
        ("mpeg2video", "out.mkv", {"b": "2000000"}, "yuv420p"),
        ("mpeg4", "out.avi", {"b": "2000000"}, "yuv420p"),
    ],
)
def test_other_encoders(
    media: Media, enlarge: Enlarge, codec: str, name: str, options: dict[str, str], pix_fmt: str
) -> None:
    after = enlarge(media("plain.mp4"), name, encoding=Encoding(codec=codec, options=options), frames=5)
    assert video(after)["pix_fmt"] == pix_fmt
    assert len(frame_times(after)) == 5


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        ("libx264", "mp4"), ("vp8", "webm"), ("mpeg4", "mp4"), ("mpeg2video", "mpg"), ("mpeg1video", "mpg"),
        ("wmv2", "asf"), ("msmpeg4", "avi"), ("flv", "flv"), ("mjpeg", "mkv"),
    ],
)  # fmt: skip
def test_every_encoder_keeps_the_picture_unless_told_otherwise(
    tmp_path: Path, enlarge: Enlarge, nearest: Upscaler, codec: str, suffix: str
) -> None:
    """PSNR, as FFmpeg's filter measures it; the frames move, have noise in them, and are of twice the size."""
    source, truth = tmp_path / "source.mkv", tmp_path / "truth.mkv"
    moving = "testsrc2=size=160x96:rate=25:duration=0.4,noise=alls=6:allf=t,format=yuv420p"
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", moving, "-c:v", "ffv1", source], check=True)
    enlarge(source, truth.name, encoding=Encoding(codec="ffv1"))
    after = enlarge(source, f"after.{suffix}", encoding=Encoding(codec=codec))
    settb = "[0:v]settb=1/25,setpts=N[a];[1:v]settb=1/25,setpts=N[b];[a][b]psnr"
    command = ["ffmpeg", "-i", str(after), "-i", str(truth), "-lavfi", settb, "-f", "null", "-"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    (psnr,) = re.findall(r"PSNR y:([\d.]+)", said)
    assert float(psnr) > 40


@pytest.mark.parametrize(
    ("name", "codec"),
    [("h264", "libx264"), ("hevc", "libx265"), ("av1", "libsvtav1"), ("vp9", "libvpx-vp9"), ("vp8", "libvpx")],
)
def test_a_codec_by_its_own_name_is_the_same_to_the_byte(
    media: Media, enlarge: Enlarge, capfd: pytest.CaptureFixture[str], name: str, codec: str
) -> None:
    short = (
        _packets(enlarge(media("plain.mp4"), f"{each}.mkv", encoding=Encoding(each), frames=3))
        for each in (name, codec)
    )
    assert len(set(short)) == 1
    assert capfd.readouterr().err == ""


def _packets(file: Path) -> str:
    command = ["ffmpeg", "-v", "error", "-i", str(file), "-map", "0:v", "-c", "copy", "-f", "md5", "-"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_all_encoders_of_a_codec_that_run_anywhere_have_a_default_quality_or_none_has() -> None:
    """prores and prores_ks have none: they do not need any."""
    quality: dict[str, set[bool]] = {}
    for known in av.codecs_available:
        with suppress(ValueError):
            codec = av.Codec(known, "w")
            if codec.type == "video" and not re.search(r"_(amf|qsv|v4l2m2m|vaapi|videotoolbox|mf)$", codec.name):
                quality.setdefault(codec.canonical_name, set()).add(bool(DEFAULTS.get(codec.name)))
    assert {name for name, found in quality.items() if len(found) > 1} == set()


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", "mp4"), ("vp8", "webm"), ("mpeg4", "mp4"), ("vp9", "webm")])
def test_a_bit_rate_takes_the_place_of_the_default_quality(
    media: Media, enlarge: Enlarge, codec: str, suffix: str
) -> None:
    by_quality = enlarge(media("plain.mp4"), f"quality.{suffix}", encoding=Encoding(codec=codec))
    by_rate = enlarge(media("plain.mp4"), f"rate.{suffix}", encoding=Encoding(codec=codec, options={"b": "20000"}))
    assert _video_bytes(by_rate) < _video_bytes(by_quality) / 2


@pytest.mark.parametrize(
    ("codec", "asked", "kept"),
    [
        ("libx264", {"qmin": "4"}, {"crf": "17"}),
        ("libx264", {"qp": "20"}, {}),
        ("mjpeg", {"qmin": "1"}, {"qmax": "2"}),
        ("libvpx", {"crf": "20"}, {"b": "1G"}),
        ("h264_nvenc", {"rc": "constqp"}, {"cq": "19"}),
        ("h264_nvenc", {"b": "2M"}, {}),
    ],
)
def test_of_the_default_quality_only_what_contradicts_an_option_is_left_out(
    codec: str, asked: dict[str, str], kept: dict[str, str]
) -> None:
    options = encoder_options(codec, Encoding(codec, options=asked), {}, "yuv420p")
    about = {"b", "cq", "crf", "qmax", "qmin", "qp", "rc"}
    found = {key: value for key, value in options.items() if key in about and key not in asked}
    assert found == kept | ({"rc": "vbr"} if codec == "h264_nvenc" and not asked.keys() & {"b", "rc"} else {})


def _video_bytes(path: Path) -> int:
    with av.open(str(path)) as file:
        return sum(packet.size for packet in file.demux(video=0))


def test_image_sequences_and_single_pictures(media: Media, enlarge: Enlarge, tmp_path: Path) -> None:
    enlarge(media("plain.mp4"), "frame_%03d.png", encoding=Encoding(), frames=3)
    names = [f"frame_{index:03d}.png" for index in (1, 2, 3)]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    with pytest.raises(OutputError, match="exists"):
        enlarge(media("plain.mp4"), "frame_%03d.png", encoding=Encoding(), frames=3)
    film = enlarge(tmp_path / "frame_%03d.png", "film.mkv", encoding=Encoding(codec="ffv1"), frame_rate=Fraction(10))
    assert frame_times(film) == ["0.000000", "0.100000", "0.200000"]
    picture = enlarge(media("cover.png"), "one.png", encoding=Encoding())
    assert (video(picture)["width"], video(picture)["pix_fmt"]) == (128, "rgb24")
    photo = enlarge(media("cover.png"), "one.jpg", encoding=Encoding())
    assert video(photo)["codec_name"] == "mjpeg"
    frame = next(Source(photo))
    reds = frame.planes[2].mean()  # Cr of pure red, full range
    assert abs(reds - 255) <= 3


def test_a_film_is_not_one_picture(media: Media, nearest: Upscaler, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"use frames=1, or use output='out_%04d\.png'"):
        upscale_file(media("plain.mp4"), tmp_path / "out.png", nearest)
    assert list(tmp_path.iterdir()) == []


def test_sound_left_out_of_pictures_is_said(media: Media, enlarge: Enlarge, caplog: pytest.LogCaptureFixture) -> None:
    enlarge(media("two_audio.mp4"), "out.y4m", encoding=Encoding())
    assert "two_audio.mp4: dropping 2 audio streams: .y4m holds images only" in caplog.messages
    with pytest.raises(OutputError, match="2 audio streams would be lost"):
        enlarge(media("two_audio.mp4"), "strict.y4m", encoding=Encoding(), strict=True)


def test_a_file_that_comes_to_exist_meanwhile_stays(media: Media, nearest: Upscaler, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"

    def meddle(done: Progress) -> None:
        if done.written.frames == 3:
            target.write_text("precious")

    upscale_file(media("plain.mp4"), target, nearest, encoding=FAST, on_progress=meddle)
    assert target.read_text() == "precious"
    assert len(frame_times(tmp_path / "out-1.mp4")) == 38


@pytest.mark.parametrize(("name", "pix_fmt"), [("ten.mp4", "yuv420p10le"), ("cover.png", "yuv444p")])
def test_y4m_takes_every_depth_and_rgb(media: Media, enlarge: Enlarge, name: str, pix_fmt: str) -> None:
    after = enlarge(media(name), "out.y4m", encoding=Encoding())
    assert video(after)["pix_fmt"] == pix_fmt
    assert len(frame_times(after)) == len(frame_times(media(name)))


def test_a_pattern_is_not_its_own_output(media: Media, nearest: Upscaler, tmp_path: Path) -> None:
    shutil.copy(media("cover.png"), tmp_path / "f_1.png")
    before = (tmp_path / "f_1.png").read_bytes()
    with pytest.raises(UsageError, match="name another output"):
        upscale_file(tmp_path / "f_%d.png", tmp_path / "f_%d.png", nearest, overwrite=True)
    assert (tmp_path / "f_1.png").read_bytes() == before


@pytest.mark.parametrize("color_range", [Range.LIMITED, Range.FULL])
@pytest.mark.parametrize("pix_fmt", ["gbrp", "yuv444p", "yuv420p"])
def test_white_stays_white_in_every_range(media: Media, tmp_path: Path, color_range: Range, pix_fmt: str) -> None:
    source = Source(media("lossless.mkv"))
    limited = color_range is Range.LIMITED
    white = np.full((32, 32), 235 if limited else 255, np.uint8)
    color = ColorSpec(matrix=Matrix.RGB, range=color_range)
    frame = Frame((white, white, white), 0, Fraction(1, 25), 1, color)
    encoding = Encoding(codec="libx265", options={"x265-params": "lossless=1"}, pixel_format=pix_fmt)
    encode(iter([frame]), tmp_path / "out.mkv", source, encoding)
    after = next(Source(tmp_path / "out.mkv"))
    expected = 255 if pix_fmt == "gbrp" and not limited else 235
    assert set(after.planes[0].flatten().tolist()) == {expected}
    assert after.color.range is (color_range if pix_fmt == "gbrp" else Range.LIMITED)


_TWO_FRAMES = """
import sys
import threading
import time
from vsr_plugin.stream import Encoding, Source
from vsr_plugin.stream.encode import encode
source = Source(sys.argv[1])
encode((next(source) for _ in range(2)), sys.argv[2], source, Encoding(codec="libx265"))
"""


def test_two_frames_of_hevc_have_times_whatever_the_memory_held(media: Media, tmp_path: Path) -> None:
    command = (sys.executable, "-c", _TWO_FRAMES, media("lossless.mkv"), tmp_path / "out.mkv")
    subprocess.run(command, env={**os.environ, "MALLOC_PERTURB_": "1"}, check=True)  # glibc fills memory with it
    assert frame_times(tmp_path / "out.mkv") == frame_times(media("lossless.mkv"))[:2]


@pytest.mark.parametrize(
    ("output", "encoding", "said"),
    [
        ("out.swf", Encoding("flv"), r"at 0\.000 s: swf refuses it \(Invalid \(too large\) frame rate"),
        ("out.mkv", Encoding("vc2", options={"b": "1"}), r"at 0\.000 s: vc2 refuses it \(Invalid argument\)"),
    ],
)
def test_what_encoder_and_muxer_refuse_has_a_time_and_a_cause(
    make: Make, enlarge: Enlarge, capfd: pytest.CaptureFixture[str], output: str, encoding: Encoding, said: str
) -> None:
    film = make("-f lavfi -i testsrc2=s=176x144:r=25:d=0.2 -c:v libx264 -preset ultrafast", "in.mp4")
    with pytest.raises(OutputError, match=f"^Cannot write {re.escape(output)} {said}"):
        enlarge(film, output, encoding=encoding, frames=1)
    assert capfd.readouterr().err == ""


def test_a_shape_of_pixels_that_is_rounded_is_said(
    make: Make, enlarge: Enlarge, caplog: pytest.LogCaptureFixture
) -> None:
    """MPEG-4 has eight bits for each side."""
    film = make("-f lavfi -i testsrc2=s=64x48:r=25:d=0.2 -vf setsar=304/243:max=1000 -c:v libx264", "in.mp4")
    caplog.set_level(logging.INFO)
    after = enlarge(film, "out.asf", encoding=Encoding("mpeg4"))
    stated = video(after)["sample_aspect_ratio"]
    assert stated != "304:243"
    assert f"out.asf: pixels of 304:243 are {stated}, as asf rounds it" in caplog.messages
    caplog.clear()
    enlarge(film, "out.mkv", encoding=Encoding("mpeg4"))
    assert "pixels of" not in caplog.text


def test_vc2_has_a_bit_rate(make: Make, enlarge: Enlarge) -> None:
    film = make("-f lavfi -i testsrc2=s=176x144:r=25:d=0.2 -c:v ffv1", "in.mkv")
    after, lossless = (enlarge(film, f"{name}.mkv", encoding=Encoding(name)) for name in ("vc2", "ffv1"))
    assert video(after)["codec_name"] == "dirac"
    command = ["ffmpeg", "-i", str(after), "-i", str(lossless), "-lavfi", "psnr", "-f", "null", "-"]
    said = subprocess.run(command, capture_output=True, check=True, text=True).stderr
    assert float(re.findall(r"min:(\S+)", said)[-1]) > 50


@pytest.mark.parametrize("pix_fmt", ["yuv422p", "yuv422p10le", "yuv444p10le", "gbrp10le"])
def test_dnxhd_takes_every_size(make: Make, enlarge: Enlarge, pix_fmt: str) -> None:
    film = make(f"-f lavfi -i testsrc2=s=140x90:d=0.1 -pix_fmt {pix_fmt} -c:v ffv1", "in.mkv")
    after = enlarge(film, "out.mov", encoding=Encoding("dnxhd"), frames=2)
    assert (video(after)["codec_name"], video(after)["pix_fmt"]) == ("dnxhd", pix_fmt)


def test_svt_av1_is_quiet_and_the_environment_is_as_before(
    media: Media, enlarge: Enlarge, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SVT_LOG", raising=False)
    enlarge(media("plain.mp4"), "out.mkv", encoding=Encoding("libsvtav1", preset="12"), frames=1)
    assert capfd.readouterr().err == ""
    assert "SVT_LOG" not in os.environ


def test_transparency_survives_or_is_said(enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip = tmp_path / "transparent.webm"
    words = ["-f", "lavfi", "-i", "color=red@0.4:s=64x48:d=0.2,format=yuva420p", "-c:v", "libvpx-vp9", "-cpu-used", "8"]
    colors = ["-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709"]
    subprocess.run(["ffmpeg", "-v", "error", *words, *colors, clip], check=True)
    before = next(Source(clip))
    assert before.has_alpha
    film = enlarge(clip, "out.webm", encoding=Encoding(options={"cpu-used": "8"}), frames=2)
    after = next(Source(film))
    assert abs(after.planes[3].mean() - before.planes[3].mean()) < 1
    assert (video(film)["color_primaries"], video(film)["color_transfer"]) == ("bt709", "bt709")
    enlarge(clip, "out.mp4", frames=2)
    assert "transparent.webm: dropping the transparency: libx264 takes none in yuv420p" in caplog.messages


def test_a_quality_beyond_the_scale_is_refused(media: Media, enlarge: Enlarge) -> None:
    with pytest.raises(UsageError, match="a CRF of 0 to 51 for libx26"):
        enlarge(media("plain.mp4"), "out.mp4", encoding=Encoding(crf=99))


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        (Encoding("libx264", crf=-4), "Expected a CRF of 0 to 51 for libx264, got -4"),
        (Encoding("libvpx-vp9", crf=20.5), "Expected a CRF in whole numbers for libvpx-vp9, got 20.5"),
        (
            Encoding("libx264", options={"tune": "foo"}),
            "Encoder libx264 has no tune 'foo'. Its tunes: film, ",
        ),
        (Encoding("libx265", options={"profile": "foo"}), "Encoder libx265 has no profile 'foo'. Its profiles: main, "),
        (
            Encoding(options={"crf": "-4"}),
            "Expected option crf of encoder libx264 to be a number of -1 or m",
        ),
        (Encoding(options={"g": "foo"}), "Expected option g of encoder libx264 to be a number, got 'foo'"),
        (
            Encoding(options={"threads": "-7"}),
            "Expected option threads of encoder libx264 to be auto, a number of ",
        ),
        (
            Encoding(options={"aq-mode": "foo"}),
            "Expected option aq-mode of encoder libx264 to be none, varia",
        ),
        (
            Encoding("libsvtav1", preset="slow"),
            "Expected option preset of encoder libsvtav1 to be a number of -2 to 1",
        ),
        (
            Encoding("h264_nvenc", preset="foo"),
            "Expected option preset of encoder h264_nvenc to be slow, medium, ",
        ),
        (Encoding(options={"x264-params": "foo=1"}), "Encoder libx264: Error parsing option 'foo = 1'"),
    ],
)
def test_what_an_encoder_would_take_is_said(
    capfd: pytest.CaptureFixture[str], encoding: Encoding, message: str
) -> None:
    with pytest.raises(UsageError) as error:
        check_encoding(".mkv", encoding)
    assert str(error.value).startswith(message)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("options", [{"tune": "grain,fastdecode"}, {"profile": "high"}, {"preset": "3"}, {"crf": "0"}])
def test_what_an_encoder_takes_is_not_refused(options: dict[str, str]) -> None:
    check_encoding(".mkv", Encoding("libx264", options=options))


def test_no_number_is_no_quality() -> None:
    with pytest.raises(UsageError, match="Expected crf to be a number, got nan"):
        Encoding(crf=float("nan"))


def test_nothing_is_overwritten_unasked(media: Media, enlarge: Enlarge, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_text("precious")
    with pytest.raises(OutputError, match="use overwrite=True"):
        enlarge(media("plain.mp4"), "out.mp4")
    assert (tmp_path / "out.mp4").read_text() == "precious"
    enlarge(media("plain.mp4"), "out.mp4", overwrite=True)
    assert len(frame_times(tmp_path / "out.mp4")) == 38


def test_the_input_is_never_its_own_output(media: Media, nearest: Upscaler, tmp_path: Path) -> None:
    copy = shutil.copy(media("plain.mp4"), tmp_path)
    with pytest.raises(UsageError, match="name another output"):
        upscale_file(copy, copy, nearest, overwrite=True)
    assert Path(copy).read_bytes() == media("plain.mp4").read_bytes()


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        (Encoding(codec="libfoo"), "Unknown encoder 'libfoo': expected"),
        (Encoding(codec="h265"), "Unknown encoder 'h265'. Did you mean 'libx265'?"),
        (Encoding(codec="H.264"), "Unknown encoder 'H.264'. Did you mean 'h264'?"),
        (Encoding(codec="libvpx-vp8"), "Did you mean 'libvpx"),
        (Encoding(codec="aac"), "Expected a video encoder, got 'aac'"),
        (Encoding(options={"foo": "1"}), "has no option 'foo'$"),
        (Encoding(options={"crff": "1"}), "has no option 'crff'. Did you mean 'crf'"),
        (Encoding(preset="glacial"), "no preset .glacial."),
        (Encoding(options={"x264-params": "foo=1"}), "foo"),
        (Encoding(crf=-700), "a CRF of 0 to 51"),
        (Encoding(pixel_format="yuv410p"), "It takes: yuv420p"),
        (Encoding(codec="mpeg2video", crf=3), "has no option 'crf'"),
    ],
)
def test_what_the_encoder_does_not_know_is_an_error(
    media: Media, nearest: Upscaler, tmp_path: Path, encoding: Encoding, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        upscale_file(media("plain.mp4"), tmp_path / "out.mp4", nearest, encoding=encoding)
    assert list(tmp_path.iterdir()) == []


def test_sizes_beyond_the_encoder_are_refused(media: Media, tmp_path: Path) -> None:
    source = Source(media("plain.mp4"))
    frame = next(source)
    huge = replace(
        frame,
        planes=tuple(np.zeros(shape, np.uint8) for shape in ((32, 17000), (16, 8500), (16, 8500))),
    )
    with pytest.raises(OutputError, match="17000×32"):
        encode(iter([huge]), tmp_path / "out.mp4", source, Encoding())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("codec", "options", "size", "reason"),
    [
        ("ffv1", {}, (2, 64), ""),
        ("h263", {}, (100, 60), r"\(The specified picture size"),
        ("dnxhd", {}, (200, 100), r"\(Input dimensions too small"),
        ("dnxhd", {"b": "36M"}, (640, 360), ""),
        ("libx265", {"preset": "ultrafast"}, (8194, 16), ""),
        ("libx264", {"preset": "ultrafast"}, (16386, 16), r"\(invalid width x height"),
        ("libsvtav1", {"preset": "12"}, (16386, 64), "at most 16384×8704"),
        ("libsvtav1", {"preset": "12"}, (64, 8706), "at most 16384×8704"),
        ("libvpx", {}, (16386, 16), "at most 16383×16383"),
        ("libwebp", {}, (16386, 16), "at most 16383×16383"),
    ],
)
def test_a_size_that_is_refused_is_not_blamed_on_the_options(
    media: Media,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    codec: str,
    options: dict[str, str],
    size: tuple[int, int],
    reason: str,
) -> None:
    monkeypatch.setattr(logging.getLogger("vsr_plugin"), "handlers", [])
    width, height = size
    kind = {"dnxhd": "mov", "h263": "avi"}.get(codec, "mkv")
    source = Source(media("plain.mp4"))
    chroma = np.zeros((height // 2, width // 2), np.uint8)
    frame = replace(next(source), planes=(np.zeros((height, width), np.uint8), chroma, chroma))
    with pytest.raises(OutputError, match=f"{width}×{height}") as raised:
        encode(iter([frame]), tmp_path / f"out.{kind}", source, Encoding(codec, options=options))
    assert re.search(reason, str(raised.value))
    assert capfd.readouterr().err == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("suffix", "encoding", "message"),
    [
        (".jpg", Encoding(options={"foo": "1"}), "has no option 'foo'"),
        (".jpg", Encoding(options={"qmax": "foo"}), "qmax"),
        (".mov", Encoding("dnxhd", options={"foo": "1"}), "has no option 'foo'"),
        (".mov", Encoding("dnxhd", options={"profile": "foo"}), "profile"),
        (".avi", Encoding("h263", options={"foo": "1"}), "has no option 'foo'"),
        (".avi", Encoding("h261", options={"foo": "1"}), "has no option 'foo'"),
        (".mkv", Encoding("libx264", options={"profile": "foo"}), "profile"),
        (".mkv", Encoding("libx264", options={"profile": "baseline"}, pixel_format="yuv444p"), "profile=baseline"),
        (".png", Encoding("mpeg2video"), r"Expected encoder png for a \.png file, got mpeg2video"),
        (".y4m", Encoding("libx264"), r"Expected encoder rawvideo for a \.y4m file, got libx264"),
    ],
)
def test_options_are_tried_with_a_size_and_a_format_that_the_encoder_takes(
    suffix: str, encoding: Encoding, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        check_encoding(suffix, encoding)


@pytest.mark.parametrize(
    "encoding",
    [
        Encoding("dnxhd"),
        Encoding("dnxhd", options={"b": "36M"}),
        Encoding("dnxhd", options={"profile": "dnxhr_hqx"}),
        Encoding("libx265", options={"profile": "main10"}),
        Encoding("libx264", options={"profile": "high422"}),
        Encoding("prores_ks", options={"profile": "4444"}),
        Encoding("mjpeg"),
        Encoding("h263"),
    ],
)
def test_options_for_some_size_or_format_are_not_refused(encoding: Encoding) -> None:
    check_encoding(".mov", encoding)


@pytest.mark.parametrize(
    ("suffix", "codec", "message"),
    [
        (".foo", None, "Cannot write a .foo file: expected a name that ends in .mp4"),
        (".txt", None, "Cannot write a .txt file"),
        (".gif", None, "does not list libx264 for gif"),
        (".ogv", None, "does not list libx264 for ogv"),  # its muxer says so with the header
        (".swf", None, "does not list libx264 for swf"),
        (".webm", "libx264", "does not list libx264 for webm"),
        (".flv", "prores_ks", "does not list prores_ks for flv"),
        (".ts", "dnxhd", "mpegts could hold what dnxhd makes, but players could not read it there"),
        (".mpg", "h263", "mpeg could hold what h263 makes, but players could not read it there"),
        (".ts", "h261", "mpegts could hold what h261 makes, but players could not read it there"),
        (".ts", "libvpx-vp9", "mpegts could hold what libvpx-vp9 makes, but players could not read it there"),
        (".m2ts", "ffv1", "mpegts could hold what ffv1 makes"),
        (".mpg", "png", "mpeg could hold what png makes"),
        (".mov", "rawvideo", "mov could hold what rawvideo makes"),
    ],
)
def test_a_container_that_does_not_hold_the_encoders_codec_is_said_before_any_frame(
    suffix: str, codec: str | None, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OutputError, match=message):
        check_encoding(suffix, Encoding(codec))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".flv", ".nut", ".y4m", ".png", ".mxf"]
)
def test_containers_that_hold_the_default_codec_are_taken(suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    check_encoding(suffix, Encoding())
    assert capfd.readouterr().err == ""


def test_what_players_read_depends_on_the_pixel_format() -> None:
    check_encoding(".mov", Encoding("rawvideo", pixel_format="rgb24"))


@pytest.mark.parametrize("codec", ["libsvtav1", "libx265"])
def test_sizes_below_the_encoder_are_refused(media: Media, tmp_path: Path, codec: str) -> None:
    source = Source(media("plain.mp4"))
    shapes = ((8, 8), (4, 4), (4, 4))
    tiny = replace(next(source), planes=tuple(np.zeros(shape, np.uint8) for shape in shapes))
    with pytest.raises(OutputError, match="Expected at least 16×16 pixels"):
        encode(iter([tiny]), tmp_path / "out.mkv", source, Encoding(codec))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "message"), [("out.foo", "expected a name"), ("no/out.mp4", "No such folder")])
def test_impossible_places_are_refused(
    media: Media, nearest: Upscaler, tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(OutputError, match=message):
        upscale_file(media("plain.mp4"), tmp_path / name, nearest)
    assert list(tmp_path.iterdir()) == []


def test_a_codec_that_the_container_lacks_is_refused(media: Media, nearest: Upscaler, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not list prores_ks for"):
        upscale_file(media("plain.mp4"), tmp_path / "out.mp4", nearest, encoding=Encoding(codec="prores_ks"))
    assert list(tmp_path.iterdir()) == []


def test_an_error_midway_leaves_nothing(media: Media, tmp_path: Path) -> None:
    closed = []

    def breaking(source: Iterator[Frame]) -> Iterator[Frame]:
        try:
            for index, frame in enumerate(source):
                if index == 5:
                    raise InputError("broken here")
                yield frame
        finally:
            closed.append(True)

    source = Source(media("plain.mp4"))
    with pytest.raises(InputError, match="broken here"):
        encode(breaking(source), tmp_path / "out.mp4", source, FAST)
    assert list(tmp_path.iterdir()) == []
    assert closed == [True]


@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("name", ["out.mkv", "out_%d.png"])
def test_a_folder_that_is_moved_or_deleted_midway_is_named(
    media: Media, tmp_path: Path, name: str, *, deleted: bool
) -> None:
    folder, frames = tmp_path / "there", []
    folder.mkdir()

    def move(written: Written) -> None:
        frames.append(written.frames)
        if deleted:
            shutil.rmtree(folder)
        else:
            folder.rename(tmp_path / "elsewhere")

    source = Source(media("plain.mp4"))
    with pytest.raises(OutputError, match=f"there was moved or deleted while {name} was written to it"):
        encode(source, folder / name, source, Encoding(), on_frame=move)
    assert frames == [1], "it is noticed at the next frame"
    assert [file for file in tmp_path.rglob("*") if file != tmp_path / "elsewhere"] == []


@pytest.mark.parametrize("error", [ConnectionResetError, BrokenPipeError, PermissionError])
@pytest.mark.parametrize("place", ["source", "callback"])
def test_errors_of_source_and_callback_keep_their_kind(
    media: Media, tmp_path: Path, error: type[OSError], place: str
) -> None:
    source = Source(media("plain.mp4"))

    def frames() -> Iterator[Frame]:
        yield next(source)
        if place == "source":
            raise error("mine")
        yield from source

    def callback(_: object) -> None:
        if place == "callback":
            raise error("mine")

    with pytest.raises(error, match="mine"):
        encode(frames(), tmp_path / "out.mp4", source, FAST, on_frame=callback)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stdin", [False, True])
def test_an_error_does_not_wait_for_a_pipe_that_is_silent(
    make: Make, nearest: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stdin: bool
) -> None:
    frames = make("-f lavfi -i testsrc2=s=64x48:r=25:d=1 -pix_fmt yuv420p", "a.y4m").read_bytes()
    pipe, over = tmp_path / "pipe", threading.Event()
    os.mkfifo(pipe)

    def feed() -> None:
        with pipe.open("wb") as file:
            file.write(frames)
            file.flush()
            over.wait(PATIENCE)

    def fail(done: Progress) -> None:
        if done.written.frames == 22:  # of 25: the others wait for the network, and the reader for more
            raise ValueError("mine")

    feeder = threading.Thread(target=feed)
    feeder.start()
    with pipe.open("rb") as opened:
        if stdin:
            monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=opened))
        began = time.monotonic()
        with pytest.raises(ValueError, match="mine"):
            upscale_file("-" if stdin else pipe, tmp_path / "out.mkv", nearest, encoding=FAST, on_progress=fail)
        assert time.monotonic() - began < 50, "it has waited until nobody held the pipe any more"
        over.set()
    feeder.join()


@pytest.mark.parametrize("stdin", [False, True])
def test_a_full_disk_does_not_wait_for_a_pipe_that_is_silent(
    make: Make, nearest: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stdin: bool
) -> None:
    frames = make("-f lavfi -i testsrc2=s=64x48:r=25:d=1 -pix_fmt yuv420p", "a.y4m").read_bytes()
    over = threading.Event()
    reading, writing = os.pipe()

    def feed() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(frames)
            file.flush()
            over.wait(PATIENCE)

    most, limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    feeder = threading.Thread(target=feed)
    feeder.start()
    with os.fdopen(reading, "rb") as opened:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=opened))
        film: str | Path = "-" if stdin else f"/dev/fd/{reading}"
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit))  # bytes of a file; FFmpeg writes 256 KiB at a time
        began = time.monotonic()
        try:
            with pytest.raises(OutputError, match=r"Cannot write out\.avi: File too large"):
                upscale_file(film, tmp_path / "out.avi", nearest, encoding=Encoding("rawvideo"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, limit))
        assert time.monotonic() - began < 50, "it has waited until nobody held the pipe any more"
        over.set()
    feeder.join()
    assert list(tmp_path.glob("*out*")) == []


def test_a_full_disk_is_one_error(media: Media, nearest: Upscaler, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        with pytest.raises(OutputError, match="No space left"):
            upscale_file(media("plain.mp4"), small / "out.mp4", nearest, encoding=Encoding(preset="ultrafast", crf=0))
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_progress_counts_every_frame(media: Media, nearest: Upscaler, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []

    def note(done: Progress) -> None:
        seen.append((done.written.frames, done.expected_frames))

    report = upscale_file(media("plain.mp4"), tmp_path / "out.mp4", nearest, encoding=FAST, on_progress=note)
    assert seen == [(index, 38) for index in range(1, 39)]
    assert (report.frames, report.width, report.height, report.damaged) == (38, 192, 108, 0)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(duration=Fraction(1, 2)),
        Selection(start=Fraction(51, 100), duration=Fraction(51, 100)),
        Selection(start=Fraction(1, 3)),
        Selection(start=Fraction(6, 5)),
    ],
)
def test_the_total_is_known_from_the_first_frame_on(
    selection: Selection, media: Media, nearest: Upscaler, tmp_path: Path
) -> None:
    totals: list[int | None] = []
    report = upscale_file(
        media("plain.mp4"),
        tmp_path / "out.mp4",
        nearest,
        selection,
        encoding=FAST,
        on_progress=lambda done: totals.append(done.total),
    )
    assert totals == [report.frames] * report.frames


@pytest.mark.parametrize(
    ("source", "folder", "expected"),
    [
        ("a/in.mp4", None, "a/in_espcn_x3.mp4"),
        ("in.avi", None, "in_espcn_x3.mkv"),
        ("a/in.webm", "b", "b/in_espcn_x3.webm"),
        ("frame_%04d.png", None, "frame_espcn_x3_%04d.png"),
        ("photo.JPG", None, "photo_espcn_x3.JPG"),
    ],
)
def test_default_names(source: str, folder: str | None, expected: str) -> None:
    assert str(default_output(source, "espcn", 3, folder)) == expected


def test_y4m_out_holds_the_same_samples(media: Media, enlarge: Enlarge, nearest: Upscaler) -> None:
    after = enlarge(media("lossless.mkv"), "out.y4m", encoding=Encoding())
    expected = nearest.upscale(list(Source(media("lossless.mkv"))))
    with av.open(str(after)) as container:
        got = [frame.to_ndarray() for frame in container.decode(video=0)]
    assert len(got) == 12
    assert np.array_equal(got[7][:108], expected[7].planes[0])
    assert probe(after, "-show_streams")["streams"][0]["r_frame_rate"] == "25/1"


@pytest.mark.parametrize(("name", "pixel_format"), [("out.mkv", "gbrp12le"), ("out.mp4", "gbrp12le")])
def test_an_encoder_built_without_alpha_gets_none(
    nearest: Upscaler, tmp_path: Path, name: str, pixel_format: str
) -> None:
    clip = ["-f", "lavfi", "-i", "testsrc2=s=64x36:d=0.2", "-vf", "format=gbrap12le", "-c:v", "ffv1"]
    subprocess.run(["ffmpeg", "-v", "error", *clip, str(tmp_path / "in.mkv")], check=True)
    report = upscale_file(tmp_path / "in.mkv", tmp_path / name, nearest)  # x265, whose list has formats with alpha
    assert (report.codec, report.pixel_format) == ("libx265", pixel_format)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no scheduling policies here")
def test_no_encoder_makes_threads_real_time(media: Media, nearest: Upscaler, tmp_path: Path) -> None:
    seen = set()

    def look(_: Progress) -> None:
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError):
                seen.add(os.sched_getscheduler(int(thread.name)))

    upscale_file(media("plain.mp4"), tmp_path / "out.mkv", nearest, encoding=Encoding("libsvtav1"), on_progress=look)
    assert seen == {os.SCHED_OTHER}
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.parametrize("plays", [0, 1, 5])
@pytest.mark.parametrize("kind", ["gif", "apng"])
def test_an_animation_is_played_as_often_as_before(
    make: Make, enlarge: Enlarge, caplog: pytest.LogCaptureFixture, kind: str, plays: int
) -> None:
    option = f"-plays {plays}" if kind == "apng" else f"-loop {({0: 0, 1: -1, 5: 4})[plays]}"
    before = make(f"-f lavfi -i testsrc2=s=32x32:r=10:d=0.3 {option}", f"in.{kind}")
    assert read_plays(str(before)) == plays
    for output in ("gif", "apng"):
        assert read_plays(str(enlarge(before, f"out.{output}", encoding=Encoding(output)))) == plays
    with caplog.at_level(logging.INFO, "vsr_plugin"):
        enlarge(before, "out.mkv", strict=True)
    assert (f"in.{kind} plays " in caplog.text) == (plays != 1)


@pytest.mark.parametrize("plays", [0, 1, 5])
def test_how_often_an_animated_webp_plays_is_said(
    enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture, plays: int
) -> None:
    before = tmp_path / "in.webp"
    images = [Image.new("RGB", (32, 32), (60 * red, 0, 0)) for red in range(4)]
    images[0].save(before, save_all=True, append_images=images[1:], duration=100, loop=plays)
    assert read_plays(str(before)) == plays
    with caplog.at_level(logging.INFO, "vsr_plugin"):
        enlarge(before, "out.mkv")
    assert ("in.webp plays " in caplog.text) == (plays != 1)
    images[0].save(before)
    assert read_plays(str(before)) is None


def test_colors_that_an_encoder_does_not_get_are_said(
    media: Media, enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of GIF, palettes are not written."""
    enlarge(media("plain.mp4"), "out.gif", encoding=Encoding("gif"), frames=2)
    assert "dropping the colors: gif can be written as gray only" in caplog.text
    with pytest.raises(OutputError, match="the colors would be lost"):
        enlarge(media("plain.mp4"), "strict.gif", encoding=Encoding("gif"), frames=2, strict=True)
    enlarge(media("plain.mp4"), "asked.gif", encoding=Encoding("gif", pixel_format="gray"), frames=2, strict=True)
