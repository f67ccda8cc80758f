"""The plain torch functions compute what their docstrings say."""

from __future__ import annotations

from importlib import import_module
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from vsr_plugin import kernels

if TYPE_CHECKING:
    from vsr_plugin.kernels import Edges

REFERENCE: Any = import_module("vsr_plugin.kernels.reference")


def test_pixel_shuffle_is_the_papers_formula() -> None:
    x = torch.rand(2, 2 * 9, 3, 4)
    y = kernels.pixel_shuffle(x, 3)
    for n, c, row, column in product(range(2), range(2), range(9), range(12)):
        assert y[n, c, row, column] == x[n, c * 9 + row % 3 * 3 + column % 3, row // 3, column // 3]


def test_cubic_is_keys_kernel() -> None:
    assert kernels.cubic(torch.tensor([0.0, 1.0, -1.0, 2.0, 3.0])).tolist() == [1, 0, 0, 0, 0]
    assert kernels.cubic(torch.tensor([0.5, -0.5, 1.5])).tolist() == [0.5625, 0.5625, -0.0625]
    x = torch.arange(-2, 3)[:, None] + torch.rand(100, dtype=torch.float64)
    assert torch.allclose(kernels.cubic(x).sum(0), torch.ones(100, dtype=torch.float64), atol=1e-14)


def test_bicubic_keeps_straight_lines() -> None:
    line = torch.arange(20, dtype=torch.float64)
    for ratio, shift in ((2.0, 0.0), (3.0, 0.25), (0.5, -0.25), (1 / 3, 0.0)):
        size = round(20 * ratio)
        result = kernels.resample(line, 0, size, ratio, shift=shift)
        position = (torch.arange(size, dtype=torch.float64) + 0.5) / ratio - 0.5 + shift
        inside = (position > 6) & (position < 13)
        assert torch.allclose(result[inside], position[inside], atol=1e-12)


@pytest.mark.parametrize("edges", ["replicate", "symmetric"])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_enlarge_is_two_passes_of_resample(scale: int, edges: Edges) -> None:
    x = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    for shift in ((0.0, 0.0), (0.25, -0.125), (-0.375, 0.4), (0.0, 0.9)):
        y = kernels.resample(x, 2, 5 * scale, scale, shift=shift[0], edges=edges)
        y = kernels.resample(y, 3, 7 * scale, scale, shift=shift[1], edges=edges)
        assert torch.allclose(kernels.enlarge(x, scale, shift=shift, edges=edges), y, rtol=0, atol=1e-14)


@pytest.mark.parametrize("depth", [8, 10, 16])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_enlarge_samples_is_enlarge_rounded(scale: int, depth: int) -> None:
    generator = torch.Generator().manual_seed(depth)
    samples = torch.randint(0, 1 << depth, (2, 9, 11), generator=generator)
    samples = samples.to(torch.uint8 if depth == 8 else torch.uint16)
    shape = (9 * scale - 1, 11 * scale - scale + 1)
    for shift in ((0.0, 0.0), (0.125, -0.25)):
        truth = kernels.enlarge(samples[:, None].double(), scale, shift=shift, edges="symmetric")[:, 0]
        truth = truth.clamp(0, (1 << depth) - 1)[:, : shape[0], : shape[1]]
        result = kernels.enlarge_samples(samples, scale, depth, shape, shift)
        assert result.dtype == samples.dtype
        assert result.shape == truth.shape
        # Half a code value for rounding; and what float32 loses in two sums of four, of values up to 2**depth.
        assert float((result.double() - truth).abs().max()) <= 0.5 + 16 * 2.0 ** (depth - 24)


@pytest.mark.parametrize("scale", [2, 3])
def test_samples_are_enlarged_the_same_in_strips(scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = torch.randint(0, 256, (2, 23, 11), dtype=torch.uint8)
    arguments = (samples, scale, 8, (23 * scale - 1, 11 * scale), (0.0, 0.125))
    whole = REFERENCE.enlarge_samples(*arguments)
    for strip in (1, 2 * 11 * 5):  # of one row; of five, where the last is shorter
        monkeypatch.setattr(import_module("vsr_plugin.kernels.reference.cubic"), "_STRIP", strip)
        assert torch.equal(REFERENCE.enlarge_samples(*arguments), whole)


def test_an_image_of_one_sample_is_flat() -> None:
    for edges in ("replicate", "symmetric"):
        x = torch.full((1, 1, 1, 1), 0.25, dtype=torch.float64)
        y = kernels.enlarge(x, 4, shift=(0.3, -0.3), edges=edges)
        assert torch.allclose(y, torch.full((1, 1, 4, 4), 0.25, dtype=torch.float64))


def test_samples_are_rounded_and_clamped() -> None:
    x = torch.tensor([-3.0, 0.4, 0.6, 254.4, 254.6, 300.0])
    assert kernels.to_samples(x, 8).tolist() == [0, 0, 1, 254, 255, 255]
    large = torch.linspace(-3, 1026, 2_100_000).reshape(2, 750, 1400)  # rounded in strips
    assert torch.equal(kernels.to_samples(large, 10), large.clamp(0, 1023).round().to(torch.uint16))
    assert kernels.to_samples(x / 255, 8, peak=255).tolist() == [0, 0, 1, 254, 255, 255]
    assert kernels.to_samples(torch.tensor([2.0, 0.5]), 10, peak=1020).tolist() == [1020, 510]
    assert kernels.to_samples(torch.tensor([7e4]), 16).tolist() == [65535]
    assert kernels.to_samples(x, 8).dtype == torch.uint8
    assert kernels.to_samples(x, 9).dtype == torch.uint16
    assert kernels.to_unit(torch.tensor([0, 1020, 1023]).to(torch.uint16), 1020).tolist() == [0, 1, 1]


def test_mix_is_a_matrix_and_a_constant() -> None:
    matrix = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.5, 0.0, -1.0]], dtype=torch.float64)
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    y = kernels.mix(x, matrix)
    assert torch.allclose(y[:, 0], x[:, 0] + 2 * x[:, 1] + 3 * x[:, 2] + 4)
    assert torch.allclose(y[:, 1], 0.5 * x[:, 1] - 1)


