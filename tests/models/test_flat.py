"""Flat areas stay flat: no shipped network adds a pattern, or moves the level by a code value."""

from __future__ import annotations

import pytest
import torch

from vsr_plugin.models import CLEAN, MODELS, TUNINGS, load_model

SHIPPED = [
    (name, scale, tuned_for)
    for name, spec in MODELS.items()
    for scale in spec.scales
    for tuned_for in TUNINGS
    if spec.weights(scale, tuned_for) is not None
]
# Above half a code value of 8 bits: what is known to fail, and by how much at most.
KNOWN = {
    ("srdensenet", 4, CLEAN): 0.9,
    ("srresnet", 2, CLEAN): 0.6,
    ("srresnet", 4, CLEAN): 0.55,
}
SIDE = 24  # samples; the middle sees no edge of luma networks, and little of it through RGB networks


@pytest.mark.parametrize(("name", "scale", "tuned_for"), SHIPPED)
def test_flat_areas_stay_flat(name: str, scale: int, tuned_for: str) -> None:
    spec = MODELS[name]
    module = load_model(name, scale, tuned_for=tuned_for)
    margin = scale * (min(spec.overlap[scale] + 1, SIDE // 2 - 2) if spec.channels == 1 else 8)
    worst = spread = 0.0
    for level in range(16, 236, 31):
        with torch.inference_mode():
            large = 255 * module(torch.full((1, spec.channels, SIDE, SIDE), level / 255))
        middle = large[..., margin:-margin, margin:-margin]
        worst = max(worst, float((middle - level).abs().max()))
        count = middle.shape[-1] // scale
        phases = middle.reshape(-1, count, scale, count, scale).mean((0, 1, 3))
        spread = max(spread, float(phases.max() - phases.min()))
    most = KNOWN.get((name, scale, tuned_for), 0.5)
    assert worst <= most
    assert spread <= most
