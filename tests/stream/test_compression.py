"""Frames through an encoder and back, in memory; what FFmpeg makes and measures of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from vsr_plugin.errors import UsageError
from vsr_plugin.evaluation import psnr
from vsr_plugin.stream.compression import ENCODERS, Compression, Planes
from vsr_plugin.stream.quality import has_vmaf, lanczos, vmaf


def clip(count: int = 5, height: int = 64, width: int = 80) -> list[Planes]:
    """A pan over noise that is smooth enough to be worth coding."""
    noise = np.random.default_rng(0).integers(16, 236, (height // 4 + 8, width // 4 + 8))
    large = np.kron(noise, np.ones((4, 4))).astype(np.uint8)
    gray = np.full((height // 2, width // 2), 128, np.uint8)
    return [(np.ascontiguousarray(large[k : k + height, k : k + width]), gray, gray) for k in range(count)]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_frames_come_back_in_order_and_the_worse_the_smaller(encoder: str) -> None:
    frames = clip()
    qualities, sizes = [], []
    for crf in ("15", "45"):
        compression = Compression(frames, encoder, {"crf": crf})
        decoded = list(compression)
        assert [planes[1].shape for planes in decoded] == [(32, 40)] * len(frames)
        for index, (luma, _, _) in enumerate(decoded):
            every = [psnr(frame[0], luma) for frame in frames]
            assert every.index(max(every)) == index
        qualities.append(psnr(frames[2][0], decoded[2][0]))
        sizes.append(compression.size)
    assert qualities[0] > qualities[1] + 5
    assert sizes[0] > sizes[1] > 0


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("size", [(50, 60), (36, 46), (16, 18)])
def test_the_same_frames_give_the_same_samples(encoder: str, size: tuple[int, int]) -> None:
    """Frames that end within a block, too, and those smaller than one."""
    first, second = (list(Compression(clip(5, *size), encoder, {"crf": "30"})) for _ in range(2))
    assert [planes[0].shape for planes in first] == [size] * 5
    assert all(
        np.array_equal(a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize(
    ("encoder", "options", "frames", "message"),
    [
        ("libx266", {}, clip(2), "Unknown encoder 'libx266'. Known encoders: libx264, libx265, libvpx-vp9"),
        ("libx264", {"preset": "hurried"}, clip(2), "libx264 does not encode with"),
        ("libx264", {}, [tuple(plane[:, :-1] for plane in clip(1)[0])], "Expected frames of one size with even sides"),
        ("libx264", {}, [*clip(1), *clip(1, 48)], "Expected frames of one size with even sides, got 80×48"),
    ],
)
def test_what_cannot_be_encoded_is_one_line(
    encoder: str, options: dict[str, str], frames: list[Planes], message: str
) -> None:
    with pytest.raises(UsageError, match="^" + message):
        list(Compression(frames, encoder, options))


@pytest.mark.skipif(not has_vmaf(), reason="no libvmaf")
def test_vmaf_falls_with_noise() -> None:
    truth = clip(4, 128, 160)
    rng = np.random.default_rng(0)
    noisy = [
        [(np.clip(y + rng.normal(0, sigma, y.shape), 0, 255).astype(np.uint8), cb, cr) for y, cb, cr in truth]
        for sigma in (0, 20, 60)
    ]
    figures = [vmaf(truth, frames) for frames in noisy]
    assert figures[0] > 95
    assert all(better > worse for better, worse in pairwise(figures))


def test_lanczos_enlarges_every_plane() -> None:
    (planes,) = clip(1)
    assert [plane.shape for plane in lanczos(planes, 3)] == [(192, 240), (96, 120), (96, 120)]
