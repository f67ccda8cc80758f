"""The papers' figures for their networks: PSNR in dB on Set5 and Set14, of luma, a border of the scale cropped.

Sources: the papers that `MODELS` names, their best figures, some after training on ImageNet; bicubic as in Kim, CVPR
2016 (VDSR), and at ×8 as in Lai, CVPR 2017 (LapSRN). Figures that a paper lacks are missing here, too: ESPCN's has no
×2; those of SRDenseNet, SRResNet and SRGAN have only ×4. EDSR's has none for its baseline on these images: the figures
here are those of later papers for its authors' weights.
"""

from __future__ import annotations

from . import MODELS

BENCHMARKS = ("set5", "set14")

# Scale → (Set5, Set14).
_BICUBIC = {2: (33.66, 30.24), 3: (30.39, 27.55), 4: (28.42, 26.00), 8: (24.40, 23.10)}


def published_psnr(model: str, scale: int, benchmark: str) -> float | None:
    """The paper's figure in dB.

    Args:
        model: A name in `MODELS`, or ``bicubic``.
        scale: Whole number.
        benchmark: ``set5`` or ``set14``; anything else has no figures here.
    """
    figures = (_BICUBIC if model == "bicubic" else MODELS[model].published).get(scale)
    return figures[BENCHMARKS.index(benchmark)] if figures and benchmark in BENCHMARKS else None
