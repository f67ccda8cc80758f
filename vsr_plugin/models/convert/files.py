"""Opens files of weights: .safetensors, .pth and .pt without executing anything, .npz.

The shapes and types of tensors are read at once, their numbers only on access: a file that does not fit costs no
memory.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.lib import format as npy
from safetensors import safe_open
from torch import Tensor

from ...errors import WeightsError
from .. import check_weights_file
from .pickles import TensorRecord, Unknown
from .torch_files import open_torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The keys under which training programs save weights beside other data; the first one present is used.
_WRAPPERS = ("params_ema", "average", "params", "state_dict", "model_state_dict", "model", "net", "generator")
# Parts of programs that hold the whole network as their only part.
_HOLDER = re.compile(r"(?:module|model|net|network|generator|netG|_orig_mod)\.(.+)")
_LONGEST_NAME = 200
_LONG = re.compile(r"(\S{80})\S+")  # to shorten what an error quotes, which may be the whole file
_LONGEST_HEADER = 1 << 16  # bytes, of an array in a .npz
_DEEPEST, _MOST_PARTS = 32, 10_000  # of a pickled network
_SAFETENSORS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
# Made by other programs; their tensors have to be saved as .npz.


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of a file: its shape and type, as a tensor without numbers, and how to read it."""

    meta: Tensor
    read: Callable[[], Tensor]


class Tensors(Mapping[str, Tensor]):
    """The tensors of a file by name; each is read on access, and not kept.

    Attributes:
        shapes: The same without numbers, on torch's device "meta".

    Raises:
        WeightsError: from every reading, if the numbers are damaged.
    """

    def __init__(self, file: str, entries: Mapping[str, Entry]) -> None:
        self._file, self._entries = file, entries
        self.shapes: Mapping[str, Tensor] = {name: entry.meta for name, entry in entries.items()}

    def __getitem__(self, name: str) -> Tensor:
        read = self._entries[name].read
        try:
            return read()
        except Exception as error:
            raise _unreadable(self._file, error) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """The contents of a file of weights.

    Attributes:
        name: The file's name, for messages.
        tensors: The tensors by their names in the file, without the name of a part that holds the whole network.
        metadata: A .safetensors file's; ours have ``model``, ``scale``, maybe ``options`` in JSON, and ``precision``.
        origin: The class of a network that was pickled as a whole; otherwise empty.
    """

    name: str
    tensors: Tensors
    metadata: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""


def read_weights(path: Path) -> WeightsFile:
    """Open a .safetensors, .pth, .pt or .npz file; nothing in it is executed.

    Raises:
        WeightsError: the file is of another kind, is damaged, or holds anything other than tensors.
    """
    check_weights_file(path)
    try:
        entries, metadata, origin = _READERS[path.suffix.lower()](path)
    except WeightsError:
        raise
    except Exception as error:  # torch and numpy raise a dozen types of errors for files that are not theirs
        raise _unreadable(path.name, error) from error
    if not entries:
        raise WeightsError(f"Expected a dictionary of tensors in {path.name!r}: save the network's state_dict() alone")
    if any(len(name) > _LONGEST_NAME for name in entries):
        raise WeightsError(f"Expected names of up to {_LONGEST_NAME} letters in {path.name!r}, got longer ones")
    while all(_HOLDER.fullmatch(name) for name in entries):
        entries = {name.partition(".")[2]: entry for name, entry in entries.items()}
    return WeightsFile(path.name, Tensors(path.name, entries), metadata, origin)


def _unreadable(file: str, error: Exception) -> WeightsError:
    lines = str(error).splitlines() or [type(error).__name__]
    return WeightsError(f"Cannot read weights from {file!r}: {_LONG.sub(r'\1…', lines[0])[:300]}")


