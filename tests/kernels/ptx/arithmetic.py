"""Numbers in registers: what their bits mean, and what instructions do with them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]

UNSIGNED: dict[int, Any] = {1: np.bool_, 8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
_SIGNED: dict[int, Any] = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
_FLOATING: dict[int, Any] = {16: np.float16, 32: np.float32, 64: np.float64}
_TYPE = re.compile(r"pred|bf16x2|f16x2|bf16|[busf](8|16|32|64)")


def types_of(parts: tuple[str, ...]) -> list[str]:
    """The types that an instruction's name ends with."""
    return [part for part in parts[1:] if _TYPE.fullmatch(part)]


def width(kind: str) -> int:
    """Bits of a type."""
    return 1 if kind == "pred" else 32 if kind.endswith("x2") else int(kind.lstrip("busf"))


def decode(bits: Array, kind: str) -> Array:
    """Numbers of a type from unsigned bits of its width; bfloat16 as float32."""
    if kind == "bf16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if kind[0] == "f":
        return bits.view(_FLOATING[width(kind)])
    return bits.view(_SIGNED[width(kind)]) if kind[0] == "s" else bits


def encode(numbers: Array, kind: str) -> Array:
    """The unsigned bits of numbers: rounded to nearest, ties to even; of integers the low bits."""
    if kind == "pred":
        return numbers.astype(bool)
    if kind == "bf16":
        bits = numbers.astype(np.float32).view(np.uint32)
        rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
        return (np.where(np.isnan(numbers), bits | np.uint32(0x400000), rounded) >> np.uint32(16)).astype(np.uint16)
    if kind[0] == "f":
        return numbers.astype(_FLOATING[width(kind)]).view(UNSIGNED[width(kind)])
    return numbers.astype(UNSIGNED[width(kind)])


def _divide(x: Array, y: Array) -> Array:
    if x.dtype.kind == "f":
        return x / y
    quotient: Array = np.abs(x.astype(np.int64)) // np.maximum(np.abs(y.astype(np.int64)), 1)
    return quotient * np.sign(x) * np.sign(y) if x.dtype.kind == "i" else quotient


def _remainder(x: Array, y: Array) -> Array:
    remainder: Array = x - _divide(x, y).astype(x.dtype) * y
    return remainder


def _shift_left(x: Array, n: Array) -> Array:
    bits = x.itemsize * 8
    return np.where(n < bits, x << np.minimum(n, bits - 1).astype(x.dtype), 0)


def _shift_right(x: Array, n: Array) -> Array:
    bits = x.itemsize * 8
    shifted: Array = x >> np.minimum(n, bits - 1).astype(x.dtype)
    return shifted if x.dtype.kind == "i" else np.where(n < bits, shifted, 0)


def _extract(x: Array, first: Array, count: Array) -> Array:
    """``bfe``: a signed field keeps its sign."""
    unsigned = x.view(UNSIGNED[x.itemsize * 8])
    kept = (np.uint64(1) << count.astype(np.uint64)) - np.uint64(1)
    field: Array = unsigned >> first.astype(unsigned.dtype) & kept.astype(unsigned.dtype)
    negative = (count > 0) & (field >> np.maximum(count.astype(np.int64) - 1, 0).astype(field.dtype) & 1 == 1)
    return np.where(negative & (x.dtype.kind == "i"), field | ~kept.astype(field.dtype), field)


def _insert(x: Array, y: Array, first: Array, count: Array) -> Array:
    """``bfi``: the low bits of x in place of some of y."""
    mask: Array = ((np.uint64(1) << count.astype(np.uint64)) - np.uint64(1) << first.astype(np.uint64)).astype(x.dtype)
    result: Array = y & ~mask | x << first.astype(x.dtype) & mask
    return result


