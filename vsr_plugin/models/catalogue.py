"""The catalogue: one row per model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .specs import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

_SRCNN = "srcnn:SRCNN"
_FSRCNN = "fsrcnn:FSRCNN"
_SRDENSENET = "srdensenet:SRDenseNet"
_SRRESNET = "srresnet:SRResNet"
_EDSR = "edsr:EDSR"
_MDSR = "mdsr:MDSR"
_FULL_EDSR = {"blocks": 32, "features": 256, "residual_scale": 0.1}

MODELS: Mapping[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            "srcnn",
            "Dong, TPAMI 2016 (9-5-5)",
            _SRCNN,
            overlap={2: 6, 3: 4, 4: 4},
            cost={2: (57_281, 228_736), 3: (57_281, 514_656), 4: (57_281, 914_944)},
            nanoseconds={2: 2_290, 3: 5_380, 4: 9_480},
            published={2: (36.66, 32.42), 3: (32.75, 29.28), 4: (30.48, 27.49)},
        ),
        ModelSpec(
            "srcnn-915",
            "Dong, ECCV 2014 (9-1-5)",
            _SRCNN,
            overlap={2: 5, 3: 4, 4: 3},
            cost={2: (8_129, 32_128), 3: (8_129, 72_288), 4: (8_129, 128_512)},
            nanoseconds={2: 746, 3: 1_660, 4: 2_940},
            options={"middle": 1},
        ),
        ModelSpec(
            "fsrcnn",
            "Dong, ECCV 2016 (56, 12, 4)",
            _FSRCNN,
            overlap={2: 8, 3: 7, 4: 7},
            cost=dict.fromkeys((2, 3, 4), (12_809, 12_464)),
            nanoseconds={2: 261, 3: 273, 4: 290},
            published={2: (37.00, 32.63), 3: (33.16, 29.43), 4: (30.71, 27.59)},
        ),
        ModelSpec(
            "fsrcnn-s",
            "Dong, ECCV 2016 (32, 5, 1)",
            _FSRCNN,
            overlap={2: 5, 3: 4, 4: 4},
            cost=dict.fromkeys((2, 3, 4), (4_086, 3_937)),
            nanoseconds={2: 113, 3: 130, 4: 148},
            options={"d": 32, "s": 5, "m": 1},
        ),
        ModelSpec(
            "espcn",
            "Shi, CVPR 2016",
            "espcn:ESPCN",
            overlap={2: 4, 3: 4, 4: 4},
            cost={2: (21_284, 21_184), 3: (22_729, 22_624), 4: (24_752, 24_640)},
            nanoseconds={2: 153, 3: 176, 4: 188},
            published={3: (33.13, 29.49), 4: (30.90, 27.73)},
        ),
        ModelSpec(
            "vdsr",
            "Kim, CVPR 2016",
            "vdsr:VDSR",
            overlap={2: 12, 3: 8, 4: 7},
            cost={scale: (665_921, scale**2 * 664_704) for scale in (2, 3, 4)},
            published={2: (37.53, 33.03), 3: (33.66, 29.77), 4: (31.35, 28.01)},
            nanoseconds={2: 10_200, 3: 29_900, 4: 51_600},  # ×2 by its ratio to the others, measured elsewhere
            shared=True,
        ),
        ModelSpec(
            "drcn",
            "Kim, CVPR 2016 (16 recursions)",
            "drcn:DRCN",
            overlap={2: 12, 3: 8, 4: 7},
            cost={scale: (1_775_121, scale**2 * 19_503_360) for scale in (2, 3, 4)},
            published={2: (37.63, 33.04), 3: (33.82, 29.76), 4: (31.53, 28.02)},
            shared=True,
        ),
        ModelSpec(
            "red30",
            "Mao, NIPS 2016 (128 filters)",
            "red:RED",
            overlap={2: 17, 3: 12, 4: 9},
            cost={scale: (4_134_785, scale**2 * 4_131_072) for scale in (2, 3, 4)},
            published={2: (37.66, 32.94), 3: (33.82, 29.61), 4: (31.51, 27.86)},
            nanoseconds={3: 192_000, 4: 346_000},  # by their ratio to VDSR's, measured elsewhere
            shared=True,
        ),
        ModelSpec(
            "drrn",
            "Tai, CVPR 2017 (B1U25)",
            "drrn:DRRN",
            overlap={2: 28, 3: 19, 4: 15},
            cost={scale: (297_216, scale**2 * 7_375_104) for scale in (2, 3, 4)},
            nanoseconds={3: 333_000, 4: 628_000},  # by its multiply-adds, compared with B1U9
            published={2: (37.74, 33.23), 3: (34.03, 29.96), 4: (31.68, 28.21)},
            shared=True,
        ),
        ModelSpec(
            "drrn-b1u9",
            "Tai, CVPR 2017 (B1U9)",
            "drrn:DRRN",
            overlap={2: 12, 3: 8, 4: 7},
            cost={scale: (297_216, scale**2 * 2_656_512) for scale in (2, 3, 4)},
            nanoseconds={2: 55_000, 3: 120_000, 4: 226_000},  # by their ratio to VDSR's, measured elsewhere
            shared=True,
            options={"units": 9},
        ),
        ModelSpec(
            "lapsrn",
            "Lai, CVPR 2017",
            "lapsrn:LapSRN",
            overlap={2: 12, 4: 17, 8: 11},
            exact_in_windows=False,
            cost={2: (407_441, 408_400), 4: (814_242, 2_039_696), 8: (667_123, 4_694_160)},
            nanoseconds={2: 5_410, 4: 26_900, 8: 76_300},
            published={2: (37.52, 32.99), 4: (31.54, 28.09), 8: (26.14, 24.44)},
        ),
        ModelSpec(
            "srdensenet",
            "Tong, ICCV 2017 (All)",
            _SRDENSENET,
            overlap={2: 66, 4: 66},
            exact_in_windows=False,
            cost={2: (2_069_505, 2_074_752), 4: (2_659_585, 4_461_696)},
            nanoseconds={4: 151_000},
            published={4: (32.02, 28.50)},
        ),
        ModelSpec(
            "srdensenet-hl",
            "Tong, ICCV 2017 (HL)",
            _SRDENSENET,
            overlap={2: 66, 4: 66},
            exact_in_windows=False,
            cost={2: (1_258_241, 1_263_744), 4: (1_848_321, 3_650_688)},
            options={"skip": "low"},
        ),
        ModelSpec(
            "srdensenet-h",
            "Tong, ICCV 2017 (H)",
            _SRDENSENET,
            overlap={2: 66, 4: 66},
            exact_in_windows=False,
            cost={2: (963_329, 968_832), 4: (1_553_409, 3_355_776)},
            options={"skip": "high"},
        ),
        ModelSpec(
            "srresnet",
            "Ledig, CVPR 2017",
            _SRRESNET,
            overlap={2: 40, 4: 40},
            cost={2: (1_399_637, 1_441_728), 4: (1_547_350, 2_218_176)},
            nanoseconds={2: 17_500, 4: 34_200},
            published={4: (32.05, 28.49)},
            channels=3,
        ),
        ModelSpec(
            "srgan",
            "Ledig, CVPR 2017 (adversarial)",
            _SRRESNET,
            overlap={2: 40, 4: 40},
            cost={2: (1_399_637, 1_441_728), 4: (1_547_350, 2_218_176)},
            published={4: (29.40, 26.02)},
            channels=3,
        ),
        ModelSpec(
            "edsr-baseline",
            "Lim, CVPRW 2017 (16 × 64)",
            _EDSR,
            overlap={2: 36, 3: 36, 4: 36},
            cost={2: (1_369_859, 1_372_608), 3: (1_554_499, 1_565_568), 4: (1_517_571, 1_983_168)},
            nanoseconds={2: 14_400, 3: 17_400, 4: 23_300},
            published={2: (37.99, 33.57), 3: (34.37, 30.28), 4: (32.09, 28.58)},
            channels=3,
        ),
        ModelSpec(
            "edsr",
            "Lim, CVPRW 2017 (32 × 256)",
            _EDSR,
            overlap={2: 68, 3: 68, 4: 68},
            cost={2: (40_729_603, 40_732_416), 3: (43_680_003, 43_716_096), 4: (43_089_923, 50_252_544)},
            published={2: (38.11, 33.92), 3: (34.65, 30.52), 4: (32.46, 28.80)},
            channels=3,
            options=_FULL_EDSR,
        ),
        ModelSpec(
            "mdsr-baseline",
            "Lim, CVPRW 2017 (16 × 64)",
            _MDSR,
            overlap={2: 44, 3: 44, 4: 44},
            cost={2: (3_227_203, 1_782_208), 3: (3_227_203, 1_975_168), 4: (3_227_203, 2_392_768)},
            nanoseconds={2: 19_100, 3: 22_000, 4: 26_900},
            channels=3,
            shared=True,
        ),
        ModelSpec(
            "mdsr",
            "Lim, CVPRW 2017 (80 × 64)",
            _MDSR,
            overlap={2: 172, 3: 172, 4: 172},
            cost={2: (7_953_987, 6_500_800), 3: (7_953_987, 6_693_760), 4: (7_953_987, 7_111_360)},
            published={2: (38.11, 33.85), 3: (34.66, 30.44), 4: (32.50, 28.72)},
            channels=3,
            shared=True,
            options={"blocks": 80},
        ),
    )
}
