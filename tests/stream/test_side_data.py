"""What frames say beside their samples, from the first one or from a later one: carried, or named once."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vsr_plugin import Execution, Size, Upscaler
from vsr_plugin.errors import OutputError
from vsr_plugin.stream import Encoding, upscale_file

from .conftest import Media, video, with_units

Enlarge = Callable[..., Path]
_T35 = b"\xb5"  # ITU-T T.35: United States
CAPTIONS = _T35 + b"\x00\x31GA94\x03\x41\xff\xfc\x94\x2c\xff"
AFD = _T35 + b"\x00\x31DTG1\x41\xf8"
_START = b"\0\0\0\1"
# SMPTE ST 2094-40: application 4, version 1; one window, 1000 cd/m², and nothing that a flag could announce.
_HDR10_PLUS = f"{1:02b}{1000:027b}0{0:051b}{0:017b}{0:04b}{0:010b}000"
HDR10_PLUS = _T35 + b"\x00\x3c\x00\x01\x04\x01" + int(_HDR10_PLUS.ljust(120, "0"), 2).to_bytes(15)
_SEI = {"h264": b"\x06", "hevc": b"\x4e\x01"}


def _sei(codec: str, kind: int, payload: bytes) -> bytes:
    """A supplemental enhancement information NAL unit (H.264, 7.3.2.3; H.265, 7.3.2.4)."""
    body = bytes((kind, len(payload))) + payload + b"\x80"
    escaped = body.replace(b"\0\0\0", b"\0\0\3\0").replace(b"\0\0\1", b"\0\0\3\1").replace(b"\0\0\2", b"\0\0\3\2")
    return _START + _SEI[codec] + escaped


# H.264, D.1.26: not cancelled, no flips, 0x4000 of 0x10000 turns, to the end
_QUARTER = _sei("h264", 47, b"\x08\x00\x14")


@pytest.fixture
def film(media: Media, tmp_path: Path) -> Callable[..., Path]:
    """``film(codec, nal, *places)``: 15 frames, every fifth a key frame; ``nal`` is put into those in ``places``.

    One place is the first of all that follow.
    """

    def make(codec: str, nal: bytes, *places: int) -> Path:
        bare = tmp_path / f"bare.{codec}"
        encoder = {
            "h264": "libx264 -x264-params aud=1:keyint=5:scenecut=0",
            "hevc": "libx265 -x265-params log-level=error:aud=1:keyint=5:scenecut=0",
        }[codec]
        picture = f"-f lavfi -i testsrc2=s=64x48:r=25:d=0.6 -pix_fmt yuv420p -c:v {encoder} -preset ultrafast -bf 0"
        subprocess.run(["ffmpeg", "-v", "error", "-y", *picture.split(), bare], check=True, capture_output=True)
        whole = tmp_path / f"{codec}.mkv"
        with_units(bare, nal, places if len(places) > 1 else range(places[0], 15), whole)
        return whole

    return make


@pytest.mark.parametrize(
    ("codec", "nal", "first", "what"),
    [
        ("h264", _sei("h264", 4, CAPTIONS), 0, "closed captions"),
        ("h264", _sei("h264", 4, CAPTIONS), 12, "closed captions"),
        ("h264", _sei("h264", 4, AFD), 5, "the active format description"),
        ("h264", _sei("h264", 45, b"\x81\xc2\x00\x00\x00\x40"), 3, "3D"),
        ("hevc", _sei("hevc", 4, CAPTIONS), 12, "closed captions"),
        ("hevc", _sei("hevc", 4, HDR10_PLUS), 0, r"HDR10\+"),
        ("hevc", _sei("hevc", 4, HDR10_PLUS), 5, r"HDR10\+"),
        ("hevc", _sei("hevc", 148, struct.pack(">I2H", 314_0000, 15635, 16450)), 0, "the ambient viewing environment"),
        ("hevc", _sei("hevc", 144, struct.pack(">2H", 1000, 400)), 5, "HDR metadata of later frames"),
    ],
)
def test_what_frames_say_and_no_encoder_writes_is_named_once(
    film: Callable[..., Path],
    enlarge: Enlarge,
    caplog: pytest.LogCaptureFixture,
    codec: str,
    nal: bytes,
    first: int,
    what: str,
) -> None:
    before = film(codec, nal, first)
    enlarge(before, "out.mkv")
    assert len(re.findall(f"dropping {what}: ", caplog.text)) == 1
    with pytest.raises(OutputError, match=f"{what} would be lost"):
        enlarge(before, "strict.mkv", strict=True)


def test_dolby_vision_without_a_configuration_record_is_named(
    shared: Path, media: Media, enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    phone, before = shared / "video/exoplayer/dolbyVision-hdr.MOV", tmp_path / "bare.hevc"
    command = f"-i {phone} -map v:0 -frames:v 2 -c copy {before}"
    subprocess.run(["ffmpeg", "-v", "error", *command.split()], check=True)
    assert "DOVI" not in str(video(before).get("side_data_list"))
    enlarge(before, "out.mkv", frames=1)
    assert caplog.text.count("dropping Dolby Vision: ") == 1
    with pytest.raises(OutputError, match="would be lost"):
        enlarge(before, "strict.mkv", strict=True, frames=1)


def test_light_levels_of_the_first_frame_are_carried(film: Callable[..., Path], enlarge: Enlarge) -> None:
    before = film("hevc", _sei("hevc", 144, struct.pack(">2H", 1000, 400)), 0)
    after = enlarge(before, "out.mp4", strict=True)
    assert video(after)["side_data_list"][0]["max_content"] == 1000


@pytest.mark.parametrize("output", ["out.png", "out.y4m", "out.jpg"])
def test_hdr_metadata_without_a_place_in_stills_is_named(
    media: Media, enlarge: Enlarge, caplog: pytest.LogCaptureFixture, output: str
) -> None:
    enlarge(media("hdr10.mp4"), output, frames=1, encoding=Encoding())
    assert "dropping HDR metadata: " in caplog.text
    with pytest.raises(OutputError, match=r"(HDR metadata|the transfer PQ) would be lost"):
        enlarge(media("hdr10.mp4"), f"strict{Path(output).suffix}", frames=1, encoding=Encoding(), strict=True)


@pytest.mark.parametrize(("output", "size"), [("out.mp4", (128, 96)), ("out.y4m", (96, 128)), ("out.ts", (96, 128))])
def test_a_rotation_in_the_bitstream_is_stated_or_done(
    film: Callable[..., Path], enlarge: Enlarge, output: str, size: tuple[int, int]
) -> None:
    before = film("h264", _QUARTER, 0)
    after = enlarge(before, output, encoding=Encoding())
    shown = video(after)
    assert (shown["width"], shown["height"]) == size
    if output == "out.mp4":
        assert abs(shown["side_data_list"][0]["rotation"]) == 90


@pytest.mark.parametrize("how", [{}, {"start": 0.2}, {"start": 0.3}, {"deinterlace": True}])
@pytest.mark.parametrize(("output", "size"), [("out.mp4", (128, 96)), ("out.y4m", (96, 128))])
def test_a_rotation_that_key_frames_state_holds_until_the_next(
    film: Callable[..., Path], enlarge: Enlarge, output: str, size: tuple[int, int], how: dict[str, Any]
) -> None:
    before = film("h264", _QUARTER, 0, 5, 10)
    after = enlarge(before, output, encoding=Encoding(), strict=True, **how)
    shown = video(after)
    assert (shown["width"], shown["height"]) == size
    assert ("side_data_list" in shown) == (output == "out.mp4")


def test_a_size_is_that_of_all_frames_whose_rotation_key_frames_state(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    with Upscaler("espcn", Size(height=192), Execution(backend="eager", device="cpu")) as upscaler:
        upscale_file(film("h264", _QUARTER, 0, 5, 10), tmp_path / "out.mp4", upscaler)
    shown = video(tmp_path / "out.mp4")
    assert (shown["width"], shown["height"]) == (192, 144)


@pytest.mark.parametrize("places", [(0, 5), (5, 10)], ids=["ends", "begins"])
@pytest.mark.parametrize("output", ["out.mp4", "out.y4m"])
@pytest.mark.parametrize("what", ["the rotation", "HDR metadata"])
def test_what_does_not_hold_for_all_frames_is_named(
    film: Callable[..., Path],
    enlarge: Enlarge,
    caplog: pytest.LogCaptureFixture,
    places: tuple[int, int],
    output: str,
    what: str,
) -> None:
    light = _sei("h264", 144, struct.pack(">2H", 1000, 400))
    before = film("h264", _QUARTER if what == "the rotation" else light, *places)
    enlarge(before, output, encoding=Encoding())
    lost = what if output == "out.y4m" and what == "HDR metadata" else f"{what} of later frames"
    assert caplog.text.count(f"dropping {lost}: ") == 1
    with pytest.raises(OutputError, match=f"{lost} would be lost"):
        enlarge(before, f"strict{output[3:]}", encoding=Encoding(), strict=True)


@pytest.mark.parametrize("output", ["out.y4m", "out.jpg", "out.webp", "out.png"])
def test_an_hdr_transfer_is_stated_or_named(
    media: Media, enlarge: Enlarge, caplog: pytest.LogCaptureFixture, output: str
) -> None:
    after = enlarge(media("hdr10.mp4"), output, frames=1, encoding=Encoding())
    if output == "out.png":
        assert b"cICP\x09\x10\x00\x01" in after.read_bytes()
    assert ("dropping the transfer PQ: " in caplog.text) == (output != "out.png")


@pytest.mark.parametrize("output", ["out.y4m", "out.png"])
def test_tags_and_chapters_without_a_place_beside_pictures_are_named(
    media: Media, enlarge: Enlarge, caplog: pytest.LogCaptureFixture, output: str
) -> None:
    enlarge(media("all.mkv"), output, frames=1, encoding=Encoding())
    for what in ("2 audio streams and 2 subtitle streams and 1 attachment stream", "the tag title", "the chapters"):
        assert f"dropping {what}: {output[3:]} holds images only" in caplog.text
    with pytest.raises(OutputError, match="would be lost"):
        enlarge(media("all.mkv"), f"strict{output[3:]}", frames=1, encoding=Encoding(), strict=True)
