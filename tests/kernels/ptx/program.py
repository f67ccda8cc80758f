"""PTX as a list of instructions."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Address:
    """``[base + offset]``."""

    base: str
    offset: int


Operand = str | Address | tuple[str, ...]  # a register or a number; memory; a vector


def vector(operand: Operand) -> tuple[str, ...]:
    """The registers of a vector, or the only one."""
    assert not isinstance(operand, Address)
    return operand if isinstance(operand, tuple) else (operand,)


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        text: As it was written, for messages.
        name: ``ld.global.v4.b32``, …
        parts: … and its parts.
        operands: In order.
        guard: The predicate without which it does nothing, if there is one.
        negated: Whether it must be false.
    """

    text: str
    name: str
    parts: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: str | None
    negated: bool


@dataclass(frozen=True)
class Program:
    """A kernel.

    Attributes:
        parameters: Type for each name, in order.
        threads: Of a block.
        instructions: In order.
        labels: Where each one points: an index of an instruction.
    """

    parameters: dict[str, str]
    threads: int
    instructions: tuple[Instruction, ...]
    labels: dict[str, int]


_PARAMETER = re.compile(r"\.param\s+\.(\w+)(?:\s+\.ptr[^,\n)]*)?\s+(\w+)")
_LABEL = re.compile(r"\s*(\$?\w+):(?!:)")
_GUARD = re.compile(r"@(!?)(%?\w+)\s+")
_ADDRESS = re.compile(r"\[\s*([%$\w]+)\s*(?:\+\s*(-?\w+)\s*)?\]")


def parse(text: str) -> Program:
    """Read the only kernel of a module."""
    start = text.index(".entry")
    head, _, body = text[start:].partition("\n{")
    threads = re.search(r"\.reqntid\s+(\d+)", head)
    if threads is None:
        raise ValueError("expected a kernel that says .reqntid")
    body = re.sub(r"//[^\n]*|\.loc\s[^\n]*", "", body.partition("\n\t.section")[0])
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    for statement in body.split(";"):
        words = statement.lstrip("{} \t\n")
        while label := _LABEL.match(words):
            labels[label[1]] = len(instructions)
            words = words[label.end() :].lstrip("{} \t\n")
        if words and not words.startswith("."):
            instructions.append(_instruction(" ".join(words.split())))
    return Program(
        {name: kind for kind, name in _PARAMETER.findall(head)}, int(threads[1]), tuple(instructions), labels
    )


def _instruction(text: str) -> Instruction:
    guard = _GUARD.match(text)
    name, _, rest = text[guard.end() if guard else 0 :].partition(" ")
    operands = tuple(_operand(word.strip()) for word in re.split(r",(?![^{\[]*[}\]])", rest) if word.strip())
    return Instruction(text, name, tuple(name.split(".")), operands, guard and guard[2], bool(guard and guard[1]))


def _operand(word: str) -> Operand:
    if word.startswith("{"):
        return tuple(part.strip() for part in word.strip("{}").split(","))
    address = _ADDRESS.fullmatch(word)
    return word if address is None else Address(address[1], int(address[2] or "0", 0))
