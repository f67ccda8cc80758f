"""PSNR and SSIM as the papers measure them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from vsr_plugin.errors import UsageError
from vsr_plugin.evaluation import Score, Scores, bicubic, evaluate, psnr, ssim, to_uint8
from vsr_plugin.images import Image, read_images

if TYPE_CHECKING:
    from pathlib import Path

# The literature's figures, which every paper of these networks repeats.
BICUBIC = {2: (33.66, 0.9299), 3: (30.39, 0.8682), 4: (28.42, 0.8104)}


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_has_its_published_figures(shared: Path, scale: int) -> None:
    scores = evaluate(bicubic(scale), scale, read_images(shared / "Set5" / "HR"))
    assert scores.psnr == pytest.approx(BICUBIC[scale][0], abs=0.02)
    assert scores.ssim == pytest.approx(BICUBIC[scale][1], abs=0.0005)


@pytest.mark.parametrize(("scale", "psnr"), [(2, 33.640), (3, 30.385), (4, 28.416)])
def test_rgb_is_measured_through_8_bits(shared: Path, scale: int, psnr: float) -> None:
    images = read_images(shared / "Set5" / "HR", 3)
    assert evaluate(bicubic(scale), scale, images, 3).psnr == pytest.approx(psnr, abs=0.01)  # MATLAB rounds twice


def test_gray_images_are_measured_as_they_are_by_rgb_too(shared: Path) -> None:
    images = read_images(shared / "Set14" / "HR", 3)
    assert evaluate(bicubic(3), 3, images, 3).psnr == pytest.approx(27.530, abs=0.01)


def test_gray_images_are_measured_as_they_are(shared: Path) -> None:
    # Through rgb2ycbcr the one gray image of Set14 would gain 1.3 dB and the mean 0.09.
    scores = evaluate(bicubic(3), 3, read_images(shared / "Set14" / "HR"))
    assert scores.psnr == pytest.approx(27.541, abs=0.01)


def test_the_border_of_scale_samples_does_not_count() -> None:
    rng = np.random.default_rng(0)
    image = Image("a", rng.integers(0, 256, (40, 40), dtype=np.uint8))
    truth = torch.from_numpy(image.luma)[None, None] / 255.0

    def network(spoiled: int) -> float:
        output = truth.clone()
        output[..., :spoiled, :] = 0
        return evaluate(lambda _: output, 2, [image]).psnr

    assert network(2) == float("inf")
    assert network(3) < 40


def test_output_is_rounded_half_up_and_clamped() -> None:
    assert to_uint8(torch.tensor([[-0.1, 0.5 / 255, 1.49 / 255, 1.2]])).tolist() == [[0, 1, 1, 255]]


def test_psnr_of_a_known_error() -> None:
    truth = np.full((20, 20), 100, np.uint8)
    assert psnr(truth, truth + np.uint8(5)) == pytest.approx(20 * np.log10(255 / 5))
    assert psnr(truth, truth) == float("inf")
    assert psnr(np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)) == 0.0


def test_ssim_is_the_formula_at_every_place_of_the_window() -> None:
    rng = np.random.default_rng(1)
    x, y = (rng.integers(0, 256, (13, 14), dtype=np.uint8) for _ in range(2))
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    places = []
    for top in range(3):
        for left in range(4):
            a, b = (image[top : top + 11, left : left + 11].astype(float) for image in (x, y))
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            c1, c2 = 6.5025, 58.5225
            places.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    assert ssim(x, y) == pytest.approx(np.mean(places), abs=1e-12)
    assert ssim(x, x) == pytest.approx(1.0)


def test_a_set_is_the_mean_of_its_images() -> None:
    scores = Scores((Score("a", 30.0, 0.8), Score("b", 40.0, 0.9)))
    assert scores.psnr == 35.0
    assert scores.ssim == pytest.approx(0.85)


def test_what_cannot_be_measured_is_a_usage_error() -> None:
    image = Image("a", np.zeros((40, 40), np.uint8))
    with pytest.raises(UsageError, match="at least one image"):
        evaluate(bicubic(2), 2, [])
    with pytest.raises(UsageError, match=r"Expected \(40, 40\) samples for a, got \(60, 60\)"):
        evaluate(bicubic(3), 2, [image])
    with pytest.raises(UsageError, match="11 × 11"):
        evaluate(bicubic(2), 2, [Image("tiny", np.zeros((12, 12), np.uint8))])
