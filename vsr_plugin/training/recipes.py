"""How each network is trained, as data: one row per (model, recipe) in `RECIPES`.

``paper`` follows the network's paper as closely as a fixed number of steps allows; ``fast`` is our own and reaches more
in minutes than ``paper`` in days; ``adam`` is ``fast`` without SOAP; ``deconvolution`` is FSRCNN's way to another
scale, given weights for one (``--from``): everything else is shared between scales and stays as it is.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from ..errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything about a training but the pictures, the scale, and the seed.

    Attributes:
        steps: How many, unless the user says otherwise.
        batch: Patches per step.
        patch: Rows and columns of a small patch, per scale.
        lr: Peak learning rate.
        view: What is compared, by name in `losses.VIEWS`.
        loss: How, by name in `losses.LOSSES`.
        optimizer: By name in `trainer.OPTIMIZERS`.
        schedule: The learning rate after warm-up: ``constant``, ``cosine`` down to 0, ``geometric`` down to lr/100, or
            ``stairs``.
        stairs: (part of the run, factor): after each such part, the learning rate is multiplied by the factor.
        warmup: Part of the steps in which the learning rate rises from 0.
        multipliers: Start of a parameter's name → factor of its learning rate.
        trained: Starts of the names of the parameters that are trained.
        rescaled: Starts of the names of those that depend on the scale: new when ``--from`` has another scale.
        ema: Decay of the average of the weights that is kept and validated; 0 keeps the last weights.
        decay: Of the weights: what of them is added to their gradient.
        clip: θ of adjustable gradient clipping: each gradient stays within ±θ/learning rate; 0 does without.
        mixed: Of a model that serves all scales, whether each step sees all of them in its batch, or takes turns.
        parent: Model whose weights of the same scale are the first ones; it is trained before, if none are given.
        content: For training against a discriminator: what it is added to, ``vgg54``, ``vgg22`` or ``mse``.
        chained: Whether, of several scales that are trained one after another, the others start from the first.
        initial: First weights, by name in `initial.STARTS`.
        sizes: Each picture is there at each of these sizes; its eight orientations are always there.
    """

    steps: int
    batch: int
    patch: Mapping[int, int]
    lr: float
    view: str = "whole"
    loss: str = "mse"
    optimizer: str = "adam"
    schedule: Literal["constant", "cosine", "geometric", "stairs"] = "cosine"
    stairs: tuple[float, float] = (1.0, 1.0)
    warmup: float = 0.02
    multipliers: Mapping[str, float] = field(default_factory=dict)
    trained: tuple[str, ...] = ("",)
    rescaled: tuple[str, ...] = ()
    ema: float = 0.999
    decay: float = 0.0
    clip: float = 0.0
    mixed: Literal["batch", "turns"] = "batch"
    parent: str = ""
    content: Literal["", "vgg54", "vgg22", "mse"] = ""
    chained: bool = True
    initial: str = "bicubic"
    sizes: tuple[float, ...] = (1.0, 0.8, 0.6)


# Dong et al., ECCV 2014, section 4; TPAMI 2016, sections 3.3 and 4.1: sub-images of 33 × 33 enlarged samples, here plus
# the 2·scale on each side that saw the patch's edge; conv3 learns at a tenth of the rate; loss and rates are Caffe's.
_SRCNN_PAPER = Recipe(
    steps=1_000_000,
    batch=128,
    patch={2: 21, 3: 15, 4: 13},
    lr=1e-4,
    view="valid",
    loss="euclidean",
    optimizer="sgd",
    schedule="constant",
    warmup=0.0,
    multipliers={"conv3": 0.1},
    ema=0.0,
    initial="gaussian",
    sizes=(1.0,),
    chained=False,
)
_SRCNN_FAST = Recipe(steps=10_000, batch=16, patch={2: 36, 3: 24, 4: 18}, lr=1e-3, view="valid", optimizer="soap")

# Dong et al., ECCV 2016, section 4.1: patches of 10, 7 and 6 samples; scales 0.9 … 0.6 and rotations; the
# deconvolution learns at a tenth of the rate. Adam at the paper's rates: with momentum alone they diverge here.
_FSRCNN_PAPER = Recipe(
    steps=1_000_000,
    batch=128,
    patch={2: 10, 3: 7, 4: 6},
    lr=1e-3,
    schedule="constant",
    warmup=0.0,
    multipliers={"deconvolution": 0.1},
    rescaled=("deconvolution",),
    ema=0.0,
    initial="msra",
    sizes=(1.0, 0.9, 0.8, 0.7, 0.6),
)
_FSRCNN_FAST = Recipe(
    steps=30_000, batch=16, patch={2: 24, 3: 24, 4: 24}, lr=3e-3, optimizer="soap", rescaled=("deconvolution",)
)

