"""Files of the size that is asked for, as ffprobe reads them, and as FFmpeg's own scaler places them."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.stream.conftest import FAST, Media, Nearest, frame_times, video
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import OutputError, UsageError
from vsr_plugin.execution import Execution
from vsr_plugin.models import NetworkSpec
from vsr_plugin.sizes import Size
from vsr_plugin.stream import Encoding, Selection, Source, upscale_file

if TYPE_CHECKING:
    from pathlib import Path

CPU = Execution(backend="eager", device="cpu")
LOSSLESS = Encoding(codec="ffv1")


def sized(**size: Any) -> Upscaler:
    """An upscaler ×2 and ×3 that repeats luma samples, to a size."""
    spec = NetworkSpec(name="nearest", overlap={2: 0, 3: 0})
    return Upscaler.from_module({2: Nearest(2), 3: Nearest(3)}, spec, Size(**size), CPU)


def shape(path: Path) -> tuple[int, int, str | None, str | None]:
    found = video(path)
    return found["width"], found["height"], found.get("sample_aspect_ratio"), found.get("display_aspect_ratio")


@pytest.mark.parametrize(
    ("source", "output", "size", "expected"),
    [
        ("plain.mp4", "out.mp4", {"height": 120}, (214, 120, "1:1", "107:60")),
        ("plain.mp4", "out.mkv", {"width": 200, "height": 200, "fit": "cover"}, (200, 200, "1:1", "1:1")),
        ("plain.mp4", "out.mp4", {"width": 200, "height": 200, "fit": "stretch"}, (200, 200, "1:1", "1:1")),
        # 96 × 54 pixels of 32:27 are shown at 512:243.
        ("wide.mp4", "out.mp4", {"height": 108}, (192, 108, "32:27", "512:243")),
        ("wide.mp4", "out.mp4", {"height": 120}, (214, 120, "10240:8667", "512:243")),
        ("wide.mp4", "out.mkv", {"height": 162}, (288, 162, "32:27", "512:243")),
        ("wide.mp4", "out.mp4", {"height": 108, "square_pixels": True}, (228, 108, "1:1", "19:9")),
        ("wide.mp4", "out.mp4", {"width": 160, "height": 160, "fit": "stretch"}, (160, 160, "1:1", "1:1")),
        ("wide.mp4", "out.mp4", {"width": 160, "height": 160, "fit": "cover"}, (160, 160, "1:1", "1:1")),
        ("odd.mkv", "out.mkv", {"height": 133}, (238, 133, None, None)),
        ("plain.mp4", "out.mp4", {"width": 181, "height": 101, "fit": "stretch"}, (182, 102, "1:1", "91:51")),
    ],
)
def test_a_file_has_the_size_that_is_asked_for(
    media: Media, tmp_path: Path, source: str, output: str, size: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    file = tmp_path / output
    with sized(**size) as upscaler:
        report = upscale_file(media(source), file, upscaler, encoding=LOSSLESS if source == "odd.mkv" else FAST)
    assert (report.width, report.height) == expected[:2]
    assert report.scales in ((2,), (3,), (2, 2))
    assert shape(file) == expected
    assert frame_times(file) == frame_times(media(source))


def test_what_an_encoder_makes_of_odd_sizes_is_said(
    media: Media, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sized(width=181, height=101) as upscaler, caplog.at_level("INFO"):
        upscale_file(media("plain.mp4"), tmp_path / "out.mp4", upscaler, encoding=FAST)
    assert "libx264 takes no 180×101: the last row or column is repeated, which makes 180×102" in caplog.messages
    assert shape(tmp_path / "out.mp4")[:2] == (180, 102)


@pytest.mark.parametrize("name", ["out.mp4", "out.y4m", "out_%03d.png"])
def test_a_film_that_is_turned_has_the_size_as_it_is_seen(media: Media, tmp_path: Path, name: str) -> None:
    turned = tmp_path / "turned.mp4"
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        str(media("wide.mp4")),
        "-c",
        "copy",
        "-metadata:s:v",
        "rotate=90",
        str(turned),
    ]
    subprocess.run(command, check=True)
    with sized(height=192) as upscaler:
        report = upscale_file(turned, tmp_path / name, upscaler, Selection(frames=1))
    if name == "out.mp4":  # which states the rotation
        assert shape(tmp_path / name) == (192, 108, "32:27", "512:243")
        assert (report.width, report.height, report.transposed) == (192, 108, True)
    else:
        assert (report.width, report.height, report.transposed) == (108, 192, False)
        ratio = next(Source(tmp_path / (name % 1 if "%" in name else name))).sample_aspect_ratio
        assert ratio == Fraction(27, 32)


def test_fields_make_frames_of_the_size(media: Media, tmp_path: Path) -> None:
    with sized(height=120) as upscaler:
        upscale_file(
            media("interlaced.mkv"), tmp_path / "out.mkv", upscaler, Selection(deinterlace=True), encoding=FAST
        )
    assert shape(tmp_path / "out.mkv")[:2] == (214, 120)


def test_segments_make_what_one_go_makes_and_are_not_mixed_with_other_sizes(media: Media, tmp_path: Path) -> None:
    def make(name: str, size: dict[str, Any], **how: Any) -> Path:
        with sized(**size) as upscaler:
            upscale_file(media("groups.ts"), tmp_path / name, upscaler, encoding=LOSSLESS, **how)
        return tmp_path / name

    once = make("once.mkv", {"height": 140})
    parts = make("parts.mkv", {"height": 140}, resume=True, segment_length=Fraction(1))
    assert shape(once) == shape(parts)
    for a, b in zip(Source(once), Source(parts), strict=True):
        assert all(np.array_equal(one, other) for one, other in zip(a.planes, b.planes, strict=True))

    class StoppedError(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.written.frames > 40:
            raise StoppedError

    with pytest.raises(StoppedError):
        make("film.mkv", {"height": 140}, resume=True, segment_length=Fraction(1), on_progress=stop)
    with pytest.raises(OutputError, match="another job: size was 248×140 and is 256×144 now"):
        make("film.mkv", {"height": 144}, resume=True, segment_length=Fraction(1))
    with pytest.raises(OutputError, match="another job: seen was"):
        make("film.mkv", {"width": 248, "height": 140, "fit": "cover"}, resume=True, segment_length=Fraction(1))


def test_a_film_that_has_the_size_already_is_refused(media: Media, tmp_path: Path) -> None:
    with (
        sized(height=54) as upscaler,
        pytest.raises(UsageError, match="a size above that of the frames, 96×54, got a height of 54"),
    ):
        upscale_file(media("plain.mp4"), tmp_path / "out.mp4", upscaler)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [{"height": 150}, {"width": 250, "height": 110, "fit": "stretch"}], ids=str)
def test_nothing_is_shifted_beside_ffmpegs_scaler(media: Media, tmp_path: Path, size: dict[str, Any]) -> None:
    spec = NetworkSpec(name="linear", overlap={2: 1, 3: 1})
    with Upscaler.from_module({2: Bilinear(2), 3: Bilinear(3)}, spec, Size(**size), CPU) as upscaler:
        report = upscale_file(
            media("lossless.mkv"), tmp_path / "ours.mkv", upscaler, Selection(frames=1), encoding=LOSSLESS
        )
    left = "in_h_chr_pos=0:in_v_chr_pos=128:out_h_chr_pos=0:out_v_chr_pos=128"  # FFmpeg's own guess is the middle
    scale = f"scale={report.width}:{report.height}:flags=lanczos+accurate_rnd:{left}"
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        str(media("lossless.mkv")),
        "-frames:v",
        "1",
        "-vf",
        scale,
        "-c:v",
        "ffv1",
    ]
    subprocess.run([*command, str(tmp_path / "theirs.mkv")], check=True)
    ours, theirs = (next(Source(tmp_path / name)) for name in ("ours.mkv", "theirs.mkv"))
    for a, b in zip(ours.planes, theirs.planes, strict=True):
        assert a.shape == b.shape
        x, y = _shift(torch.from_numpy(a).double(), torch.from_numpy(b).double())
        assert max(abs(x), abs(y)) < 0.06, (x, y)


class Bilinear(Nearest):
    """Every sample interpolated."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(x, scale_factor=self.scale, mode="bilinear")


def _shift(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float]:
    """Samples by which ``a`` is further to the right and down than ``b``: least squares, of the first order."""
    inner = (slice(4, -4), slice(4, -4))
    gy, gx = (gradient[inner].flatten() for gradient in torch.gradient(b))
    found = torch.linalg.lstsq(torch.stack([gx, gy], 1), (b - a)[inner].flatten()[:, None]).solution
    return float(found[0]), float(found[1])
