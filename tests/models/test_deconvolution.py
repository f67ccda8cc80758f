"""The sub-pixel form of a deconvolution has the deconvolution's numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vsr_plugin.models import MODELS, build_model
from vsr_plugin.models.deconvolution import SubpixelDeconvolution, with_subpixel_deconvolutions


@pytest.mark.parametrize(
    ("size", "r", "padding", "extra"),
    [(9, 2, 4, 1), (9, 3, 3, 0), (9, 4, 3, 1), (4, 2, 1, 0), (2, 2, 0, 0), (3, 2, 1, 1), (6, 3, 2, 1)],
)
def test_it_equals_the_deconvolution(size: int, r: int, padding: int, extra: int) -> None:
    torch.manual_seed(size)
    layer = nn.ConvTranspose2d(5, 3, size, r, padding, extra).double()
    x = torch.randn(2, 5, 7, 6, dtype=torch.float64)
    fast = with_subpixel_deconvolutions(layer)
    assert isinstance(fast, SubpixelDeconvolution)
    assert torch.allclose(fast(x), layer(x), rtol=0, atol=1e-13)


def test_it_takes_the_place_of_a_networks_deconvolutions() -> None:
    for name in ("fsrcnn", "fsrcnn-s"):
        for scale in MODELS[name].scales:
            module = build_model(MODELS[name], scale).double()
            fast = with_subpixel_deconvolutions(module)
            assert not any(isinstance(part, nn.ConvTranspose2d) for part in fast.modules())
            assert any(isinstance(part, nn.ConvTranspose2d) for part in module.modules())
            x = torch.rand(1, 1, 9, 11, dtype=torch.float64)
            assert torch.allclose(fast(x), module(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(2, 2, 3, 2, 1),
        nn.ConvTranspose2d(2, 2, 4, 2, 1, groups=2),
        nn.ConvTranspose2d(2, 2, 3, 2, 2, 1, dilation=2),
        nn.ConvTranspose2d(2, 2, (4, 2), 2, (1, 0)),
    ],
)
def test_other_deconvolutions_stay(layer: nn.ConvTranspose2d) -> None:
    (left,) = with_subpixel_deconvolutions(nn.Sequential(layer)).children()
    assert isinstance(left, nn.ConvTranspose2d)
