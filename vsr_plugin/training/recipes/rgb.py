"""The training of RGB networks: one row per (model, recipe)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .recipe import Recipe, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

# Ledig et al., CVPR 2017, section 3.2: 96 × 96 large samples, batches of 16, Adam at 0.0001; then SRGAN from SRResNet,
# at a tenth of the rate in the second half.
_SRRESNET_PAPER = Recipe(
    steps=1_000_000,
    batch=16,
    patch={2: 48, 4: 24},
    lr=1e-4,
    schedule="constant",
    warmup=0.0,
    ema=0.0,
    initial="default",
    sizes=(1.0,),
    chained=False,
)
_SRRESNET_FAST = Recipe(
    steps=30_000, batch=16, patch={2: 32, 4: 24}, lr=1e-3, optimizer="soap", flat=0.25, sizes=(1.0, 0.7)
)
_SRGAN = replace(
    _SRRESNET_PAPER,
    steps=200_000,
    schedule="stairs",
    stairs=(0.5, 0.1),
    parent="srresnet",
    content="vgg54",
    initial="bicubic",
)
# The paper's SRGAN-MSE (table 1), which needs no weights of VGG19; patches of 64 × 64, as 96 × 96 cost more per step.
_SRGAN_FAST = replace(
    _SRGAN, steps=20_000, patch={2: 32, 4: 16}, lr=2e-4, ema=0.99, content="mse", grid=300.0, flat=0.125
)

# Lim et al., CVPRW 2017, section 4.2: small patches of 48 × 48, batches of 16, Adam at 0.0001, halved after two thirds;
# ×3 and ×4 start from ×2. MDSR takes one scale a step.
_EDSR_PAPER = Recipe(
    steps=300_000,
    batch=16,
    patch={2: 48, 3: 48, 4: 48},
    lr=1e-4,
    loss="l1",
    schedule="stairs",
    stairs=(2 / 3, 0.5),
    warmup=0.0,
    ema=0.0,
    initial="default",
    sizes=(1.0,),
)
_EDSR_FAST = Recipe(
    steps=30_000,
    batch=16,
    patch={2: 32, 3: 28, 4: 24},
    lr=1e-3,
    loss="l1",
    optimizer="soap",
    flat=0.0625,
    sizes=(1.0, 0.7),
    stages=(Stage(0.8), Stage(0.2, patch={2: 48, 3: 48, 4: 48})),
)

RGB: Mapping[tuple[str, str], Recipe] = {
    ("srresnet", "paper"): _SRRESNET_PAPER,
    ("srresnet", "fast"): _SRRESNET_FAST,
    ("srgan", "paper"): _SRGAN,
    ("srgan", "vgg22"): replace(_SRGAN, content="vgg22"),
    ("srgan", "mse"): replace(_SRGAN, content="mse"),
    ("srgan", "fast"): _SRGAN_FAST,
    ("edsr-baseline", "paper"): _EDSR_PAPER,
    ("edsr-baseline", "fast"): _EDSR_FAST,
    ("edsr", "paper"): _EDSR_PAPER,
    ("edsr", "fast"): replace(_EDSR_FAST, lr=3e-4),
    ("mdsr-baseline", "paper"): replace(_EDSR_PAPER, mixed="turns"),
    ("mdsr-baseline", "fast"): replace(_EDSR_FAST, mixed="turns"),
    ("mdsr", "paper"): replace(_EDSR_PAPER, mixed="turns"),
    ("mdsr", "fast"): replace(
        _EDSR_FAST,
        mixed="turns",
        lr=5e-4,
        stages=(Stage(0.5, {"blocks": 16}), Stage(0.25, {"blocks": 40}), Stage(0.25)),
    ),
}
