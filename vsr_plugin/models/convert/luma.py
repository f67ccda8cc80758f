"""How others name, arrange and scale the weights of networks of luma: one row of `LAYOUTS` for each of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .layout import Layout, in_unit_range, table

if TYPE_CHECKING:
    from torch import Tensor

    from .layout import Tensors

_FULL_RANGE = (
    "These weights were trained on full-range luma; they get luma as the video stores it, of a little less contrast: "
    "`vsr eval` measures how well they do, `vsr train --from` adapts them"
)


def _drcn_of_jiny2001(_: Tensors, state: dict[str, Tensor]) -> dict[str, Tensor]:
    state = in_unit_range(state, 255.0)
    if "ensemble" in state:
        state["ensemble"] = state["ensemble"] / state["ensemble"].sum()
    return state


def _sequence(tensors: Tensors, pattern: str) -> int:
    """How many tensors of a sequence there are."""
    return sum(re.fullmatch(pattern, name) is not None for name in tensors)


def _fsrcnn_of_yjn870(found: re.Match[str], tensors: Tensors) -> str:
    """Shrinking, mapping and expanding in one sequence, in which every second layer is a PReLU."""
    index, part = int(found[1]), found[2]
    length = _sequence(tensors, r"mid_part\.\d+\.weight")
    if index < 2:
        return f"shrink.{index}.{part}"
    return f"mapping.{index - 2}.{part}" if index < length - 2 else f"expand.{index - length + 2}.{part}"


def _vdsr_of_twtygqyy(found: re.Match[str], tensors: Tensors) -> str:
    """The last layer comes after all those between; every second number is a ReLU's."""
    before = int(found[1]) if found[1] else _sequence(tensors, r"residual_layer\.\d+\.conv\.weight")
    return f"layers.{2 * before + 2}.{found[2]}"


def _lapsrn_of_twtygqyy(found: re.Match[str], tensors: Tensors) -> str:
    """The deconvolution is the last of a level's sequence."""
    level, index = int(found[1]), int(found[2])
    last = 2 * _sequence(tensors, rf"convt_F{level}\.0\.cov_block\.\d+\.weight") - 2
    return f"levels.{level - 1}." + ("enlarge" if index == last else f"body.{index}") + f".{found[3]}"


def _level(found: re.Match[str], _: Tensors) -> str:
    return f"levels.{int(found[2]) - 1}.{'picture' if found[1] == 'I' else 'residual'}.{found[3]}"


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "SRCNN",
        r"srcnn[|/]conv1[|/]kernel",
        table((r"srcnn[|/](.+)[|/]kernel", r"\1.weight"), (r"srcnn[|/](.+)[|/]bias", r"\1.bias"), hwio=True),
        {"last": "relu", "edges": "mirror"},
        note=_FULL_RANGE,
    ),
    Layout(
        "SRCNN",
        r"conv1\.weight",
        table(),
        natural=True,
        note="If these convolutions padded with zeros, as yjn870's do, edges differ: ours repeat the edge",
    ),
    Layout(
        "ESPCN",
        r"espcn[|/]conv1[|/]kernel",
        table((r"espcn[|/](.+)[|/]kernel", r"\1.weight"), (r"espcn[|/](.+)[|/]bias", r"\1.bias"), hwio=True),
        {"last": "sigmoid", "edges": "mirror"},
        note=_FULL_RANGE,
    ),
    Layout(  # of fannymonori, for OpenCV
        "ESPCN",
        r"f1",
        table((r"f(\d)", r"conv\1.weight"), (r"b(\d)", r"conv\1.bias"), (r"NCHW_output[|/]perm", None), hwio=True),
        {"activation": "relu", "last": "tanh"},
        note=_FULL_RANGE,
    ),
    Layout(
        "ESPCN",
        r"first_part\.0\.weight",
        table(
            (r"first_part\.0\.(.+)", r"conv1.\1"),
            (r"first_part\.2\.(.+)", r"conv2.\1"),
            (r"last_part\.0\.(.+)", r"conv3.\1"),
        ),
    ),
    Layout(
        "FSRCNN",
        r"first_part\.0\.weight",
        table(
            (r"first_part\.(.+)", r"features.\1"),
            (r"mid_part\.(\d+)\.(.+)", _fsrcnn_of_yjn870),
            (r"last_part\.(.+)", r"deconvolution.\1"),
        ),
        {"padding": 4},
    ),
    Layout(  # numbered from 1, as MATLAB's are
        "VDSR",
        r"conv1\.weight",
        table((r"conv(\d+)\.(weight|bias)", lambda found, _: f"layers.{2 * int(found[1]) - 2}.{found[2]}")),
        natural=True,
    ),
    Layout(
        "VDSR",
        r"residual_layer\.0\.conv\.weight",
        table(
            (r"input\.(.+)", r"layers.0.\1"),
            (r"residual_layer\.(\d+)\.conv\.(.+)", _vdsr_of_twtygqyy),
            (r"output()\.(.+)", _vdsr_of_twtygqyy),
        ),
    ),
    Layout(
        "DRCN",
        r"WD1_conv.*",
        table(
            (r"W-1_conv[|/]conv_W.*", "embedding.0.weight"),
            (r"W-1_conv[|/]conv_B.*", "embedding.0.bias"),
            (r"W0_conv[|/]conv_W.*", "embedding.2.weight"),
            (r"W0_conv[|/]conv_B.*", "embedding.2.bias"),
            (r"W_conv", "inference.weight"),
            (r"B", "inference.bias"),
            (r"WD1_conv.*", "reconstruction.0.weight"),
            (r"BD1", "reconstruction.0.bias"),
            (r"WD2_conv.*", "reconstruction.2.weight"),
            (r"BD2", "reconstruction.2.bias"),
            (r"LayerWeights", "ensemble"),
            hwio=True,
        ),
        {"last": "relu"},
        fold=_drcn_of_jiny2001,
    ),
    Layout(
        "DRRN",
        r"arg:learned_0",
        table(
            (r"arg:learned_0", "input.weight"),
            (r"arg:learned_([12])", r"conv\1.weight"),
            (r"arg:learned_3", "output.weight"),
        ),
        {"rectified": True, "units": 25},
    ),
    Layout("DRRN", r"input\.weight", table(), {"rectified": True, "units": 25}, origin=r"drrn\.DRRN"),
    Layout(
        "DRRN",
        r"input\.weight",
        table(),
        natural=True,
        note="Taken for the paper's form; of jt827859032's, whose units add rectified features, convert them with the "
        "option rectified",
    ),
    Layout(
        "LapSRN",
        r"convt_F1\.0\.cov_block\.0\.weight",
        table(
            (r"conv_input\.(.+)", r"input.0.\1"),
            (r"convt_F(\d)\.0\.cov_block\.(\d+)\.(.+)", _lapsrn_of_twtygqyy),
            (r"convt_([IR])(\d)\.(.+)", _level),
        ),
    ),
    Layout(
        "SRDenseNet",
        r"dense_blocks\.0\.block\.0\.conv\.weight",
        table(
            (r"conv\.conv\.(.+)", r"input.0.\1"),
            (r"conv\.(weight|bias)", r"input.0.\1"),
            (r"dense_blocks\.(\d+)\.block\.(\d+)\.conv\.(.+)", r"blocks.\1.layers.\2.0.\3"),
            (r"deconv\.(.+)", r"enlarge.\1"),
            (r"reconstruction\.(.+)", r"output.\1"),
        ),
    ),
)
