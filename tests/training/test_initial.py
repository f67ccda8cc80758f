"""First weights."""

from __future__ import annotations

import pytest
import torch

from vsr_plugin.kernels import enlarge
from vsr_plugin.models import MODELS, architecture, build_model
from vsr_plugin.models.drcn import DRCN
from vsr_plugin.training.initial import initialize


@pytest.fixture(scope="module")
def patches() -> torch.Tensor:
    """Smooth patches with the luma's range."""
    noise = torch.rand(16, 1, 10, 10, generator=torch.Generator().manual_seed(3))
    return enlarge(noise, 2).clamp(0.06, 0.92)


# SRDenseNet_H has no way past its blocks; EDSR and MDSR are their baselines, larger.
EVERY = [
    (name, scale)
    for name, spec in MODELS.items()
    if name not in ("srdensenet-h", "edsr", "mdsr") and hasattr(architecture(spec), "start_from_bicubic")
    for scale in spec.scales
]


@pytest.mark.parametrize(("model", "scale"), EVERY)
def test_a_network_from_bicubic_begins_near_bicubic(
    model: str, scale: int, patches: torch.Tensor, small_networks: None
) -> None:
    module = build_model(MODELS[model], scale).eval()
    patches = patches.repeat(1, MODELS[model].channels, 1, 1)
    initialize("bicubic", module, patches, torch.Generator().manual_seed(0))
    with torch.no_grad():
        output, bicubic = module(patches), enlarge(patches, scale)
    nearest = patches.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    inside = (..., slice(4 * scale, -4 * scale), slice(4 * scale, -4 * scale))
    assert (output - bicubic)[inside].square().mean() < (nearest - bicubic)[inside].square().mean()


@pytest.mark.parametrize("start", ["bicubic", "default", "gaussian", "msra"])
@pytest.mark.parametrize("model", ["espcn", "fsrcnn", "srcnn"])
def test_first_weights_depend_on_the_seed_alone(model: str, start: str, patches: torch.Tensor) -> None:
    def weights(seed: int) -> torch.Tensor:
        module = build_model(MODELS[model], 3)
        initialize(start, module, patches, torch.Generator().manual_seed(seed))
        return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_a_recursion_starts_as_the_identity(patches: torch.Tensor, small_networks: None) -> None:
    module = build_model(MODELS["drcn"], 2)
    initialize("bicubic", module, patches, torch.Generator().manual_seed(0))
    assert isinstance(module, DRCN)
    features = torch.rand(1, module.inference.in_channels, 6, 7)
    assert torch.equal(module.inference(features), features)


def test_the_papers_weights_have_the_papers_spread(patches: torch.Tensor) -> None:
    srcnn, fsrcnn = build_model(MODELS["srcnn"], 3), build_model(MODELS["fsrcnn"], 3)
    initialize("gaussian", srcnn, patches, torch.Generator().manual_seed(0))
    initialize("msra", fsrcnn, patches, torch.Generator().manual_seed(0))
    weights = {name: value.detach() for m in (srcnn, fsrcnn) for name, value in m.named_parameters()}
    assert float(weights["conv2.weight"].std()) == pytest.approx(0.001, rel=0.05)
    assert float(weights["deconvolution.weight"].std()) == pytest.approx(0.001, rel=0.05)
    assert float(weights["features.0.weight"].std()) == pytest.approx((2 / 1.0625 / 25) ** 0.5, rel=0.1)
    assert not weights["conv1.bias"].any()