# Shi et al., CVPR 2016, sections 2.2 and 3.2: patches of 17 samples, the rate falls from 0.01 to 0.0001, the last layer
# learns at a tenth of it; the labels are shuffled, not the output. Small pictures are made as everywhere here: the
# paper blurs and leaves samples out.
_ESPCN_PAPER = Recipe(
    steps=1_000_000,
    batch=16,
    patch={2: 17, 3: 17, 4: 17},
    lr=1e-2,
    view="subpixels",
    optimizer="sgd",
    schedule="geometric",
    warmup=0.0,
    multipliers={"conv3": 0.1},
    rescaled=("conv3",),
    ema=0.0,
    initial="default",
    sizes=(1.0,),
    chained=False,
)
_ESPCN_FAST = Recipe(
    steps=20_000,
    batch=16,
    patch={2: 24, 3: 24, 4: 24},
    lr=3e-3,
    view="subpixels",
    optimizer="soap",
    rescaled=("conv3",),
)

# Kim et al., CVPR 2016, sections 3.2 and 5: 41 × 41 enlarged samples, batches of 64 over all scales, momentum with a
# weight decay of 0.0001, 80 epochs from a rate of 0.1 that falls tenfold every 20, gradients clipped to ±θ/rate.
_VDSR_PAPER = Recipe(
    steps=240_000,
    batch=64,
    patch={2: 20, 3: 14, 4: 10},
    lr=0.1,
    loss="euclidean",
    optimizer="sgd",
    schedule="stairs",
    stairs=(0.25, 0.1),
    warmup=0.0,
    ema=0.0,
    decay=1e-4,
    clip=0.01,
    initial="msra",
    sizes=(1.0, 0.7, 0.5),
)
_VDSR_FAST = Recipe(
    steps=30_000, batch=24, patch={2: 24, 3: 16, 4: 12}, lr=1e-3, optimizer="soap", sizes=(1.0, 0.7), initial="bicubic"
)

# Kim et al., CVPR 2016 (DRCN), section 4.2: as VDSR, from a rate of 0.01 that there falls when validation stands still;
# the recursion starts as the identity. Without clipping, of which the paper says nothing, this rate diverges.
_DRCN_PAPER = replace(_VDSR_PAPER, view="recursions", lr=0.01, clip=0.001, initial="bicubic", sizes=(1.0,))
_DRCN_FAST = replace(_VDSR_FAST, view="recursions", batch=12, lr=3e-4, steps=10_000)

# Mao et al., NIPS 2016, section 4: 50 × 50 enlarged samples, Adam at 0.0001.
_RED_PAPER = Recipe(
    steps=500_000,
    batch=64,
    patch={2: 25, 3: 17, 4: 13},
    lr=1e-4,
    schedule="constant",
    warmup=0.0,
    ema=0.0,
    initial="msra",
    sizes=(1.0,),
)
_RED_FAST = replace(_VDSR_FAST, batch=12, lr=5e-4, steps=20_000)

# Tai et al., CVPR 2017, section 4.1: 31 × 31 enlarged samples, batches of 128 over all scales, a rate of 0.1 that
# halves every 10 epochs of 50, gradients clipped to ±0.01/rate.
_DRRN_PAPER = replace(
    _VDSR_PAPER, batch=128, patch={2: 15, 3: 10, 4: 8}, steps=326_800, stairs=(0.2, 0.5), sizes=(1.0,)
)
_DRRN_FAST = replace(_VDSR_FAST, batch=12, lr=5e-4, steps=20_000)

# Lai et al., CVPR 2017, section 3.3: 128 × 128 large samples, batches of 64, a rate of 0.00001 for the summed loss that
# halves every 50 epochs, of 100 steps in the authors' program, sizes from 0.5 to 1.
_LAPSRN_PAPER = Recipe(
    steps=50_000,
    batch=64,
    patch={2: 64, 4: 32, 8: 16},
    lr=1e-5,
    view="pyramid",
    loss="charbonnier sum",
    optimizer="sgd",
    schedule="stairs",
    stairs=(0.1, 0.5),
    warmup=0.0,
    ema=0.0,
    decay=1e-4,
    initial="msra",
    sizes=(1.0, 0.9, 0.8, 0.7, 0.6, 0.5),
    chained=False,
)
_LAPSRN_FAST = Recipe(
    steps=40_000,
    batch=16,
    patch={2: 32, 4: 24, 8: 16},
    lr=1e-3,
    view="pyramid",
    loss="charbonnier",
    optimizer="soap",
    sizes=(1.0, 0.7),
)

