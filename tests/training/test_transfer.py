"""Weights to start from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file

from vsr_plugin.errors import WeightsError
from vsr_plugin.models.edsr import EDSR
from vsr_plugin.models.espcn import ESPCN
from vsr_plugin.models.lapsrn import LapSRN
from vsr_plugin.models.mdsr import MDSR
from vsr_plugin.models.srdensenet import SRDenseNet
from vsr_plugin.models.srresnet import SRResNet
from vsr_plugin.training.initial import initialize
from vsr_plugin.training.transfer import load_start

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

SIZE: Any = {"blocks": 1, "features": 8}
PATCHES = torch.rand(2, 1, 5, 6, generator=torch.Generator().manual_seed(0))


def keep(module: nn.Module, scale: int, path: Path) -> Path:
    save_file(module.state_dict(), path, {"scale": str(scale)})
    return path


@pytest.fixture
def image() -> torch.Tensor:
    """Smooth, so that enlarging it by another scale means something."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    return torch.stack([0.5 + 0.4 * torch.sin(x / 4), 0.5 + 0.4 * torch.cos(y / 5), (x + y) / 32])[None]


@pytest.mark.parametrize("scale", [3, 4])
def test_edsr_takes_its_image_along_to_another_scale(tmp_path: Path, image: torch.Tensor, scale: int) -> None:
    torch.manual_seed(0)
    first, second = EDSR(2, **SIZE), EDSR(scale, **SIZE)
    for module in (first, second):
        initialize("bicubic", module, image, torch.Generator().manual_seed(0))
    with torch.no_grad():
        parameters = dict(first.named_parameters())
        parameters["tail.bias"].add_(torch.tensor([0.2, -0.1, 0.1]))  # something that can be recognised
        parameters["upsample.0.weight"].mul_(0.5)
    load_start(second, keep(first, 2, tmp_path / "x2.safetensors"), (scale,), (), image)
    with torch.no_grad():
        small, large = first(image), second(image)
    inside = (..., slice(3, -3), slice(3, -3))
    assert float((large.mean((2, 3)) - small.mean((2, 3))).abs().max()) < 0.02
    shrunk = torch.nn.functional.interpolate(large, small.shape[2:], mode="area")
    assert float((shrunk - small)[inside].abs().max()) < 0.05


def test_mdsr_starts_as_edsr(tmp_path: Path, image: torch.Tensor) -> None:
    torch.manual_seed(0)
    first, second = EDSR(2, **SIZE), MDSR(2, **SIZE)
    with torch.no_grad():
        for name, parameter in second.preprocess.named_parameters():
            if "conv2" in name:
                parameter.zero_()
    load_start(second, keep(first, 2, tmp_path / "x2.safetensors"), (2, 3, 4), (), image)
    torch.testing.assert_close(second(image), first(image))


@pytest.mark.parametrize("scale", [2, 4])
def test_srresnet_starts_as_edsr(tmp_path: Path, image: torch.Tensor, scale: int) -> None:
    torch.manual_seed(0)
    first, second = EDSR(scale, **SIZE), SRResNet(scale, **SIZE)
    load_start(second, keep(first, scale, tmp_path / "edsr.safetensors"), (scale,), (), image)
    inside = (..., slice(7 * scale, -7 * scale), slice(7 * scale, -7 * scale))  # outside, EDSR sees the mean color
    expected = first(image)[inside]
    torch.testing.assert_close(second(image)[inside], expected)
    second.train()  # as its normalisations see the same image, so do those of training
    torch.testing.assert_close(second(image)[inside], expected)


def test_lapsrn_repeats_its_level(tmp_path: Path) -> None:
    first, second = LapSRN(2, depth=1, features=4), LapSRN(4, depth=1, features=4)
    load_start(second, keep(first, 2, tmp_path / "x2.safetensors"), (4,), (), PATCHES)
    x = torch.rand(1, 1, 5, 6)
    torch.testing.assert_close(second.pyramid(x)[0], first(x))
    assert torch.equal(second.state_dict()["levels.1.body.0.weight"], first.state_dict()["levels.0.body.0.weight"])


@pytest.mark.parametrize(("forms", "seen"), [("all low", (0, 3)), ("all high", (3,)), ("all low high", (3,))])
def test_srdensenet_with_fewer_skips_starts_as_the_one_with_more(
    tmp_path: Path, forms: str, seen: tuple[int, ...]
) -> None:
    size: Any = {"blocks": 3, "layers": 2, "growth": 2, "features": 6}
    torch.manual_seed(0)
    first, *others = (SRDenseNet(4, form, **size) for form in forms.split())
    with torch.no_grad():  # zero what the second does not see, and let the ReLU between the products do nothing
        parameters = dict(first.named_parameters())
        for block in (1, 2):
            parameters[f"blocks.{block}.layers.0.0.weight"][:, :-4] = 0
        bottleneck = parameters["bottleneck.0.weight"].abs_()
        for index in {0, 1, 2, 3} - set(seen):
            bottleneck[:, 4 * index : 4 * index + 4] = 0
        parameters["bottleneck.0.bias"].zero_()
    before = first
    for form in others:
        load_start(form, keep(before, 4, tmp_path / "start.safetensors"), (4,), (), PATCHES)
        before = form
    torch.testing.assert_close(before(PATCHES), first(PATCHES))


def test_what_depends_on_the_scale_stays_behind(tmp_path: Path) -> None:
    first, second = ESPCN(2), ESPCN(3)
    own = second.conv3.weight.clone()
    load_start(second, keep(first, 2, tmp_path / "x2.safetensors"), (3,), ("conv3",), PATCHES)
    assert torch.equal(second.conv1.weight, first.conv1.weight)
    assert torch.equal(second.conv3.weight, own)
    with pytest.raises(WeightsError, match=r"does not fit this network at ×3: conv3\.bias, conv3\.weight"):
        load_start(second, tmp_path / "x2.safetensors", (3,), (), PATCHES)
