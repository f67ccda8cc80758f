"""What a container cuts off its frames is cut off, as FFmpeg's own program does since 7.1."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vsr_plugin.engine import Upscaler
from vsr_plugin.stream import Source, upscale_file
from vsr_plugin.stream.input import find_video, first_shape, open_input

from .conftest import FAST, Make, Media, video, with_aperture

needs_mkvmerge = pytest.mark.skipif(shutil.which("mkvmerge") is None, reason="no mkvmerge on the path")


def _cropped(whole: Path, folder: Path, left: int, top: int, right: int, bottom: int) -> Path:
    file = folder / "cropped.mkv"
    subprocess.run(["mkvmerge", "-q", "--cropping", f"0:{left},{top},{right},{bottom}", "-o", file, whole], check=True)
    return file


@needs_mkvmerge
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p", "yuv420p10le", "gray", "yuva420p", "bgr0"])
@pytest.mark.parametrize("borders", [(4, 2, 6, 8), (3, 1, 2, 6)], ids=str)
def test_borders_of_matroska_are_cut_off(
    make: Make, tmp_path: Path, pixels: str, borders: tuple[int, int, int, int]
) -> None:
    whole = make(f"-f lavfi -i testsrc2=s=64x48:r=25:d=0.2 -pix_fmt {pixels} -c:v ffv1", "whole.mkv")
    left, top, right, bottom = borders
    cropped = Source(_cropped(whole, tmp_path, *borders))
    assert (cropped.width, cropped.height) == (64 - left - right, 48 - top - bottom)
    container = open_input(cropped.path)
    shape = first_shape(container, find_video(container, "cropped.mkv"))
    assert shape is not None
    assert shape[:2] == (cropped.width, cropped.height)
    for before, after in zip(Source(whole), cropped, strict=True):
        assert (after.width, after.height, after.color) == (cropped.width, cropped.height, before.color)
        for index, (large, small) in enumerate(zip(before.planes, after.planes, strict=True)):
            chroma = index in (1, 2) and not before.is_gray
            x, y = before.color.subsampling if chroma else (0, 0)
            rows, columns = before.color.chroma_shape(after.height, after.width) if chroma else after.planes[0].shape
            assert small.shape == (rows, columns)
            if left % (1 << x) == 0 and top % (1 << y) == 0:
                assert np.array_equal(small, large[top >> y :, left >> x :][:rows, :columns])
            elif (left, top) == (3, 1):  # chroma between the samples there were
                near = [large[row:, column:][:rows, :columns].astype(float) for row in (0, 1) for column in (1, 2)]
                assert np.abs(small - sum(near) / 4).mean() < np.abs(small - near[0]).mean()


@needs_mkvmerge
def test_the_output_is_as_large_as_what_is_seen_and_of_its_shape(make: Make, nearest: Upscaler, tmp_path: Path) -> None:
    whole = make("-f lavfi -i testsrc2=s=64x48:r=25:d=0.2 -c:v libx264 -preset ultrafast", "whole.mkv")
    upscale_file(_cropped(whole, tmp_path, 4, 2, 4, 2), tmp_path / "out.mkv", nearest, encoding=FAST, strict=True)
    shown = video(tmp_path / "out.mkv")
    assert (shown["width"], shown["height"]) == (112, 88)
    assert Fraction(shown["display_aspect_ratio"].replace(":", "/")) == Fraction(64, 48)


def test_the_clean_aperture_of_mp4_is_cut_out(media: Media, tmp_path: Path) -> None:
    whole = media("plain.mp4")
    file = tmp_path / "aperture.mp4"
    file.write_bytes(with_aperture(whole.read_bytes(), 88, 50))
    for before, after in zip(Source(whole), Source(file), strict=True):
        assert np.array_equal(after.planes[0], before.planes[0][2:-2, 4:-4])
        assert np.array_equal(after.planes[1], before.planes[1][1:-1, 2:-2])