# Tong et al., ICCV 2017, section 4.1: 100 × 100 large samples, batches of 32, Adam at 0.0001, a tenth of it after 30 of
# 60 epochs.
_SRDENSENET_PAPER = Recipe(
    steps=500_000,
    batch=32,
    patch={2: 50, 4: 25},
    lr=1e-4,
    schedule="stairs",
    stairs=(0.5, 0.1),
    warmup=0.0,
    ema=0.0,
    initial="msra",
    sizes=(1.0,),
    chained=False,
)
_SRDENSENET_FAST = Recipe(steps=25_000, batch=8, patch={2: 32, 4: 24}, lr=5e-4, optimizer="soap", sizes=(1.0, 0.7))

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
_SRRESNET_FAST = Recipe(steps=30_000, batch=16, patch={2: 32, 4: 24}, lr=1e-3, optimizer="soap", sizes=(1.0, 0.7))
_SRGAN = replace(
    _SRRESNET_PAPER,
    steps=200_000,
    schedule="stairs",
    stairs=(0.5, 0.1),
    parent="srresnet",
    content="vgg54",
    initial="bicubic",
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
    steps=30_000, batch=16, patch={2: 32, 3: 28, 4: 24}, lr=1e-3, loss="l1", optimizer="soap", sizes=(1.0, 0.7)
)

_DECONVOLUTION = replace(_FSRCNN_FAST, steps=8_000, trained=("deconvolution",))
RECIPES: Mapping[tuple[str, str], Recipe] = {
    ("srcnn", "paper"): _SRCNN_PAPER,
    ("srcnn", "fast"): _SRCNN_FAST,
    ("srcnn-915", "paper"): _SRCNN_PAPER,
    ("srcnn-915", "fast"): _SRCNN_FAST,
    ("fsrcnn", "paper"): _FSRCNN_PAPER,
    ("fsrcnn", "fast"): _FSRCNN_FAST,
    ("fsrcnn", "adam"): replace(_FSRCNN_FAST, optimizer="adam 0.99"),
    ("fsrcnn", "deconvolution"): _DECONVOLUTION,
    ("fsrcnn-s", "paper"): _FSRCNN_PAPER,
    ("fsrcnn-s", "fast"): _FSRCNN_FAST,
    ("fsrcnn-s", "deconvolution"): _DECONVOLUTION,
    ("espcn", "paper"): _ESPCN_PAPER,
    ("espcn", "fast"): _ESPCN_FAST,
    ("vdsr", "paper"): _VDSR_PAPER,
    ("vdsr", "fast"): _VDSR_FAST,
    ("drcn", "paper"): _DRCN_PAPER,
    ("drcn", "fast"): _DRCN_FAST,
    ("red30", "paper"): _RED_PAPER,
    ("red30", "fast"): _RED_FAST,
    ("drrn", "paper"): _DRRN_PAPER,
    ("drrn", "fast"): _DRRN_FAST,
    ("drrn-b1u9", "paper"): _DRRN_PAPER,
    ("drrn-b1u9", "fast"): _DRRN_FAST,
    ("lapsrn", "paper"): _LAPSRN_PAPER,
    ("lapsrn", "fast"): _LAPSRN_FAST,
    ("srdensenet", "paper"): _SRDENSENET_PAPER,
    ("srdensenet", "fast"): _SRDENSENET_FAST,
    ("srdensenet-hl", "paper"): _SRDENSENET_PAPER,
    ("srdensenet-hl", "fast"): _SRDENSENET_FAST,
    ("srdensenet-h", "paper"): _SRDENSENET_PAPER,
    ("srdensenet-h", "fast"): _SRDENSENET_FAST,
    ("srresnet", "paper"): _SRRESNET_PAPER,
    ("srresnet", "fast"): _SRRESNET_FAST,
    ("srgan", "paper"): _SRGAN,
    ("srgan", "vgg22"): replace(_SRGAN, content="vgg22"),
    ("srgan", "mse"): replace(_SRGAN, content="mse"),
    ("srgan", "fast"): replace(_SRGAN, steps=20_000),
    ("edsr-baseline", "paper"): _EDSR_PAPER,
    ("edsr-baseline", "fast"): _EDSR_FAST,
    ("edsr", "paper"): _EDSR_PAPER,
    ("edsr", "fast"): replace(_EDSR_FAST, lr=3e-4),
    ("mdsr-baseline", "paper"): replace(_EDSR_PAPER, mixed="turns"),
    ("mdsr-baseline", "fast"): replace(_EDSR_FAST, mixed="turns"),
    ("mdsr", "paper"): replace(_EDSR_PAPER, mixed="turns"),
    ("mdsr", "fast"): replace(_EDSR_FAST, mixed="turns", lr=5e-4),
}


def find_recipe(model: str, name: str) -> Recipe:
    """The recipe of this name for a model.

    Raises:
        UsageError: the model has none of this name; the message lists those it has.
    """
    known = sorted(recipe for owner, recipe in RECIPES if owner == model)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"Unknown recipe {name!r} for {model}.{hint} Its recipes: {', '.join(known) or 'none'}")
    return RECIPES[model, name]
