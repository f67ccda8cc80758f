"""What the papers say their networks measure: PSNR in dB on Set5 and Set14, of luma, a border of the scale cropped.

Sources: the papers that `MODELS` names, their best figures, some of them with ImageNet behind them; bicubic as in Kim,
CVPR 2016 (VDSR), and at ×8 as in Lai, CVPR 2017 (LapSRN). Where a paper has no figure, there is none here: ESPCN's has
no ×2, those of SRDenseNet, SRResNet and SRGAN only ×4. EDSR's has none of its baseline on these pictures: those are the
figures that later papers give for its authors' weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

BENCHMARKS = ("set5", "set14")

# Model → scale → (Set5, Set14).
PUBLISHED: Mapping[str, Mapping[int, tuple[float, float]]] = {
    "bicubic": {2: (33.66, 30.24), 3: (30.39, 27.55), 4: (28.42, 26.00), 8: (24.40, 23.10)},
    "srcnn": {2: (36.66, 32.42), 3: (32.75, 29.28), 4: (30.48, 27.49)},
    "fsrcnn": {2: (37.00, 32.63), 3: (33.16, 29.43), 4: (30.71, 27.59)},
    "espcn": {3: (33.13, 29.49), 4: (30.90, 27.73)},
    "vdsr": {2: (37.53, 33.03), 3: (33.66, 29.77), 4: (31.35, 28.01)},
    "drcn": {2: (37.63, 33.04), 3: (33.82, 29.76), 4: (31.53, 28.02)},
    "red30": {2: (37.66, 32.94), 3: (33.82, 29.61), 4: (31.51, 27.86)},
    "drrn": {2: (37.74, 33.23), 3: (34.03, 29.96), 4: (31.68, 28.21)},
    "lapsrn": {2: (37.52, 32.99), 4: (31.54, 28.09), 8: (26.14, 24.44)},
    "srdensenet": {4: (32.02, 28.50)},
    "srresnet": {4: (32.05, 28.49)},
    "srgan": {4: (29.40, 26.02)},
    "edsr-baseline": {2: (37.99, 33.57), 3: (34.37, 30.28), 4: (32.09, 28.58)},
    "edsr": {2: (38.11, 33.92), 3: (34.65, 30.52), 4: (32.46, 28.80)},
    "mdsr": {2: (38.11, 33.85), 3: (34.66, 30.44), 4: (32.50, 28.72)},
}


def published_psnr(model: str, scale: int, benchmark: str) -> float | None:
    """The paper's figure in dB.

    Args:
        model: A name out of `MODELS`, or bicubic.
        scale: Whole number.
        benchmark: ``set5`` or ``set14``; anything else has no figures here.
    """
    figures = PUBLISHED.get(model, {}).get(scale)
    return figures[BENCHMARKS.index(benchmark)] if figures and benchmark in BENCHMARKS else None
