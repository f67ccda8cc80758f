"""A network that grows computes what it did, and all of it can learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from vsr_plugin.models import MODELS, build_model
from vsr_plugin.training.growth import grow
from vsr_plugin.training.initial import initialize
from vsr_plugin.training.recipes import RECIPES

_NARROW = {"vdsr": {"features": 8}, "red30": {"features": 8}, "srdensenet": {"growth": 4, "layers": 2}}
STEPS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("vdsr", {"layers": 3}, {"layers": 4}),
    ("vdsr", {"layers": 6}, {"layers": 12}),
    ("red30", {"pairs": 4}, {"pairs": 6}),
    ("red30", {"pairs": 5}, {"pairs": 7}),
    ("red30", {"pairs": 5}, {"pairs": 9}),
    ("drcn", {"features": 4, "recursions": 2}, {"features": 8, "recursions": 2}),
    ("drcn", {"features": 4, "recursions": 2}, {"features": 4, "recursions": 5}),
    ("drcn", {"features": 4, "recursions": 2}, {"features": 8, "recursions": 5}),
    ("srdensenet", {"blocks": 2}, {"blocks": 4}),
    ("mdsr", {"features": 8, "blocks": 2}, {"features": 8, "blocks": 5}),
    ("edsr", {"features": 8, "blocks": 2}, {"features": 8, "blocks": 3}),
]


def build(model: str, seed: int, options: dict[str, Any]) -> torch.nn.Module:
    """With weights of all layers that matter."""
    generator = torch.Generator().manual_seed(seed)
    spec = MODELS[model]
    module = build_model(replace(spec, options={**spec.options, **_NARROW.get(model, {}), **options}), 2)
    initialize("bicubic", module, torch.rand(2, spec.channels, 12, 12, generator=generator), generator)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return module


@pytest.mark.parametrize(("model", "before", "after"), STEPS)
def test_a_grown_network_computes_the_same_and_learns_everywhere(
    model: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    small, large = build(model, 0, before), build(model, 1, after)
    x = torch.rand(2, MODELS[model].channels, 9, 10, generator=torch.Generator().manual_seed(2))
    assert (small(x) - large(x)).abs().max() > 1e-3
    grow(small, large)
    assert torch.allclose(small(x), large(x), rtol=0, atol=1e-6)
    optimizer = torch.optim.SGD(large.parameters(), 1e-2)
    first = {name: parameter.detach().clone() for name, parameter in large.named_parameters()}
    used = {name for name in first if "x3" not in name and "x4" not in name}
    for _ in range(2):  # what is multiplied by zero learns once that is none any more
        optimizer.zero_grad()
        large(x).square().mean().backward()
        optimizer.step()
    assert not [name for name, parameter in large.named_parameters() if name in used and parameter.equal(first[name])]


def test_the_recipes_grow_by_steps_that_are_exact() -> None:
    stages = {model: [dict(stage.form) for stage in RECIPES[model, "fast"].stages] for model in MODELS}
    assert stages["vdsr"] == [{"layers": 6}, {"layers": 12}, {}]
    pairs = [form.get("pairs", 15) for form in stages["red30"]]
    assert [number % 2 for number in pairs] == [1] * len(pairs)
    for recipe in RECIPES.values():
        assert sum(stage.share for stage in recipe.stages) == pytest.approx(1.0)
        assert not recipe.stages[-1].form
        assert not recipe.stages[-1].draws
