"""Networks of the catalogue with weights of a seed, most of them with fewer layers and channels."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from vsr_plugin.models import MODELS, ModelSpec, build_model
from vsr_plugin.models.cost import radius

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

EVERY = [(name, scale) for name, spec in MODELS.items() for scale in spec.scales]


def _chosen() -> Iterator[Any]:
    """All, but slow ones except one of each architecture, at scales that differ; shared by tests that compile."""
    seen: list[str] = []
    for name, scale in EVERY:
        spec = MODELS[name]
        if spec.architecture not in seen and scale == spec.scales[len(seen) % len(spec.scales)]:
            seen.append(spec.architecture)
            yield pytest.param(name, scale, id=f"{name}_x{scale}")
        else:
            yield pytest.param(name, scale, id=f"{name}_x{scale}", marks=pytest.mark.slow)


CHOSEN = list(_chosen())
# Architecture → fewer layers and channels of it. What a network is made of is all there.
SMALL: dict[str, dict[str, Any]] = {
    "vdsr:VDSR": {"layers": 4, "features": 8},
    "drcn:DRCN": {"features": 8, "recursions": 3},
    "red:RED": {"pairs": 4, "features": 8},
    "drrn:DRRN": {"units": 3, "features": 8},
    "lapsrn:LapSRN": {"depth": 2, "features": 8},
    "srdensenet:SRDenseNet": {"blocks": 2, "layers": 2, "growth": 4, "features": 8},
    "srresnet:SRResNet": {"blocks": 2, "features": 8},
    "edsr:EDSR": {"blocks": 2, "features": 8},
    "mdsr:MDSR": {"blocks": 2, "features": 8},
}


@cache
def small(name: str, scale: int) -> ModelSpec:
    """The row of a model for its small form, which sees less far."""
    spec = MODELS[name]
    if spec.architecture not in SMALL:
        return spec
    spec = replace(spec, options={**spec.options, **SMALL[spec.architecture]})
    return replace(spec, overlap={scale: radius(build_model(spec, scale), scale, spec.channels)})


def seeded(spec: ModelSpec, scale: int) -> nn.Module:
    """A network as torch makes it, which is the same for every call."""
    torch.manual_seed(scale)
    return build_model(spec, scale).eval().requires_grad_(requires_grad=False)


class Mirrored(nn.Module):
    """What the `Upscaler` makes of frames: a network on frames extended by their mirror image, the result cropped.

    Args:
        network: The network itself.
        overlap: Its receptive-field radius.
        scale: Its scale.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], overlap: int, scale: int) -> None:
        super().__init__()
        self.network = network
        self.margin = min(8, overlap)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        m, s = self.margin, self.scale
        (height, width), beyond = x.shape[2:], ((0, 0), (0, 0), (m, m), (m, m))
        large = self.network(torch.from_numpy(np.pad(x.numpy(), beyond, "symmetric")))
        return large[:, :, m * s : (m + height) * s, m * s : (m + width) * s]
