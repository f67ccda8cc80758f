"""Descriptions of other projects' weight files, and functions that rename their tensors.

A network's module has a row in its ``LAYOUTS`` for each of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError
from .layers import MeanShift

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

    Tensors = Mapping[str, Tensor]
    # Their tensors → ours; and their tensors, ours → ours for our range of samples.
    Rename = Callable[[Tensors], dict[str, Tensor]]
    Fold = Callable[[Tensors, dict[str, Tensor]], dict[str, Tensor]]


FULL_RANGE = (
    "These weights were trained on full-range luma; they get luma as the video stores it, of a little less contrast: "
    "measure how well they do, or train them further"
)


@dataclass(frozen=True, slots=True)
class Layout:
    """How another project stores a network.

    Attributes:
        mark: A pattern that the name of one of their tensors matches.
        rename: Renames their tensors to ours, in our order of dimensions; unknown ones keep their names.
        options: Options of our class that no shape reveals.
        fold: Converts the values of the tensors.
        note: The remaining difference, as a warning.
        natural: Whether the names are obvious ones that anybody might use: arrays may then be in TensorFlow's order.
        origin: A pattern that the class of a network pickled as a whole matches; by default any.
    """

    mark: str
    rename: Rename
    options: Mapping[str, Any] = field(default_factory=dict)
    fold: Fold = lambda _, state: state
    note: str | None = None
    natural: bool = False
    origin: str = ".*"


def table(*rows: tuple[str, str | Callable[[re.Match[str], Tensors], str] | None], hwio: bool = False) -> Rename:
    """Rename by the first pattern that matches the whole name; tensors renamed to None are left out.

    With ``hwio``, filters are in TensorFlow's order, (rows, columns, in, out).
    """

    def rename(tensors: Tensors) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            own: str | None = name
            for pattern, target in rows:
                if found := re.fullmatch(pattern, name):
                    own = target(found, tensors) if callable(target) else found.expand(target) if target else None
                    break
            if own is not None:
                state[own] = tensor.permute(3, 2, 0, 1) if hwio and tensor.ndim == 4 else tensor
        return state

    return rename


def numbered(**kinds: Callable[[int], Iterable[str]]) -> Rename:
    """Rename layers that only have a number: the n-th of a kind gets the n-th name of its list.

    Args:
        kinds: Kind of layer → a function from their number to their names here.
    """
    parts = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_var": "running_var"}

    def rename(tensors: Tensors) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        found = {name: re.fullmatch(r"(?:arg|aux):([a-z]+)(\d+)_(\w+)", name) for name in tensors}
        numbers = [(match[1], int(match[2])) for match in found.values() if match]
        names = {kind: list(layers(len({n for k, n in numbers if k == kind}))) for kind, layers in kinds.items()}
        for name, match in found.items():
            if match and int(match[2]) < len(names.get(match[1], ())):
                state[f"{names[match[1]][int(match[2])]}.{parts.get(match[3], match[3])}"] = tensors[name]
            elif not name.endswith("DIV2K_mean"):
                state[name] = tensors[name]
        return state

    return rename


def is_turned(shapes: Tensors) -> bool:
    """Whether filters must be in TensorFlow's and MATLAB's order, (rows, columns, in, out), as sides are equal."""
    filters = [tensor.shape for tensor in shapes.values() if tensor.ndim == 4]
    return all(a == b for a, b, *_ in filters) and not all(a == b for *_, a, b in filters)


def turn(tensors: Tensors) -> dict[str, Tensor]:
    """Put filters into torch's order, and flatten biases, which MATLAB keeps as matrices."""
    state = {}
    for name, tensor in tensors.items():
        state[name] = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor
        if tensor.ndim == 2 and 1 in tensor.shape:
            state[name] = tensor.reshape(-1)
    return state


def in_unit_range(state: dict[str, Tensor], peak: float) -> dict[str, Tensor]:
    """Convert a network for samples in [0, peak] to samples in [0, 1].

    Exact if ReLU is the only nonlinearity: the samples may then be divided by ``peak`` at the input instead of at the
    output, if every bias is divided by it, too.
    """
    return {name: tensor / peak if name.endswith("bias") else tensor for name, tensor in state.items()}


def count_names(tensors: Tensors, pattern: str) -> int:
    """How many names match."""
    return sum(re.fullmatch(pattern, name) is not None for name in tensors)


def count(state: Tensors, pattern: str) -> int:
    """How many different values the first group has among the names that match."""
    return len({found[1] for name in state if (found := re.fullmatch(pattern, name))})


def of_sanghyun_son(tensors: Tensors, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Find the range of the network's samples by its mean shift, and convert it; usually it is [0, 255]."""
    if "sub_mean.bias" not in tensors:
        return in_unit_range(state, 255.0)
    shift, mean = -tensors["sub_mean.bias"].float(), MeanShift().mean.flatten()
    peak = float(shift.sum() / mean.sum())
    if shift.shape != mean.shape or (shift / peak - mean).abs().max() > 1e-3:
        raise WeightsError(f"sub_mean.bias: expected the mean color of DIV2K, {mean.tolist()}, got {shift.tolist()}")
    return in_unit_range(state, peak)


def scale_of(part: str) -> Callable[[re.Match[str], Tensors], str]:
    """Rename MDSR's parts of its first, second and third scale."""
    return lambda found, _: found.expand(part.replace("{scale}", str(int(found[1]) + 2)))


def layer_of_block(part: str) -> Callable[[re.Match[str], Tensors], str]:
    """Rename the convolutions, 0 and 2, of a residual block; their number is the last group but one."""
    return lambda found, tensors: scale_of(part)(found, tensors).replace(
        "{layer}", str(1 + int(found[found.re.groups - 1]) // 2)
    )


SHIFT = (r"(?:sub|add)_mean\.(?:weight|bias)", None)
