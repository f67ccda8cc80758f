"""SRGAN's discriminator, its features, and what they are trained for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from vsr_plugin.errors import UsageError, WeightsError
from vsr_plugin.models.cost import parameters
from vsr_plugin.models.edsr import EDSR
from vsr_plugin.models.srresnet import SRResNet
from vsr_plugin.training.adversarial import VGG19, Adversary, Discriminator, open_features, unequal_phases

if TYPE_CHECKING:
    from pathlib import Path


def test_discriminator_and_features_have_the_papers_size() -> None:
    with torch.device("meta"):
        assert parameters(Discriminator(96)) == 23_563_649
        assert parameters(VGG19(5, 4)) == 20_024_384
        assert parameters(VGG19(2, 2)) == 260_160


def test_the_discriminator_gives_one_logit_for_an_image() -> None:
    assert Discriminator(32)(torch.rand(2, 3, 32, 32)).shape == (2, 1)


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights under torchvision's names, with layers beyond φ2,2 and the classifier's first."""
    torch.manual_seed(0)
    state = VGG19(3, 1).state_dict() | {"classifier.0.weight": torch.rand(3, 4)}
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    return path


def test_vgg_is_read_by_torchvisions_names(vgg: Path, tmp_path: Path) -> None:
    features = open_features("vgg22", vgg, nn.Identity())
    assert isinstance(features, VGG19)
    state = torch.load(vgg, weights_only=True)
    assert torch.equal(features.state_dict()["features.7.weight"], state["features.7.weight"])  # conv2_2
    assert not any(parameter.requires_grad for parameter in features.parameters())
    x = torch.rand(1, 3, 8, 8)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = features.features((x - mean) / std) / 12.75
    torch.testing.assert_close(features(x), expected)
    assert expected.shape == (1, 128, 4, 4)
    with pytest.raises(WeightsError, match=r"vgg19\.pth is not torchvision's VGG19: features\.12\.weight is missing"):
        open_features("vgg54", vgg, nn.Identity())


def test_the_networks_own_features_stand_in_for_vgg() -> None:
    network = SRResNet(2, blocks=1, features=4)
    features = open_features("vgg54", None, network)
    x = torch.rand(1, 3, 8, 8)
    before = features(x)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()  # what is trained does not move what it is compared by
    torch.testing.assert_close(features(x), before)
    with pytest.raises(UsageError, match="Expected weights of VGG19"):
        open_features("vgg54", None, EDSR(2, blocks=1, features=4))
    torch.testing.assert_close(open_features("mse", None, network)(x), 2 * x - 1)  # the paper measures in [−1, 1]


def test_the_two_pull_in_opposite_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    adversary = Adversary(nn.Identity(), 16, 2, 0.0, torch.device("cpu"), generator)
    real, made = torch.rand(8, 3, 16, 16, generator=generator), torch.full((8, 3, 16, 16), 0.5)
    for _ in range(5):
        adversary.learn(made, real, 1e-3)
    assert bool(adversary.discriminator(real).mean() > adversary.discriminator(made).mean())
    output = made.clone().requires_grad_()
    learnt = [
        parameter.grad.clone() for parameter in adversary.discriminator.parameters() if parameter.grad is not None
    ]
    adversary.loss(output, output.detach()).backward()  # type: ignore[no-untyped-call] # content says nothing: what is left is −log D
    assert output.grad is not None
    assert output.grad.any()
    after = [parameter.grad for parameter in adversary.discriminator.parameters()]
    assert all(after is not None and torch.equal(before, after) for before, after in zip(learnt, after, strict=True))
    assert float(adversary.loss(real, real)) < float(adversary.loss(made, made))


def test_a_grid_of_the_scales_size_costs_and_grain_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(4, 3, 32, 32, generator=generator)
    grid = torch.zeros(1, 1, 32, 32)
    grid[..., ::4, ::4] = 0.02
    grain = 0.005 * torch.randn(target.shape, generator=generator)  # as much energy, without a period
    assert float(grain.square().mean()) == pytest.approx(float(grid.square().mean()), rel=0.05)
    assert unequal_phases(target + grid, target, 4) > 20 * unequal_phases(target + grain, target, 4)
    assert float(unequal_phases(target + 0.02, target, 4)) == pytest.approx(0, abs=1e-12)  # a level is no grid
