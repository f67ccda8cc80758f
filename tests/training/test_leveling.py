"""What a network adds to flat frames is taken away, and photographs stay what they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vsr_plugin.errors import UsageError
from vsr_plugin.models import load_model
from vsr_plugin.training.leveling import level

LEVELS = torch.arange(16, 236, 7) / 255


def detail(count: int) -> torch.Tensor:
    """Patches with edges and slopes."""
    noise = torch.rand(count, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(noise, size=(36, 36), mode="bilinear")


@torch.no_grad()
def moved(module: nn.Module) -> float:
    """Code values by which flat frames differ from what they were, away from their border."""
    flat = LEVELS.reshape(-1, 1, 1, 1).expand(-1, 1, 24, 24)
    large = module(flat)
    border = large.shape[-1] // 3
    return 255 * float((large - flat[..., :1, :1])[..., border:-border, border:-border].abs().max())


@pytest.mark.parametrize(("name", "scale", "noise"), [("espcn", 4, 0.05), ("lapsrn", 2, 1.0)])
def test_flat_frames_come_back_and_photographs_hardly_change(name: str, scale: int, noise: float) -> None:
    module = load_model(name, scale).requires_grad_(requires_grad=False)
    layer = [part for part in module.modules() if isinstance(part, nn.Conv2d)][-1]
    torch.manual_seed(1)
    layer.weight += noise * layer.weight.std() * torch.randn_like(layer.weight)
    patches = detail(24)
    with torch.no_grad():
        before = module(patches)
    assert moved(module) > 0.5
    level(module, patches)
    assert moved(module) <= 0.3
    with torch.no_grad():
        change = (module(patches) - before)[..., 24:-24, 24:-24]
    assert 255 * float(change.square().mean().sqrt()) < 1


class Mean(nn.Module):
    """One channel out of several."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(1, keepdim=True)


@pytest.mark.parametrize("last", [{"groups": 1}, {"groups": 2}, {"padding": 3}])
def test_a_network_that_ends_otherwise_is_refused(last: dict[str, int]) -> None:
    options = {"padding": 1} | last
    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, **options), Mean())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Expected a network"):
        level(module, detail(2))