@pytest.mark.parametrize("subsampling", [(1, 1), (1, 2), (2, 1), (2, 2), (1, 4), (4, 4)])
def test_a_slope_survives_the_way_to_rgb_and_back(subsampling: tuple[int, int]) -> None:
    identity = torch.eye(3, 4, dtype=torch.float64)
    height, width = 67, 81
    fy, fx = subsampling

    def slope(y: Tensor, x: Tensor) -> Tensor:
        """The same frame, wherever its samples sit; in code values of 12 bits."""
        return (300.0 + 20 * y[:, None] + 16 * x[None, :])[None]

    rows, columns = torch.arange(float(height)), torch.arange(float(width))
    for oy, ox in product({0.0, fy - 1.0, (fy - 1) / 2}, {0.0, fx - 1.0, (fx - 1) / 2}):
        luma = slope(rows, columns).to(torch.uint16)
        chroma = slope(rows[: -(-height // fy)] * fy + oy, columns[: -(-width // fx)] * fx + ox).to(torch.uint16)
        rgb = kernels.planes_to_rgb((luma, chroma, chroma), identity, subsampling, (oy, ox))
        assert rgb.shape == (1, 3, height, width)
        inside = (slice(None), slice(3 * fy, -3 * fy), slice(3 * fx, -3 * fx))  # edges are mirrored there
        assert float((rgb[:, 1][inside] - luma[inside].float()).abs().max()) < 0.5 / fy + 0.5
        back = kernels.rgb_to_planes(rgb, identity, 12, subsampling, (oy, ox))
        assert torch.equal(back[0].int(), luma.int())
        assert back[1].shape == chroma.shape
        inside = (slice(None), slice(5, -5), slice(5, -5))
        assert int((back[1][inside].int() - chroma[inside].int()).abs().max()) <= 1


class Enlarging(nn.Module):
    """What networks over a bicubic enlargement do first."""

    def forward(self, x: Tensor) -> Tensor:
        return kernels.enlarge(x, 3)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_tracing_records_the_same_with_a_cold_and_a_warm_cache() -> None:
    import_module("vsr_plugin.kernels.reference.cubic")._phases.cache_clear()
    trace: Any = torch.jit.trace(Enlarging(), torch.rand(1, 1, 6, 7))  # type: ignore[no-untyped-call]
    x = torch.rand(2, 1, 9, 5)
    assert torch.equal(trace(x), kernels.enlarge(x, 3))


def test_a_cache_filled_in_inference_serves_training() -> None:
    REFERENCE.taps.cache_clear()
    x = torch.rand(1, 1, 6, 7, requires_grad=True)
    with torch.inference_mode():
        kernels.resample(x, 2, 12, 2.0)
        kernels.enlarge(x, 2)
    (kernels.resample(x, 2, 12, 2.0).sum() + kernels.enlarge(x, 2).sum()).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.shape == x.shape


def test_the_facade_lists_what_it_has() -> None:
    assert all(hasattr(kernels, name) for name in kernels.__all__)
    assert kernels.__all__ == sorted(kernels.__all__, key=lambda name: (name.islower(), name))
