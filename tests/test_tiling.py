"""A tiled picture is the picture."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from vsr_plugin import tiling
from vsr_plugin.backends.deconvolution import with_subpixel_deconvolutions
from vsr_plugin.models import ModelSpec, NetworkSpec, build_model

from .networks import EVERY, small


def tiled(network: nn.Module, x: Tensor, scale: int, tile: int, overlap: int, multiple_of: int = 1) -> Tensor:
    height, width = x.shape[2:]
    x = tiling.pad(x, multiple_of)
    grid = tiling.plan(x.shape[2], x.shape[3], tile, overlap, multiple_of)
    out = torch.full((*x.shape[:2], x.shape[2] * scale, x.shape[3] * scale), torch.nan, dtype=x.dtype)
    for index, window in enumerate(tiling.cut(x, grid)):
        assert window.shape[1:] == grid.size
        tiling.place(network(window[None])[0], index, out, grid, scale)
    return out[..., : height * scale, : width * scale]


def seeded(spec: ModelSpec, scale: int, dtype: torch.dtype) -> nn.Module:
    """Weights large enough that every layer matters, and no smaller receptive field would do."""
    torch.manual_seed(scale)
    module = build_model(spec, scale).to(dtype).eval()
    for parameter in module.parameters():
        if parameter.dim() == 4:
            nn.init.kaiming_uniform_(parameter)
    return module.requires_grad_(requires_grad=False)


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_tiles_equal_the_whole_in_float64(name: str, scale: int) -> None:
    spec = small(name, scale)
    module, overlap = seeded(spec, scale, torch.float64), spec.overlap[scale]
    x = torch.rand(1, spec.channels, 31, 41, dtype=torch.float64)
    whole = module(x)
    for tile in (9, 20):
        assert float((tiled(module, x, scale, tile, overlap) - whole).abs().max()) <= 1e-12


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_a_smaller_overlap_would_show(name: str, scale: int) -> None:
    spec = small(name, scale)
    module = seeded(spec, scale, torch.float64)
    x = torch.rand(1, spec.channels, 31, 41, dtype=torch.float64)
    difference = (tiled(module, x, scale, 9, spec.overlap[scale] - 1) - module(x)).abs().max()
    assert float(difference) > 1e-9


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_tiles_are_as_near_the_truth_as_the_whole_in_float32(name: str, scale: int) -> None:
    spec = small(name, scale)
    truth = seeded(spec, scale, torch.float64)
    module = with_subpixel_deconvolutions(seeded(spec, scale, torch.float64).float())
    x = torch.rand(1, spec.channels, 31, 41)
    exact = truth(x.double())
    whole, parts = module(x), tiled(module, x, scale, 12, spec.overlap[scale])
    assert float((parts - exact).abs().max()) <= 2 * float((whole - exact).abs().max())


@pytest.mark.parametrize("length", [1, 2, 9, 31, 32, 33, 40, 41, 97, 1000])
@pytest.mark.parametrize(("tile", "overlap"), [(1, 0), (1, 3), (8, 0), (8, 3), (32, 4), (33, 20), (500, 17)])
def test_every_sample_is_taken_once_and_sees_its_overlap(length: int, tile: int, overlap: int) -> None:
    grid = tiling.plan(length, 1, tile, overlap)
    size = grid.size[0]
    assert size <= max(tile + 2 * overlap, 1)
    taken: list[int] = []
    for window in grid.rows:
        assert window.start >= 0
        assert window.start + size <= length
        taken += range(window.start + window.first, window.start + window.last)
        assert window.start == 0 or window.first >= overlap
        assert window.start + size == length or size - window.last >= overlap
    assert taken == list(range(length))


def test_a_picture_in_one_window_is_whole() -> None:
    assert tiling.plan(100, 200, None, 4).size == (100, 200)
    assert len(tiling.plan(100, 200, None, 4)) == 1
    assert tiling.plan(72, 72, 64, 4).size == (72, 72)
    assert len(tiling.plan(73, 72, 64, 4)) == 2


@pytest.mark.parametrize("multiple_of", [2, 4, 8])
def test_windows_keep_to_multiples(multiple_of: int) -> None:
    for height, tile, overlap in product((48, 96, 104), (9, 16, 33), (0, 3, 10)):
        grid = tiling.plan(height, 56, tile, overlap, multiple_of)
        positions = [*grid.size, *(window.start for window in (*grid.rows, *grid.columns))]
        assert all(position % multiple_of == 0 for position in positions)


class Blocks(nn.Module):
    """Needs sides that are multiples of 4: every output sample is the mean of its block of 4 × 4."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2] % 4 == 0
        assert x.shape[3] % 4 == 0
        return nn.functional.interpolate(nn.functional.avg_pool2d(x, 4), scale_factor=8, mode="nearest")


def test_multiples_are_padded_by_repetition_and_cropped() -> None:
    spec = NetworkSpec(name="blocks", overlap={2: 3}, multiple_of=4)
    x = torch.rand(1, 1, 43, 58, dtype=torch.float64)
    padded = torch.cat([x, x[..., -1:, :]], 2)
    padded = torch.cat([padded, padded[..., -1:], padded[..., -1:]], 3)
    whole = Blocks()(padded)[..., :86, :116]
    for tile in (5, 12, 100):
        result = tiled(Blocks(), x, 2, tile, spec.overlap[2], spec.multiple_of)
        assert result.shape == whole.shape
        assert torch.equal(result, whole)