def _meta(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


type _Found = tuple[dict[str, Entry], Mapping[str, str], str]


def _read_npz(path: Path) -> _Found:
    entries = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                with archive.open(info) as member:
                    file = io.BytesIO(member.read(_LONGEST_HEADER))  # numpy reads any length that the header claims
                version = npy.read_magic(file)
                head = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, _, dtype = head(file)
                if dtype.hasobject:
                    raise UnpicklingError("it holds Python objects, which are code; save arrays alone")
                native = dtype.newbyteorder("=")
                meta = _meta(shape, torch.from_numpy(np.empty(0, native)).dtype)
                entries[info.filename.removesuffix(".npy")] = Entry(meta, partial(_read_npy, path, info.filename))
    return entries, {}, ""


def _read_npy(path: Path, member: str) -> Tensor:
    with zipfile.ZipFile(path) as archive, archive.open(member) as file:
        array = npy.read_array(file, allow_pickle=False)
    return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape))


def _read_safetensors(path: Path) -> _Found:
    entries = {}
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - no dict
            part = file.get_slice(name)
            kind = part.get_dtype()
            if kind not in _SAFETENSORS:
                raise UnpicklingError(f"{name} holds {kind}, which no network here has")
            meta = _meta(tuple(part.get_shape()), _SAFETENSORS[kind])
            entries[name] = Entry(meta, partial(_read_safetensor, path, name))
        return entries, file.metadata() or {}, ""


def _read_safetensor(path: Path, name: str) -> Tensor:
    with safe_open(path, "pt") as file:
        tensor: Tensor = file.get_tensor(name)
        return tensor


def _read_pth(path: Path) -> _Found:
    file = open_torch(path)
    state, origin = _state(file.content)
    entries = {}
    for name, record in state.items():
        if not isinstance(record, TensorRecord):
            continue
        entries[name] = Entry(_meta(record.shape, record.storage.dtype), partial(file.tensor, record))
    return entries, {}, origin


_READERS: Mapping[str, Callable[[Path], _Found]] = {
    ".safetensors": _read_safetensors,
    ".pth": _read_pth,
    ".pt": _read_pth,
    ".npz": _read_npz,
}


def _state(content: Any) -> tuple[dict[str, TensorRecord], str]:
    """Unwrap the network's state; also returns the class of a network that was pickled as a whole."""
    for _ in range(_DEEPEST):
        if isinstance(content, Unknown) and _is_network(content):
            return _flatten(content), content.name
        if not isinstance(content, dict):
            break
        if content and all(isinstance(value, TensorRecord) for value in content.values()):
            return content, ""
        inner = next((content[key] for key in _WRAPPERS if _holds(content.get(key))), None)
        if inner is None:
            break
        content = inner
    strange = [content, *(content.values() if isinstance(content, dict) else ())]
    for each in strange:
        if isinstance(each, Unknown):
            what = "not a plain tensor" if each.name.startswith("torch._utils.") else "code"
            raise UnpicklingError(f"it holds {each.name[:200]}, which is {what}; save the network's state_dict() alone")
    return {}, ""


def _holds(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, Unknown) and _is_network(value))


def _is_network(value: Unknown) -> bool:
    return isinstance(value.state, dict) and all(
        isinstance(value.state.get(part), dict) for part in ("_parameters", "_modules")
    )


def _flatten(network: Unknown) -> dict[str, TensorRecord]:
    """The state_dict() of a pickled network."""
    state: dict[str, TensorRecord] = {}
    parts: list[tuple[str, Unknown, int]] = [("", network, 0)]
    for prefix, part, depth in parts:
        for kind in ("_parameters", "_buffers"):
            tensors = part.state.get(kind)
            for name, value in tensors.items() if isinstance(tensors, dict) else ():
                if isinstance(value, TensorRecord):
                    state[prefix + name] = value
        inside = [each for each in part.state["_modules"].items() if isinstance(each[1], Unknown)]
        parts += [(f"{prefix}{name}.", each, depth + 1) for name, each in inside if _is_network(each)]
        if depth > _DEEPEST or len(parts) > _MOST_PARTS:
            raise UnpicklingError("it holds a network of too many parts")
    return state
