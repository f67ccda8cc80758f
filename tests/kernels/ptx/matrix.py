"""Matrices in registers and in shared memory: what belongs to which thread, and products.

Source: PTX ISA, "Warp-level matrix instructions" and "Asynchronous warpgroup-level matrix instructions". Operands are
float16 or bfloat16; products are summed in float64, and rounded once to the float32 of the accumulators.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from .arithmetic import decode, types_of
from .errors import ProgramError
from .program import vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .block import Block
    from .program import Instruction, Operand

    Array = NDArray[Any]

_SHAPE = re.compile(r"m(\d+)n(\d+)k(\d+)")


def load(block: Block, instruction: Instruction) -> None:
    """``ldmatrix``: matrices of 8 × 8 numbers of 16 bits, of which each thread gets two neighbours of one row."""
    registers, source = vector(instruction.operands[0]), instruction.operands[1]
    rows, warps = _rows(block, source, len(registers))
    matrices = block.shared.load(rows, 16, warps).view(np.uint16).reshape(-1, len(registers), 8, 8)
    if "trans" in instruction.parts:
        matrices = matrices.swapaxes(2, 3)
    pairs = np.ascontiguousarray(matrices).view(np.uint32).reshape(-1, len(registers), 32)
    for index, register in enumerate(registers):
        block.write(register, pairs[:, index].ravel())


def store(block: Block, instruction: Instruction) -> None:
    """``stmatrix``: the way back."""
    target, registers = instruction.operands[0], vector(instruction.operands[1])
    rows, warps = _rows(block, target, len(registers))
    pairs = np.stack([block.bits(register, 32).reshape(-1, 32) for register in registers], 1)
    matrices = pairs.view(np.uint16).reshape(-1, len(registers), 8, 8)
    if "trans" in instruction.parts:
        matrices = matrices.swapaxes(2, 3)
    block.shared.store(rows, np.ascontiguousarray(matrices).view(np.uint8).reshape(-1, 16), warps)


def _rows(block: Block, operand: Operand, count: int) -> tuple[Array, Array]:
    """The address of each row of each matrix, which consecutive threads give, and the warps that these belong to."""
    rows = block.addresses(operand).reshape(-1, 32)[:, : 8 * count]
    return rows.ravel(), np.repeat(np.arange(len(rows)), 8 * count)


def multiply(block: Block, instruction: Instruction) -> None:
    """``mma.m16n8k16``: each warp multiplies what its threads hold."""
    if "m16n8k16" not in instruction.parts or types_of(instruction.parts)[0] != "f32":
        raise ProgramError("a product of a form that is not known here")
    kind = types_of(instruction.parts)[1]
    target, left, right, added = map(vector, instruction.operands)
    lane = np.arange(32)
    a = np.zeros((block.threads // 32, 16, 16))
    for index, register in enumerate(left):
        a[:, _row(lane, index % 2)[:, None], _columns(lane, index // 2)] = _pairs(block, register, kind)
    b = np.zeros((block.threads // 32, 8, 16))  # (n, k)
    for index, register in enumerate(right):
        b[:, (lane // 4)[:, None], _columns(lane, index)] = _pairs(block, register, kind)
    product = a @ b.swapaxes(1, 2)
    for index, (register, start) in enumerate(zip(target, added, strict=True)):
        part = product[:, _row(lane, index // 2), lane % 4 * 2 + index % 2].ravel()
        total = (decode(block.bits(start, 32), "f32") + part).astype(np.float32)
        block.write(register, total.view(np.uint32))


def multiply_group(block: Block, instruction: Instruction) -> None:
    """``wgmma.mma_async``: each four warps multiply matrices in shared memory; the left one may be in registers."""
    shape = _SHAPE.search(instruction.name)
    total_kind, kind, _ = types_of(instruction.parts)
    target, left, right, keep, *flags = instruction.operands
    signs, transposed = flags[:2], flags[2:]
    if shape is None or shape[1] + shape[3] != "6416" or total_kind != "f32" or signs != ["1", "1"]:
        raise ProgramError("a product of a form that is not known here")
    groups, columns = block.threads // 128, int(shape[2])
    thread = np.arange(128)
    if isinstance(left, tuple):
        block.consume(left)
        a = np.zeros((groups, 64, 16))
        for index, register in enumerate(left):
            rows, numbers = _row(thread, index % 2)[:, None], _pairs(block, register, kind).reshape(groups, 128, 2)
            a[:, rows, _columns(thread, index // 2)] = numbers
        transposed = ["0", *transposed]
    else:
        a = _operand(block, left, 64, kind, transposed=transposed[0] == "1")
    b = _operand(block, right, columns, kind, transposed=transposed[1] == "1")
    product = a @ b.swapaxes(1, 2)
    kept = block.bits(keep, 1)
    for index, register in enumerate(vector(target)):
        part = product[:, _row(thread, index // 2 % 2), index // 4 * 8 + thread % 4 * 2 + index % 2].ravel()
        total = (np.where(kept, block.accumulator(register), 0) + part).astype(np.float32)
        block.produce(register, total.view(np.uint32))


def _row(thread: Array, lower: int) -> Array:
    """The row that a register belongs to; of every 16, a warp's, the lower eight are in other registers."""
    row: Array = thread // 32 * 16 + thread % 32 // 4 + 8 * lower
    return row


