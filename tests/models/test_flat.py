"""Flat areas stay flat up to the border: no shipped network adds a pattern, or moves a level by half a code value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from vsr_plugin.backends import open_backend
from vsr_plugin.models import CLEAN, MODELS, TUNINGS, load_model
from vsr_plugin.passes import Pass

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS = range(16, 236)  # code values of 8 bits
FEWER = [*LEVELS[::24], LEVELS[-1]]
LIGHT = 150_000  # multiply-accumulates per input pixel: networks up to here are asked for every level
# Above half a code value: what is known to fail, and by how much at most.
KNOWN = {
    ("srdensenet", 4, CLEAN): 0.89,
    ("srresnet", 2, CLEAN): 0.55,
    ("srresnet", 4, CLEAN): 0.52,
}
SIDE = 12  # samples of a frame: none is farther than six from two borders


def _shipped() -> Iterator[Any]:
    for name, spec in MODELS.items():
        for scale in spec.scales:
            for tuned_for in TUNINGS:
                if spec.weights(scale, tuned_for) is None:
                    continue
                light = spec.cost[scale][1] <= LIGHT
                yield name, scale, tuned_for, LEVELS if light else FEWER
                if not light:
                    yield pytest.param(name, scale, tuned_for, LEVELS, marks=pytest.mark.slow)


@pytest.mark.parametrize(("name", "scale", "tuned_for", "levels"), list(_shipped()))
def test_flat_areas_stay_flat(name: str, scale: int, tuned_for: str, levels: Any) -> None:
    spec = MODELS[name]
    module = load_model(name, scale, tuned_for=tuned_for)
    enlarge = Pass(module, spec, scale, open_backend("eager"), torch.device("cpu"), "float32", self_ensemble=False)
    level = torch.tensor(levels).reshape(-1, 1, 1, 1)
    with torch.inference_mode():
        small = (level / 255).expand(-1, spec.channels, SIDE, SIDE)
        large = 255 * torch.cat([enlarge(some, len(some), None) for some in torch.split(small, 11)])
    phases = large.reshape(*large.shape[:2], SIDE, scale, SIDE, scale).mean((1, 2, 4)).flatten(1)
    worst = float((large - level).abs().max())
    spread = float((phases.amax(1) - phases.amin(1)).max())
    most = KNOWN.get((name, scale, tuned_for), 0.5)
    assert worst <= most
    assert spread <= most
