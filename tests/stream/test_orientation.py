"""Frames arrive upright: by a stated rotation where the output has one, by turned pixels where it has not."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from vsr_plugin.frames import ChromaLocation, ColorSpec, Frame, Matrix, Range
from vsr_plugin.stream import Encoding
from vsr_plugin.stream.orientation import Turn, exif_matrix, scaled

from .conftest import Media, rotated, video

Enlarge = Callable[..., Path]


def _luma(file: Path) -> np.ndarray[Any, Any]:
    with av.open(str(file)) as container:
        return next(container.decode(video=0)).reformat(format="gray").to_ndarray()


@pytest.mark.parametrize(
    ("degrees", "output"), [(90, "out.y4m"), (180, "out.y4m"), (270, "out.png"), (90, "out.ts"), (270, "out.avi")]
)
def test_frames_are_turned_where_no_rotation_can_be_stated(
    media: Media, enlarge: Enlarge, tmp_path: Path, degrees: int, output: str
) -> None:
    before = rotated(media, tmp_path, degrees)
    encoding = Encoding(options={"crf": "0"} if output in ("out.ts", "out.avi") else {})
    after = enlarge(before, output, encoding=encoding, frames=1)
    seen = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", before, "-frames:v", "1", "-pix_fmt", "gray", "-f", "rawvideo", "-"],
        capture_output=True,
        check=True,
    ).stdout
    height, width = (54, 96) if degrees == 180 else (96, 54)
    want = np.frombuffer(seen, np.uint8).reshape(height, width).repeat(2, 0).repeat(2, 1)
    # Some of these colors have no RGB; turned the other way, the mean is above 40.
    assert np.abs(_luma(after).astype(int) - want).mean() <= 2
    ratio = Fraction(32, 27) if degrees == 180 else Fraction(27, 32)
    if output in ("out.y4m", "out.ts"):
        assert Fraction(video(after)["sample_aspect_ratio"].replace(":", "/")) == ratio


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turn_does_what_pillow_does(orientation: int) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (6, 10), np.uint8)
    image = Image.fromarray(samples)
    image.getexif()[0x112] = orientation
    want = np.asarray(ImageOps.exif_transpose(image))
    matrix = exif_matrix(orientation)
    if matrix is None:
        assert orientation == 1
        return
    turn = Turn.parse(matrix)
    assert turn
    gray = Frame((samples,), 0, Fraction(1), color=ColorSpec(matrix=Matrix.BT709, range=Range.FULL))
    assert np.array_equal(turn(gray).planes[0], want)


@pytest.mark.parametrize(
    ("size", "subsampling", "after"),
    [
        ((64, 48), (1, 1), (1, 1)),
        ((64, 48), (1, 0), (0, 1)),
        ((63, 48), (1, 1), (0, 0)),
        ((64, 48), (2, 0), (0, 0)),
    ],
)
def test_turned_chroma_stays_where_its_luma_is(
    size: tuple[int, int], subsampling: tuple[int, int], after: tuple[int, int]
) -> None:
    color = ColorSpec(matrix=Matrix.BT709, subsampling=subsampling, chroma_location=ChromaLocation.LEFT)
    width, height = size
    rows, columns = color.chroma_shape(height, width)
    luma = np.full((height, width), 100, np.uint8)
    ramp = np.tile((40 + 2 * np.arange(columns) * (1 << subsampling[0])).clip(max=240).astype(np.uint8), (rows, 1))
    turn = Turn.parse(exif_matrix(6) or b"")
    assert turn
    turned = turn(Frame((luma, ramp, ramp), 0, Fraction(1), color=color))
    assert (turned.width, turned.height) == (height, width)
    assert turned.color.subsampling == after
    assert turned.color.chroma_location is ChromaLocation.CENTER
    # Left-sited chroma at column x was 40 + 2·x: in the middle of a block, half a block less one half further right.
    middle = ((1 << after[1]) - 1) / 2
    inner = turned.planes[1][4:20, 3]
    want = 40 + 2 * (np.arange(4, 20) * (1 << after[1]) + middle)
    assert np.abs(inner - want).max() <= 1


def test_a_translation_is_scaled_with_the_frame() -> None:
    matrix = struct.pack("=9i", 0, 65536, 0, -65536, 0, 0, 96 << 16, 3 << 16, 1 << 30)
    assert struct.unpack("=9i", scaled(matrix, Fraction(3))) == (0, 65536, 0, -65536, 0, 0, 288 << 16, 9 << 16, 1 << 30)


def test_a_translation_is_scaled_in_the_file(media: Media, enlarge: Enlarge, tmp_path: Path) -> None:
    before = rotated(media, tmp_path, 90)
    data = bytearray(before.read_bytes())  # a player moves the turned frame back into view; ffmpeg does not write that
    struct.pack_into(">i", data, data.index(b"tkhd") + 4 + 40 + 24, 54 << 16)
    before.write_bytes(data)
    with av.open(str(before)) as old, av.open(str(enlarge(before, "out.mp4"))) as new:
        matrices = [
            struct.unpack("=9i", file.streams.video[0].codec_context.coded_side_data["display_matrix"])
            for file in (old, new)
        ]
    assert matrices[0][6] > 0
    assert matrices[1][6] == 2 * matrices[0][6]


def test_another_angle_is_told(
    media: Media, enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    enlarge(rotated(media, tmp_path, 45), "out.ts")
    assert "dropping the rotation: .ts with libx264 has no place for it, and it is not by right angles" in caplog.text


@pytest.mark.parametrize(
    ("output", "codec", "stated"),
    [
        ("out.mp4", "mpeg4", True),
        ("out.mp4", "libvpx-vp9", True),
        ("out.mkv", "mpeg4", True),
        ("out.mkv", "prores_ks", True),
        ("out.webm", "libvpx", False),
        ("out.mkv", "libvpx", False),
    ],
)
def test_every_codec_is_shown_upright(
    media: Media, enlarge: Enlarge, tmp_path: Path, output: str, codec: str, stated: bool
) -> None:
    encoding = Encoding(codec, options={"deadline": "realtime"} if codec == "libvpx" else {})
    shown = video(enlarge(rotated(media, tmp_path, 90), output, encoding=encoding, frames=3))
    assert (shown["width"], shown["height"]) == ((192, 108) if stated else (108, 192))
    assert ("side_data_list" in shown) == stated
