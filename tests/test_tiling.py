"""A tiled picture is the picture."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vsr_plugin import tiling
from vsr_plugin.models import ModelSpec, build_model
from vsr_plugin.models.deconvolution import with_subpixel_deconvolutions

from .networks import CHOSEN, Mirrored, small


def tiled(network: nn.Module, x: Tensor, scale: int, tile: int | None, overlap: int, multiple_of: int = 1) -> Tensor:
    grid = tiling.plan(x.shape[2], x.shape[3], tile, overlap, multiple_of)
    x = tiling.extend(x, grid)
    out = torch.full((*x.shape[:2], x.shape[2] * scale, x.shape[3] * scale), torch.nan, dtype=x.dtype)
    for index, window in enumerate(tiling.cut(x, grid)):
        assert window.shape[1:] == grid.size
        tiling.place(network(window[None])[0], index, out, grid, scale)
    large: Tensor = tiling.crop(out, grid, scale)
    return large


def seeded(spec: ModelSpec, scale: int, dtype: torch.dtype) -> nn.Module:
    """Weights large enough that every layer matters, and no smaller receptive field would do."""
    torch.manual_seed(scale)
    module = build_model(spec, scale).to(dtype).eval()
    for parameter in module.parameters():
        if parameter.dim() == 4:
            nn.init.kaiming_uniform_(parameter)
    return module.requires_grad_(requires_grad=False)


@pytest.mark.parametrize(("name", "scale"), CHOSEN)
def test_tiles_equal_the_whole_in_float64(name: str, scale: int) -> None:
    spec = small(name, scale)
    module, overlap = seeded(spec, scale, torch.float64), spec.overlap[scale]
    x = torch.rand(1, spec.channels, 31, 41, dtype=torch.float64)
    whole = Mirrored(module, overlap, scale)(x)
    for tile in (9, 20):
        assert float((tiled(module, x, scale, tile, overlap) - whole).abs().max()) <= 1e-12


@pytest.mark.parametrize(("name", "scale"), CHOSEN)
def test_a_smaller_overlap_would_show(name: str, scale: int) -> None:
    spec = small(name, scale)
    module = seeded(spec, scale, torch.float64)
    x = torch.rand(1, spec.channels, 31, 41, dtype=torch.float64)
    overlap = spec.overlap[scale] - 1
    difference = (tiled(module, x, scale, 9, overlap) - Mirrored(module, overlap, scale)(x)).abs().max()
    assert float(difference) > 1e-9


@pytest.mark.parametrize(("name", "scale"), CHOSEN)
def test_tiles_are_as_near_the_truth_as_the_whole_in_float32(name: str, scale: int) -> None:
    spec = small(name, scale)
    truth = seeded(spec, scale, torch.float64)
    module = with_subpixel_deconvolutions(seeded(spec, scale, torch.float64).float())
    x = torch.rand(1, spec.channels, 31, 41)
    overlap = spec.overlap[scale]
    exact = Mirrored(truth, overlap, scale)(x.double())
    whole, parts = Mirrored(module, overlap, scale)(x), tiled(module, x, scale, 12, overlap)
    assert float((parts - exact).abs().max()) <= 2 * float((whole - exact).abs().max())


@pytest.mark.parametrize("length", [1, 2, 9, 31, 32, 33, 40, 41, 97, 1000])
@pytest.mark.parametrize(("tile", "overlap"), [(1, 0), (1, 3), (8, 0), (8, 3), (32, 4), (33, 20), (500, 17)])
def test_every_sample_is_taken_once_and_sees_its_overlap(length: int, tile: int, overlap: int) -> None:
    grid = tiling.plan(length, 1, tile, overlap)
    size, length = grid.size[0], grid.extended[0]
    assert size <= max(tile + 2 * overlap, 1)
    taken: list[int] = []
    for window in grid.rows:
        assert window.start >= 0
        assert window.start + size <= length
        taken += range(window.start + window.first, window.start + window.last)
        assert window.start == 0 or window.first >= overlap
        assert window.start + size == length or size - window.last >= overlap
    assert taken == list(range(length))


def test_a_frame_in_one_window_is_whole() -> None:
    assert tiling.plan(100, 200, None, 4).size == (108, 208)
    assert len(tiling.plan(100, 200, None, 4)) == 1
    assert tiling.plan(64, 64, 64, 4).size == (72, 72)
    assert len(tiling.plan(65, 64, 64, 4)) == 2


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (8, 9), (30, 5)])
@pytest.mark.parametrize(("overlap", "margin"), [(0, 0), (3, 3), (20, 8)])
def test_frames_are_extended_by_their_mirror_image(
    dtype: torch.dtype, height: int, width: int, overlap: int, margin: int
) -> None:
    x = torch.randint(0, 256, (2, 3, height, width)).to(dtype)
    grid = tiling.plan(height, width, None, overlap)
    beyond = ((0, 0), (0, 0), (margin, margin), (margin, margin))
    for given in (x, x.numpy()):
        extended = tiling.extend(given, grid)
        assert type(extended) is type(given)
        assert np.array_equal(extended, np.pad(x.numpy(), beyond, "symmetric"))
        assert np.array_equal(tiling.crop(extended, grid, 1), x)


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


@pytest.mark.parametrize("tile", [None, 5, 12, 100])
def test_multiples_are_mirrored_and_cropped(tile: int | None) -> None:
    x = torch.rand(1, 1, 43, 58, dtype=torch.float64)
    grid = tiling.plan(43, 58, tile, 3, 4)
    assert (grid.margin, grid.extended) == (4, (52, 68))
    extended = tiling.extend(x, grid)
    assert np.array_equal(extended.numpy(), np.pad(x.numpy(), ((0, 0), (0, 0), (4, 5), (4, 6)), "symmetric"))
    whole = Blocks()(extended)[..., 8 : 8 + 86, 8 : 8 + 116]
    assert torch.equal(tiled(Blocks(), x, 2, tile, 3, 4), whole)