def _columns(thread: Array, right: int) -> Array:
    """(…, 2): the two columns that a register belongs to."""
    return (thread % 4 * 2 + 8 * right)[:, None] + np.arange(2)


def _pairs(block: Block, register: str, kind: str) -> Array:
    """(warps, 32, 2): the numbers of a register, the low one first."""
    pairs = np.ascontiguousarray(block.bits(register, 32))[:, None].view(np.uint16)
    numbers: Array = decode(pairs.reshape(-1, 2), kind).reshape(-1, 32, 2)
    return numbers


def _operand(block: Block, descriptor: Operand, rows: int, kind: str, *, transposed: bool) -> Array:
    """(warpgroups, rows, 16) numbers that a matrix descriptor stands for; transposed, the rows are contiguous."""
    values = block.bits(descriptor, 64).reshape(-1, 128)
    if (values != values[:, :1]).any():
        raise ProgramError("threads of a warpgroup have different descriptors")
    places = np.stack([_places(int(value), rows, transposed=transposed) for value in values[:, 0]])
    content = block.shared.multiply(places, block.product_group)
    return decode(np.ascontiguousarray(content).view(np.uint16)[..., 0], kind).astype(np.float64)


def _places(descriptor: int, rows: int, *, transposed: bool) -> Array:
    """(rows, 16) addresses of what a matrix descriptor stands for.

    Its fields: address, leading and stride byte offset, all in units of 16 bytes; a base offset, not known here; the
    swizzle: none, or of 128, 64 or 32 bytes.
    """
    start, leading, stride = ((descriptor >> shift & 0x3FFF) << 4 for shift in (0, 16, 32))
    if descriptor >> 49 & 7:
        raise ProgramError("a matrix descriptor with a base offset")
    swizzle = descriptor >> 62
    wide = {0: 16, 1: 128, 2: 64, 3: 32}[swizzle]  # bytes of one row of the pattern
    row, column = np.arange(rows)[:, None], np.arange(16)[None, :]
    if transposed:
        across = wide // 2
        if swizzle:
            places = row // across * leading + column // 8 * stride
        else:
            places = row // across * stride + column // 8 * leading
        places = places + row % across * 2 + column % 8 * wide
    elif swizzle:
        places = row // 8 * stride + row % 8 * wide + column * 2
    else:
        places = row // 8 * stride + row % 8 * 16 + column // 8 * leading + column % 8 * 2
    places = places + start
    return places ^ (places >> 7 & {0: 0, 1: 7, 2: 3, 3: 1}[swizzle]) << 4
