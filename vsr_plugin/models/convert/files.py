"""Files of weights as they are found: .safetensors, .pth and .pt without executing anything, .npz."""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from ...errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

# Where training programs put the weights among what else they save; the first that is there counts.
_WRAPPERS = ("params_ema", "average", "params", "state_dict", "model_state_dict", "model", "net", "generator")
# Parts of programs that hold the whole network as their only part.
_HOLDER = re.compile(r"(?:module|model|net|network|generator|netG|_orig_mod)\.(.+)")


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """What a file of weights holds.

    Attributes:
        name: Of the file, for messages.
        tensors: By the names they have there, without the names of what holds the whole network.
        metadata: Of a .safetensors file; ours say ``model``, ``scale``, and ``options`` in JSON.
    """

    name: str
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_weights(path: Path) -> WeightsFile:
    """Read the tensors of a .safetensors, .pth, .pt or .npz file; nothing in it is executed.

    Raises:
        WeightsError: another kind of file, or one that is damaged or holds anything else than tensors.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise WeightsError(f"Expected a file named {', '.join(_READERS)}, got {path.name!r}")
    if not path.exists():
        raise WeightsError(f"No such file: {path}")
    try:
        state, metadata = reader(path)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        why = f"it holds {found[1]}, which is code" if found else "it holds more than tensors, or is damaged"
        raise WeightsError(
            f"Cannot read weights from {path.name!r}: {why}; save the network's state_dict() alone"
        ) from error
    except Exception as error:  # torch and numpy raise a dozen kinds for files that are not theirs
        raise WeightsError(
            f"Cannot read weights from {path.name!r}: {(str(error).splitlines() or [type(error).__name__])[0]}"
        ) from error
    return WeightsFile(path.name, _unwrap(state, path.name), metadata)


def _read_npz(path: Path) -> tuple[Any, dict[str, str]]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}, {}


def _read_pth(path: Path) -> tuple[Any, dict[str, str]]:
    return torch.load(path, map_location="cpu", weights_only=True), {}


def _read_safetensors(path: Path) -> tuple[Any, dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 - no dict


_READERS: Mapping[str, Callable[[Path], tuple[Any, dict[str, str]]]] = {
    ".safetensors": _read_safetensors,
    ".pth": _read_pth,
    ".pt": _read_pth,
    ".npz": _read_npz,
}


def _unwrap(state: Any, file: str) -> dict[str, Tensor]:
    while isinstance(state, dict) and not _is_state(state):
        state = next((state[key] for key in _WRAPPERS if isinstance(state.get(key), dict)), None)
    if not isinstance(state, dict) or not state:
        raise WeightsError(f"Expected a dictionary of tensors in {file!r}: save the network's state_dict() alone")
    tensors: dict[str, Tensor] = dict(state)
    while all(_HOLDER.fullmatch(name) for name in tensors):
        tensors = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
    return tensors


def _is_state(state: dict[Any, Any]) -> bool:
    return all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items())
