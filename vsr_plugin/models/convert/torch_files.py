"""Reads files of `torch.save`: a ZIP archive, or before torch 1.6 several pickles followed by the numbers."""

from __future__ import annotations

import sys
import zipfile
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch

from .pickles import LARGEST, StorageRecord, TensorRecord, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of an old file


@dataclass(frozen=True, slots=True)
class TorchFile:
    """The content of a file, and how its numbers are read.

    Attributes:
        content: As `pickles.load` returns it.
        read: (storage, first element, number of elements) → their bytes.
    """

    content: Any
    read: Callable[[StorageRecord, int, int], bytes]

    def tensor(self, record: TensorRecord) -> Tensor:
        """Read the numbers of a tensor; they take no more memory than in the file."""
        spans = zip(record.shape, record.stride, strict=True)
        extent = 0 if 0 in record.shape else 1 + sum((length - 1) * step for length, step in spans)
        storage = record.storage
        if not extent:
            return torch.empty(record.shape, dtype=storage.dtype)
        data = self.read(storage, storage.first + record.offset, extent)
        if len(data) != extent * storage.dtype.itemsize:
            raise UnpicklingError("it ends too early")
        flat = torch.frombuffer(bytearray(data), dtype=storage.dtype)
        return flat.as_strided(record.shape, record.stride).contiguous()


def open_torch(path: Path) -> TorchFile:
    """Read a file's description of its tensors, but not their numbers.

    Raises:
        UnpicklingError: the file is damaged, or was not written by torch.
    """
    return _open_archive(path) if zipfile.is_zipfile(path) else _open_old(path)


def _open_archive(path: Path) -> TorchFile:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        description = next((name for name in members if name.rpartition("/")[2] == "data.pkl"), None)
        if description is None:
            raise UnpicklingError("it is an archive, but not torch's")
        folder = description.removesuffix("data.pkl")
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
            raise UnpicklingError("it is compressed, which torch's files are not")
        if members[description].file_size > LARGEST:
            raise UnpicklingError(f"its description of the network is larger than {LARGEST >> 20} MiB")
        order = archive.read(f"{folder}byteorder").decode("ascii") if f"{folder}byteorder" in members else "little"
        if order != sys.byteorder:
            raise UnpicklingError(f"its numbers are {order[:20]}-endian")
        content, _, _ = load(archive.read(description))

    def read(storage: StorageRecord, first: int, length: int) -> bytes:
        width = storage.dtype.itemsize
        with zipfile.ZipFile(path) as archive, archive.open(f"{folder}data/{storage.key}") as file:
            file.seek(first * width)
            return file.read(length * width)

    return TorchFile(content, read)


def _open_old(path: Path) -> TorchFile:
    size = path.stat().st_size
    with path.open("rb") as file:
        data = file.read(LARGEST)
    magic, end, _ = load(data)
    if magic != _MAGIC:
        raise UnpicklingError("it is a pickle, but not torch's")
    for _ in range(2):  # the version of the format; the sizes of the machine's number types
        _, end, _ = load(data, end)
    content, end, storages = load(data, end)
    keys, end, _ = load(data, end)
    places = {}
    for key in keys:
        storage = storages.get(str(key))
        if storage is None:  # numbers that cannot be weights: the storages after them cannot be located
            break
        places[storage.key] = end + 8  # after the number of elements
        end += 8 + storage.length * storage.dtype.itemsize
    if end > size:
        raise UnpicklingError("it ends too early")

    def read(storage: StorageRecord, first: int, length: int) -> bytes:
        width = storage.dtype.itemsize
        with path.open("rb") as file:
            file.seek(places[storage.key] + first * width)
            return file.read(length * width)

    return TorchFile(content, read)
