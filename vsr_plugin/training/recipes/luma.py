"""The training of luma networks: one row per (model, recipe)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .recipe import Recipe, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

# Dong et al., ECCV 2014, section 4; TPAMI 2016, sections 3.3 and 4.1: sub-images of 33 × 33 enlarged samples, here plus
# the 2·scale on each side that depend on its edge; conv3 learns at a tenth of the rate; loss and rates are Caffe's.
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
_SRCNN_FAST = Recipe(
    steps=10_000, batch=16, patch={2: 36, 3: 24, 4: 18}, lr=1e-3, view="valid", optimizer="soap", flat=0.0625
)

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
    steps=30_000,
    batch=16,
    patch={2: 24, 3: 24, 4: 24},
    lr=3e-3,
    optimizer="soap",
    flat=0.25,
    rescaled=("deconvolution",),
)

# Shi et al., CVPR 2016, sections 2.2 and 3.2: patches of 17 samples, the rate falls from 0.01 to 0.0001, the last layer
# learns at a tenth of it; the labels are shuffled, not the output. Small images are made as everywhere here: the
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
    flat=0.25,
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
    steps=30_000,
    batch=24,
    patch={2: 24, 3: 16, 4: 12},
    lr=1e-3,
    optimizer="soap",
    flat=0.0625,
    sizes=(1.0, 0.7),
    stages=(Stage(0.4, {"layers": 6}), Stage(0.4, {"layers": 12}), Stage(0.2)),
)

# Kim et al., CVPR 2016 (DRCN), section 4.2: as VDSR, from a rate of 0.01, lowered there when validation stagnates;
# the recursion starts as the identity. The paper mentions no clipping, without which this rate diverges.
_DRCN_PAPER = replace(_VDSR_PAPER, view="recursions", lr=0.01, clip=0.001, initial="bicubic", sizes=(1.0,))
_DRCN_FAST = replace(
    _VDSR_FAST,
    view="recursions",
    batch=12,
    lr=3e-4,
    steps=10_000,
    stages=(
        Stage(0.3, {"features": 64, "recursions": 4}),
        Stage(0.3, {"features": 128, "recursions": 8}),
        Stage(0.4),
    ),
)

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
_RED_FAST = replace(
    _VDSR_FAST, batch=12, lr=5e-4, steps=20_000, stages=(Stage(0.4, {"pairs": 5}), Stage(0.3, {"pairs": 9}), Stage(0.3))
)

# Tai et al., CVPR 2017, section 4.1: 31 × 31 enlarged samples, batches of 128 over all scales, a rate of 0.1 that
# halves every 10 epochs of 50, gradients clipped to ±0.01/rate.
_DRRN_PAPER = replace(
    _VDSR_PAPER, batch=128, patch={2: 15, 3: 10, 4: 8}, steps=326_800, stairs=(0.2, 0.5), sizes=(1.0,)
)
# The weights are the same for any number of units: few units cost less, and a number that changes from step to step
# trains a unit that can be applied more often.
_DRRN_FAST = replace(
    _VDSR_FAST,
    batch=12,
    lr=5e-4,
    steps=20_000,
    stages=(Stage(0.4, draws={"units": (2, 3, 4)}), Stage(0.4, {"units": 9}), Stage(0.2)),
)

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
    flat=0.0625,
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
_SRDENSENET_FAST = Recipe(
    steps=25_000,
    batch=8,
    patch={2: 32, 4: 24},
    lr=5e-4,
    optimizer="soap",
    flat=0.25,
    sizes=(1.0, 0.7),
    stages=(Stage(0.3, {"blocks": 2}), Stage(0.3, {"blocks": 4}), Stage(0.4)),
)

_DECONVOLUTION = replace(_FSRCNN_FAST, steps=8_000, trained=("deconvolution",))
LUMA: Mapping[tuple[str, str], Recipe] = {
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
    ("drrn-b1u9", "fast"): replace(_DRRN_FAST, stages=(Stage(0.4, draws={"units": (2, 3, 4)}), Stage(0.6))),
    ("lapsrn", "paper"): _LAPSRN_PAPER,
    ("lapsrn", "fast"): _LAPSRN_FAST,
    ("srdensenet", "paper"): _SRDENSENET_PAPER,
    ("srdensenet", "fast"): _SRDENSENET_FAST,
    ("srdensenet-hl", "paper"): _SRDENSENET_PAPER,
    ("srdensenet-hl", "fast"): replace(_SRDENSENET_FAST, stages=(Stage(1.0),)),
    ("srdensenet-h", "paper"): _SRDENSENET_PAPER,
    ("srdensenet-h", "fast"): replace(_SRDENSENET_FAST, stages=(Stage(1.0),)),
}
