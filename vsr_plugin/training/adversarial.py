"""SRGAN's training: a discriminator that learns to tell generated images from real ones, and a content loss.

Ledig et al., CVPR 2017, section 2.1 with figure 4 (the discriminator), 2.2 (the losses) and 3.2 (their units).
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError, WeightsError
from ..models.convert import read_weights
from ..models.srresnet import SRResNet

if TYPE_CHECKING:
    from pathlib import Path

_ADVERSARIAL = 1e-3  # weight of its loss relative to the content's
_WIDTHS = (64, 64, 128, 128, 256, 256, 512, 512)
# Convolutions between the poolings of VGG19 (Simonyan and Zisserman, ICLR 2015, table 1, column E).
_VGG19 = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Discriminator(nn.Module):
    """(N, 3, side, side) RGB in [0, 1] → (N, 1): how real it looks, as a logit; ``side`` is a multiple of 16."""

    def __init__(self, side: int = 96) -> None:
        super().__init__()
        self.convolutions = nn.Sequential()
        channels = 3
        for index, width in enumerate(_WIDTHS):
            stride = 1 + index % 2
            self.convolutions.append(nn.Conv2d(channels, width, 3, stride, padding=1, bias=index == 0))
            if index:
                self.convolutions.append(nn.BatchNorm2d(width))
            self.convolutions.append(nn.LeakyReLU(0.2))
            channels = width
        self.judge = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * (side // 16) ** 2, 1024), nn.LeakyReLU(0.2), nn.Linear(1024, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The logits of ``x``."""
        x = self.convolutions(2 * x - 1)  # (N, 512, side/16, side/16)
        result: Tensor = self.judge(x)
        return result


class VGG19(nn.Module):
    """The features φ_block,layer of VGG19, after the activation: (N, 3, H, W) RGB in [0, 1] → (N, C, H/2ᵏ, W/2ᵏ).

    They are divided by 12.75, which makes their loss about as large as that of the samples (section 3.2).

    Args:
        block: 1 to 5.
        layer: Convolution in the block, from 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, block: int, layer: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).reshape(3, 1, 1), persistent=False)
        self.features = nn.Sequential()
        channels = 3
        for number, widths in enumerate(_VGG19[:block], 1):
            if number > 1:
                self.features.append(nn.MaxPool2d(2))
            for width in widths[: layer if number == block else None]:
                self.features.extend([nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()])
                channels = width

    def forward(self, x: Tensor) -> Tensor:
        """The features of ``x``."""
        result: Tensor = self.features((x - self.mean) / self.std) / 12.75
        return result


class Samples(nn.Module):
    """The samples themselves: RGB in [0, 1] → in [−1, 1], whose squared error the paper takes (section 3.2)."""

    def forward(self, x: Tensor) -> Tensor:
        """The samples of ``x``."""
        return 2 * x - 1


class Body(nn.Module):
    """Features in place of VGG19's: those after the residual blocks of a trained SRResNet, applied to large images.

    (N, 3, H, W) RGB in [0, 1] → (N, 64, H, W).
    """

    def __init__(self, network: SRResNet) -> None:
        super().__init__()
        self.features = nn.Sequential(deepcopy(network.head), deepcopy(network.blocks))

    def forward(self, x: Tensor) -> Tensor:
        """The features of ``x``."""
        result: Tensor = self.features(x)
        return result


def open_features(content: str, vgg: Path | None, network: nn.Module) -> nn.Module:
    """The features whose distance is the content loss, frozen.

    Args:
        content: "mse" for the samples themselves, "vgg22" or "vgg54".
        vgg: torchvision's weights of VGG19; without them, the present features of ``network`` are used.
        network: The network that is about to be trained.

    Raises:
        UsageError: weights are given and not needed, or needed and the network is no SRResNet.
        WeightsError: the weights cannot be read, or are not those of VGG19.
    """
    features: nn.Module
    if content == "mse":
        if vgg is not None:
            raise UsageError("Expected no weights of VGG19 for a recipe that compares samples", vgg=None)
        features = Samples()
    elif vgg is None:
        if not isinstance(network, SRResNet):
            raise UsageError(
                "Expected weights of VGG19: only SRResNet's own features can stand in for its", vgg="vgg19.pth"
            )
        features = Body(network)
    else:
        features = VGG19(int(content[-2]), int(content[-1]))
        _load_vgg(features, vgg)
    return features.eval().requires_grad_(requires_grad=False)


def _load_vgg(features: nn.Module, path: Path) -> None:
    wanted = features.state_dict()
    state = {key: value for key, value in read_weights(path).tensors.items() if key in wanted}
    misfits = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
    if misfits:
        raise WeightsError(f"{path.name} is not torchvision's VGG19: {misfits[0]} is missing or of another shape")
    features.load_state_dict(state)


def unequal_phases(output: Tensor, target: Tensor, scale: int) -> Tensor:
    """The grid that sub-pixel convolutions make: the variance of a patch's mean errors, one for each phase.

    A discriminator takes it for the grain of photographs, and rewards it.

    Args:
        output: (N, C, H·scale, W·scale).
        target: A tensor of the same shape.
        scale: The network's.
    """
    means = F.pixel_unshuffle(output - target, scale).mean((2, 3))  # (N, C·scale²)
    return means.reshape(len(means), -1, scale * scale).var(2).mean()


class Adversary:
    """The discriminator with its optimizer, and the loss that it gives the network.

    Args:
        features: The result of `open_features`.
        side: Side of the large patches: a multiple of 16.
        scale: The network's.
        grid: Weight of `unequal_phases` relative to the content.
        device: The device for all of them.
        generator: A generator on the CPU, for the initial weights.
        precision: ``float32`` or ``bfloat16``: the arithmetic of the discriminator and the features.
    """

    def __init__(
        self,
        features: nn.Module,
        side: int,
        scale: int,
        grid: float,
        device: torch.device,
        generator: torch.Generator,
        precision: str = "float32",
    ) -> None:
        self._scale = scale
        self._grid = grid
        self._precision = precision
        self._features = features.to(device)
        self.discriminator = Discriminator(side)
        with torch.no_grad():
            for layer in self.discriminator.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
                    layer.weight.mul_((2.0 / layer.weight[0].numel()) ** 0.5)
                    if layer.bias is not None:
                        layer.bias.zero_()
        self.discriminator.to(device).to(memory_format=torch.channels_last)
        self._optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=1e-4, betas=(0.9, 0.999))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The network's loss: the distance of the features, −log D (section 2.2), and the grid."""
        content = F.mse_loss(self._run(self._features, output), self._run(self._features, target))
        self.discriminator.requires_grad_(requires_grad=False)
        looks_real = self._run(self.discriminator, output)
        self.discriminator.requires_grad_(requires_grad=True)
        loss = content + _ADVERSARIAL * F.softplus(-looks_real).mean()
        return loss + self._grid * unequal_phases(output, target, self._scale) if self._grid else loss

    def learn(self, output: Tensor, target: Tensor, lr: float) -> None:
        """Train the discriminator for one step; ``output`` is detached."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        real, made = self._run(self.discriminator, target), self._run(self.discriminator, output)
        loss = F.softplus(-real).mean() + F.softplus(made).mean()
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def _run(self, network: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._precision == "bfloat16"):
            result: Tensor = network(x)
        return result.float()

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to resume, including the features: they may be the network's own of the start."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "features": self._features.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state."""
        self.discriminator.load_state_dict(state["discriminator"])
        self._features.load_state_dict(state["features"])
        self._optimizer.load_state_dict(state["optimizer"])
