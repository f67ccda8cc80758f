"""Disassembled machine code of NVIDIA's GPUs: how much each instruction uses the parts of a multiprocessor."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

_LINE = re.compile(r"\s+/\*([0-9a-f]{4,5})\*/\s+(?:@!?U?P\w+ +)?([A-Z][\w.]*)(.*?);")
_TARGET = re.compile(r"0x([0-9a-f]+)")
_PATH = 128  # bytes a clock between registers, shared memory and the level-1 cache
_LANES = 16  # lanes of special functions a clock
_WARP = 32
_ACCESSES = {"LDG", "STG", "LDS", "STS", "LDL", "STL", "LDGSTS"}
_SPECIAL = {"MUFU", "I2F", "F2I"}
_SHAPES = {"1688": (16, 8, 8), "16816": (16, 8, 16)}
_FROM_REGISTERS = re.compile(r"\s*R\d+, R\d+, gdesc")


@dataclass(frozen=True, slots=True)
class Demand:
    """How much code uses the parts of a multiprocessor.

    Attributes:
        instructions: Instructions of warps.
        data: Clocks of the path to shared memory and the level-1 cache, without bank conflicts.
        products: Multiply-accumulates by the matrix units.
        special: Clocks of the units for tanh, exp, division, and conversions from and to integers.
    """

    instructions: float = 0
    data: float = 0
    products: float = 0
    special: float = 0

    def __add__(self, other: Self) -> Demand:
        return Demand(
            self.instructions + other.instructions,
            self.data + other.data,
            self.products + other.products,
            self.special + other.special,
        )

    def times(self, count: float) -> Demand:
        """The demand of ``count`` repetitions."""
        return Demand(self.instructions * count, self.data * count, self.products * count, self.special * count)


@dataclass(frozen=True, slots=True)
class Code:
    """The demand of a program of a kernel, all of its warps together.

    Attributes:
        outside: Outside of loops.
        inside: In loops, each instruction once.
    """

    outside: Demand
    inside: Demand

    @property
    def loops(self) -> bool:
        """Whether there is a loop."""
        return self.inside.instructions > 0


def read(listing: str, warps: int) -> Code:
    """Read what ``cuobjdump -sass`` prints of one kernel.

    Args:
        listing: The text.
        warps: Warps of a program.

    Raises:
        ValueError: there is no instruction in it.
    """
    instructions = [(int(place, 16), name, rest) for place, name, rest in _LINE.findall(listing)]
    if not instructions:
        raise ValueError("expected disassembled machine code")
    loops = [(target, place) for place, name, rest in instructions for target in _back(place, name, rest)]
    parts = [Demand(), Demand()]
    for place, name, rest in instructions:
        repeated = any(first <= place <= last for first, last in loops)
        parts[repeated] += _demand(name, rest, warps)
    return Code(*parts)


def _back(place: int, name: str, rest: str) -> list[int]:
    """The target of a branch, if it is before it. The last branch goes to itself: it fills the end of the code."""
    found = _TARGET.search(rest) if name.split(".")[0] == "BRA" else None
    return [int(found[1], 16)] if found and int(found[1], 16) < place else []


def _demand(name: str, rest: str, warps: int) -> Demand:
    family, *parts = name.split(".")
    if family in _ACCESSES:
        return Demand(warps, _clocks(parts) * warps)
    if family in ("LDSM", "STSM"):  # so many matrices of 8 × 8 numbers, 128 bytes each
        return Demand(warps, (int(parts[-1]) if parts[-1].isdigit() else 1) * warps)
    if family == "HMMA":
        m, n, k = _SHAPES[next(part for part in parts if part in _SHAPES)]
        return Demand(warps, 0, m * n * k * warps)
    if family == "HGMMA":  # of four warps together; operands that are not in registers come from shared memory
        m, n, k = map(int, parts[0].split("x"))
        left = 0 if _FROM_REGISTERS.match(rest) else m * k
        return Demand(warps, 2 * (left + n * k) / _PATH * warps / 4, m * n * k * warps / 4)
    return Demand(warps, 0, 0, _WARP / _LANES * warps if family in _SPECIAL else 0)


def _clocks(parts: list[str]) -> int:
    """Clocks of an access by a warp: one for up to 32 bits a lane, which is the width of a bank."""
    return 4 if "128" in parts else 2 if "64" in parts else 1
