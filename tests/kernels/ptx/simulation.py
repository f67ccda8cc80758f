"""Launches of compiled kernels, on tensors of the CPU."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .block import launch
from .memory import Memory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .program import Program


@dataclass(frozen=True)
class Compiled:
    """A kernel for one architecture.

    Attributes:
        program: Its code.
        parameters: Names of the kernel's arguments that it takes, in order: those that are not constant.
        shared: Bytes of shared memory.
    """

    program: Program
    parameters: tuple[str, ...]
    shared: int


def simulate(compiled: Compiled, blocks: int, names: list[str], args: tuple[Any, ...]) -> dict[int, NDArray[np.bool_]]:
    """Run a kernel on tensors, in place.

    Args:
        compiled: The kernel.
        blocks: Of the grid.
        names: Of the kernel's arguments.
        args: Their values: tensors, and numbers.

    Returns:
        For the address of each storage among the arguments: which bytes were written.
    """
    memory = Memory()
    storages = {tensor.untyped_storage().data_ptr(): _bytes(tensor) for tensor in args if isinstance(tensor, Tensor)}
    starts = {address: memory.allocate(storage.numpy()) for address, storage in storages.items()}

    def bits(value: Any) -> int:
        if isinstance(value, Tensor):
            return starts[value.untyped_storage().data_ptr()] + int(value.storage_offset()) * value.element_size()
        return int.from_bytes(struct.pack("<f", value), "little") if isinstance(value, float) else int(value)

    values = dict(zip(names, args, strict=False))  # the names that follow are constants
    # The parameters that follow are Triton's own.
    parameters = zip(compiled.program.parameters, compiled.parameters, strict=False)
    arguments = {parameter: bits(values[name]) for parameter, name in parameters}
    launch(compiled.program, memory, arguments, compiled.shared, blocks)
    written = {}
    for address, storage in storages.items():
        start, end = starts[address], starts[address] + len(storage)
        storage.copy_(torch.from_numpy(memory.data[start:end]))
        written[address] = memory.written[start:end]
    return written


def expected_writes(result: Tensor) -> NDArray[np.bool_]:
    """Which bytes of its storage a tensor consists of."""
    numbers = torch.zeros(len(_bytes(result)) // result.element_size(), dtype=torch.bool)
    numbers.as_strided(result.shape, result.stride(), result.storage_offset()).fill_(value=True)
    flags: NDArray[np.bool_] = numbers.repeat_interleave(result.element_size()).numpy()
    return flags


def _bytes(tensor: Tensor) -> Tensor:
    """All of a tensor's storage."""
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
