"""What the constructor of a network must be told, as the names and shapes of its weights say it.

Only weights that do not fit the form in the catalogue are asked. What no shape says (an activation, what is beyond the
edge) comes from the layout, and in files of ours from their metadata.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    State = Mapping[str, Tensor]


def read_options(architecture: str, state: State) -> dict[str, Any]:
    """The options of a network with these weights; none, if a tensor that tells them is missing.

    Args:
        architecture: As in `ModelSpec`.
        state: Tensors by our names.
    """
    reader = _READERS.get(architecture.partition(":")[2])
    if reader is None:
        return {}
    try:
        return reader(state)
    except (KeyError, IndexError):
        return {}


def _count(state: State, pattern: str) -> int:
    """How many different first groups there are among the names that match."""
    return len({found[1] for name in state if (found := re.fullmatch(pattern, name))})


def _srcnn(state: State) -> dict[str, Any]:
    return {"middle": state["conv2.weight"].shape[-1]}


def _fsrcnn(state: State) -> dict[str, Any]:
    s, d = state["shrink.0.weight"].shape[:2]
    return {"d": d, "s": s, "m": _count(state, r"mapping\.(\d+)\.bias")}


def _vdsr(state: State) -> dict[str, Any]:
    return {
        "layers": _count(state, r"layers\.(\d+)\.weight"),
        "features": state["layers.0.weight"].shape[0],
        "bias": "layers.0.bias" in state,
    }


def _drcn(state: State) -> dict[str, Any]:
    features = state["inference.weight"].shape[0]
    joined = state["reconstruction.2.weight"].shape[1] == features + 1
    return {
        "features": features,
        "recursions": state["ensemble"].shape[0],
        "skip": "concatenate" if joined else "add",
    }


def _red(state: State) -> dict[str, Any]:
    return {
        "pairs": _count(state, r"convolutions\.(\d+)\.weight"),
        "features": state["convolutions.0.weight"].shape[0],
    }


def _lapsrn(state: State) -> dict[str, Any]:
    return {
        "depth": _count(state, r"levels\.0\.body\.(\d+)\.weight"),
        "kernel": state["levels.0.enlarge.weight"].shape[-1],
        "features": state["input.0.weight"].shape[0],
        "bias": "input.0.bias" in state,
    }


def _srdensenet(state: State) -> dict[str, Any]:
    joined = state["enlarge.0.weight"].shape[0] == 2 * state["input.0.weight"].shape[0]
    return {
        "skip": "all" if "bottleneck.0.weight" in state else "low" if joined else "high",
        "blocks": _count(state, r"blocks\.(\d+)\.layers\.0\.0\.weight"),
        "layers": _count(state, r"blocks\.0\.layers\.(\d+)\.0\.weight"),
        "growth": state["blocks.0.layers.0.0.weight"].shape[0],
    }


def _srresnet(state: State) -> dict[str, Any]:
    return {
        "blocks": _count(state, r"blocks\.(\d+)\.layers\.0\.weight"),
        "features": state["head.0.weight"].shape[0],
        "slopes": "one" if state["head.1.weight"].numel() == 1 else "each",
    }


def _mdsr(state: State) -> dict[str, Any]:
    return {"blocks": _count(state, r"blocks\.(\d+)\.conv1\.weight"), "features": state["head.weight"].shape[0]}


def _edsr(state: State) -> dict[str, Any]:
    # No tensor holds the residual scale. Section 3.2 of the paper needs 0.1 where many features would make training
    # unstable, and so does everybody: networks of 256 have it, networks of 64 do not.
    options = _mdsr(state)
    return options | {"residual_scale": 0.1 if options["features"] > 128 else 1.0}


_READERS: Mapping[str, Callable[[State], dict[str, Any]]] = {
    "SRCNN": _srcnn,
    "FSRCNN": _fsrcnn,
    "VDSR": _vdsr,
    "DRCN": _drcn,
    "RED": _red,
    "DRRN": lambda state: {"features": state["input.weight"].shape[0]},
    "LapSRN": _lapsrn,
    "SRDenseNet": _srdensenet,
    "SRResNet": _srresnet,
    "EDSR": _edsr,
    "MDSR": _mdsr,
}