def _permute(x: Array, y: Array, selector: Array) -> Array:
    """``prmt``: four bytes out of eight, or their signs."""
    source = np.stack([x, y], 1).view(np.uint8)
    rows = np.arange(len(x))
    result = np.zeros((len(x), 4), np.uint8)
    for index in range(4):
        choice = selector >> np.uint32(4 * index) & np.uint32(15)
        byte = source[rows, choice & 7]
        result[:, index] = np.where(choice & 8, np.where(byte & 128, 255, 0), byte)
    return result.view(np.uint32)[:, 0]


def _combine(x: Array, y: Array, z: Array, table: Array) -> Array:
    """``lop3``: any function of three bits."""
    result = np.zeros_like(x)
    for index in range(8):
        term = (x if index & 4 else ~x) & (y if index & 2 else ~y) & (z if index & 1 else ~z)
        result |= np.where(table >> np.uint32(index) & np.uint32(1), term, 0).astype(x.dtype)
    return result


def _fused(x: Array, y: Array, z: Array) -> Array:
    """A product and a sum, rounded once: the product of two float32 is exact in float64."""
    return x.astype(np.float64) * y + z if x.dtype.kind == "f" else x * y + z


OPERATIONS: dict[str, Callable[..., Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "mad": _fused, "fma": _fused, "min": np.fmin, "max": np.fmax,
    "div": _divide, "rem": _remainder, "neg": np.negative, "abs": np.abs, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor, "not": np.invert, "shl": _shift_left, "shr": _shift_right, "bfe": _extract, "bfi": _insert,
    "prmt": _permute, "lop3": _combine, "rcp": np.reciprocal, "sqrt": np.sqrt, "ex2": np.exp2, "lg2": np.log2,
    "tanh": np.tanh, "mov": np.array,
}  # fmt: skip

# Of the third operand on, types are not those of the instruction.
COUNTS = {"shl": 1, "shr": 1, "bfe": 1, "bfi": 2, "lop3": 3}

_COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip


def compare(how: str, x: Array, y: Array) -> Array:
    """``setp``; the comparisons that end in u are true of NaN, too."""
    unordered = x.dtype.kind == "f" and how.endswith("u")
    ordered = how[:-1] if unordered else how
    if ordered not in _COMPARISONS:
        raise ProgramError(f"no comparison is called {how}")
    both = ~(np.isnan(x) | np.isnan(y)) if x.dtype.kind == "f" else np.ones(x.shape, bool)
    return _COMPARISONS[ordered](x, y) & both | ~both & unordered


def widen(operation: str, x: Array, y: Array, *, high: bool) -> Array:
    """The whole product of integers, twice as wide; or its upper half."""
    if operation not in ("mul", "mad"):
        raise ProgramError(f"{operation} has no wide form")
    bits = x.itemsize * 8
    if not high:
        double: Any = (_SIGNED if x.dtype.kind == "i" else UNSIGNED)[2 * bits]
        whole: Array = x.astype(double) * y.astype(double)
        return whole
    product = x.astype(object) * y.astype(object) >> bits
    return np.array([int(one) & (1 << bits) - 1 for one in product], UNSIGNED[bits])


def convert(x: Array, parts: tuple[str, ...], target: str) -> Array:
    """``cvt``: from numbers of any type to those of another one."""
    to_integer = target[0] in "su"
    if x.dtype.kind == "f" and (to_integer or {"rni", "rzi", "rmi", "rpi"} & set(parts)):
        rounding = next((part for part in parts if part in ("rni", "rzi", "rmi", "rpi")), "rzi")
        x = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[rounding](x)
        if to_integer:  # out of range is clamped, and NaN is 0
            range_ = np.iinfo((_SIGNED if target[0] == "s" else UNSIGNED)[width(target)])
            x = np.clip(np.nan_to_num(x.astype(np.float64), nan=0.0), range_.min, range_.max)
    if "sat" in parts:
        x = np.clip(np.nan_to_num(x, nan=0.0), 0.0, 1.0)
    return x.astype(np.int64) if to_integer and x.dtype.kind == "f" else x
