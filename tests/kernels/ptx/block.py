"""One block of threads: registers, memory, control."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from . import matrix
from .arithmetic import COUNTS, OPERATIONS, UNSIGNED, compare, convert, decode, encode, types_of, widen, width
from .errors import ProgramError, RaceError
from .memory import Memory
from .program import Address, vector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from .program import Instruction, Operand, Program

    Array = NDArray[Any]

_NUMBER = re.compile(r"-?(0[xX][0-9a-fA-F]+|\d+)U?")
_STEPS = 1_000_000  # more than any kernel of a test takes: an endless loop
_MODIFIERS = {"approx", "ftz", "full", "hi", "lo", "rn", "to", "wide"}  # those of arithmetic that are known here


class Block:
    """Threads that run a program.

    Args:
        program: What they run.
        memory: The global one.
        arguments: Bits of each parameter of the kernel; 0 by default.
        shared: Bytes of shared memory.
        index: Of the block, in a grid of one dimension.
        blocks: Of that grid.
    """

    def __init__(
        self, program: Program, memory: Memory, arguments: Mapping[str, int], shared: int, index: int, blocks: int
    ) -> None:
        self.program = program
        self.threads = program.threads
        self.memory, self.shared = memory, Memory(shared)
        self.warps = np.arange(self.threads) // 32
        self._everyone = np.ones(self.threads, bool)
        self._arguments = arguments
        self._registers: dict[str, Array] = {}
        self._constants: dict[tuple[str, int], Array] = {}
        self._special: dict[str, Any] = {
            "%tid.x": np.arange(self.threads), "%ntid.x": self.threads, "%ctaid.x": index, "%nctaid.x": blocks,
            "%laneid": np.arange(self.threads) % 32, "%warpid": self.warps, "global_smem": 0,
            **dict.fromkeys(("%tid.y", "%tid.z", "%ctaid.y", "%ctaid.z"), 0),
            **dict.fromkeys(("%ntid.y", "%ntid.z", "%nctaid.y", "%nctaid.z"), 1),
        }  # fmt: skip
        # Copies to shared memory, and products of matrices, run on in groups until somebody waits for them.
        self._copies: deque[list[tuple[Array, Array, Array]]] = deque([[]])
        self._copy_group = 1
        self.product_group = 1
        self._products_done = 0
        self._producing: dict[str, int] = {}  # registers that a group of products writes
        self._consuming: dict[str, int] = {}  # registers that it reads
        self._unordered: set[str] = set()  # registers that threads wrote after the last fence between both
        memory.enter(index)

    def run(self) -> None:
        """Run to the end.

        Raises:
            ProgramError: the program does what it must not.
        """
        position, steps = 0, 0
        with np.errstate(all="ignore"):
            while position < len(self.program.instructions):
                instruction = self.program.instructions[position]
                try:
                    position = self._step(instruction, position)
                except ProgramError as error:
                    where = f"instruction {position}: {instruction.text[:100]}"
                    raise type(error)(f"{error} ({where})") from error
                steps += 1
                if steps > _STEPS:
                    raise ProgramError("an endless loop")

    def bits(self, operand: Operand, size: int) -> Array:
        """(threads,) unsigned integers of ``size`` bits: the low ones of a wide register, zeros before a narrow one."""
        assert isinstance(operand, str)
        value = self._registers.get(operand)
        if value is None:
            return self._constant(operand, size)
        if self._producing.get(operand, 0) > self._products_done:
            raise RaceError(f"{operand} is read before the product that writes it is done")
        return value if value.dtype == UNSIGNED[size] else value.astype(UNSIGNED[size])

    def write(self, operand: Operand, bits: Array, mask: Array | None = None) -> None:
        """Set a register, in all threads or where a mask says so."""
        assert isinstance(operand, str)
        if self._producing.get(operand, 0) > self._products_done:
            raise RaceError(f"{operand} is written before the product that writes it is done")
        if self._consuming.get(operand, 0) > self._products_done:
            raise RaceError(f"{operand} is written before the product that reads it is done")
        self._unordered.add(operand)
        if mask is not None and mask is not self._everyone:
            old = self._registers.get(operand)
            bits = np.where(mask, bits, np.zeros_like(bits) if old is None else old.astype(bits.dtype))
        self._registers[operand] = bits

    def consume(self, operands: tuple[str, ...]) -> None:
        """Say that the current group of products reads registers: until it is done they must stay as they are."""
        self._check_order(operands)
        self._consuming.update(dict.fromkeys(operands, self.product_group))

    def produce(self, operand: str, bits: Array) -> None:
        """Set a register that must not be used before the current group of products is done."""
        self._check_order((operand,))
        self._registers[operand] = bits
        self._producing[operand] = self.product_group

    def accumulator(self, operand: str) -> Array:
        """(threads,) float32 of a register that products add to, whichever group they are of."""
        value = self._registers.get(operand)
        return decode(self._constant(operand, 32) if value is None else value, "f32")

    def _check_order(self, operands: tuple[str, ...]) -> None:
        for operand in operands:
            if operand in self._unordered:
                raise RaceError(f"no wgmma.fence between a write to {operand} and the product that takes it")

    def addresses(self, operand: Operand) -> Array:
        """(threads,) addresses."""
        assert isinstance(operand, Address)
        addresses: Array = self.bits(operand.base, 64).astype(np.int64) + operand.offset
        return addresses

    def _constant(self, word: str, size: int) -> Array:
        key = word, size
        if key not in self._constants:
            if word in self._special:
                value = self._special[word]
            elif word.startswith(("0f", "0d")):
                value = int(word[2:], 16)
            elif _NUMBER.fullmatch(word):
                value = int(word.rstrip("U"), 0) & ((1 << size) - 1)
            elif word.startswith("%"):  # never written: of all bits one, NaN
                value = (1 << size) - 1
            else:
                raise ProgramError(f"what is {word}?")
            self._constants[key] = np.zeros(self.threads, UNSIGNED[size]) + np.asarray(value).astype(UNSIGNED[size])
        return self._constants[key]

    def _mask(self, instruction: Instruction) -> Array:
        if instruction.guard is None:
            return self._everyone
        guard = self.bits(instruction.guard, 1)
        return ~guard if instruction.negated else guard

    def _step(self, instruction: Instruction, position: int) -> int:
        """Do one instruction, and return the position of the next one."""
        mask = self._mask(instruction)
        name = instruction.parts[0]
        if not mask.any():
            return position + 1
        if name in ("bra", "ret", "exit"):
            if not mask.all():
                raise ProgramError("threads of a block part ways")
            labels = self.program.labels
            return labels[str(instruction.operands[0])] if name == "bra" else len(self.program.instructions)
        if name in _SPECIAL:
            _SPECIAL[name](self, instruction, mask)
        elif name in OPERATIONS:
            self._compute(instruction, mask)
        else:
            raise ProgramError("an instruction that is not known here")
        return position + 1

    def _compute(self, instruction: Instruction, mask: Array) -> None:
        name, *rest = instruction.parts
        kind = types_of(instruction.parts)[-1]
        if set(rest) - _MODIFIERS - {kind}:
            raise ProgramError("arithmetic of a form that is not known here")
        target, *operands = instruction.operands
        if kind.endswith("x2"):
            halves = [decode(self.bits(one, 32).view(np.uint16), kind[:-2]) for one in operands]
            self.write(target, encode(OPERATIONS[name](*halves), kind[:-2]).view(np.uint32), mask)
            return
        counts = COUNTS.get(name, 0)
        size = width(kind)
        values = [decode(self.bits(one, size), kind) for one in operands[: len(operands) - counts]]
        values += [self.bits(one, 32) for one in operands[len(operands) - counts :]]
        if "wide" in rest or "hi" in rest:
            high = "hi" in rest
            size = size if high else 2 * size
            result = widen(name, values[0], values[1], high=high)
            if name == "mad":
                result = result.view(UNSIGNED[size]) + self.bits(operands[2], size)
            self.write(target, result.view(UNSIGNED[size]), mask)
        else:
            self.write(target, encode(OPERATIONS[name](*values), kind), mask)

    def _move(self, instruction: Instruction, mask: Array) -> None:
        target, source = instruction.operands
        kind = types_of(instruction.parts)[-1]
        size = width(kind)
        in_order = self._unordered.isdisjoint(vector(source))
        if isinstance(source, tuple):
            part = size // len(source)
            columns = [self.bits(one, part) for one in source]
            self.write(target, np.stack(columns, 1).view(UNSIGNED[size])[:, 0], mask)
        elif isinstance(target, tuple):
            columns = np.ascontiguousarray(self.bits(source, size))[:, None].view(UNSIGNED[size // len(target)]).T
            for register, column in zip(target, columns, strict=True):
                self.write(register, column, mask)
        else:
            self.write(target, self.bits(source, size), mask)
        if in_order:  # compilers rename registers between the fence and a product, which assemblers see through
            self._unordered.difference_update(vector(target))

    def _compare(self, instruction: Instruction, mask: Array) -> None:
        kind = types_of(instruction.parts)[-1]
        target, *operands = instruction.operands
        x, y = (decode(self.bits(one, width(kind)), kind) for one in operands)
        self.write(target, compare(instruction.parts[1], x, y), mask)

    def _select(self, instruction: Instruction, mask: Array) -> None:
        target, first, second, choice = instruction.operands
        size = width(types_of(instruction.parts)[-1])
        self.write(target, np.where(self.bits(choice, 1), self.bits(first, size), self.bits(second, size)), mask)

    def _convert(self, instruction: Instruction, mask: Array) -> None:
        target, *operands = instruction.operands
        to, origin = types_of(instruction.parts)
        if to.endswith("x2"):  # the first operand is the upper half
            halves = [encode(decode(self.bits(one, 32), origin), to[:-2]) for one in reversed(operands)]
            bits = np.stack(halves, 1).view(np.uint32)[:, 0]
        else:
            (operand,) = operands
            bits = encode(convert(decode(self.bits(operand, width(origin)), origin), instruction.parts, to), to)
        self.write(target, bits, mask)

    def _load(self, instruction: Instruction, mask: Array) -> None:
        kind = types_of(instruction.parts)[-1]
        targets, source = vector(instruction.operands[0]), instruction.operands[1]
        bits = UNSIGNED[width(kind)]
        if instruction.parts[1] == "param":
            assert isinstance(source, Address)
            value = self._arguments.get(source.base, 0) & ((1 << width(kind)) - 1)
            self.write(targets[0], np.full(self.threads, value, bits), mask)
            return
        size = width(kind) // 8 * len(targets)
        content = np.zeros((self.threads, size), np.uint8)
        where = self.addresses(source)
        content[mask] = self._space(instruction).load(where[mask], size, self.warps[mask])
        for target, column in zip(targets, content.view(bits).T, strict=True):
            self.write(target, column, mask)

    def _store(self, instruction: Instruction, mask: Array) -> None:
        kind = types_of(instruction.parts)[-1]
        target, sources = instruction.operands[0], vector(instruction.operands[1])
        columns = np.stack([self.bits(source, width(kind)) for source in sources], 1)
        where = self.addresses(target)
        self._space(instruction).store(where[mask], columns.view(np.uint8)[mask], self.warps[mask])

    def _space(self, instruction: Instruction) -> Memory:
        space = instruction.parts[1].partition("::")[0]
        if space not in ("shared", "global"):
            raise ProgramError("expected an access to shared or global memory")
        return self.shared if space == "shared" else self.memory

    def _shuffle(self, instruction: Instruction, mask: Array) -> None:
        target, source, by, *_ = instruction.operands
        lanes = np.arange(self.threads) % 32
        n = self.bits(by, 32).astype(np.int64)
        how = instruction.parts[2]
        lane = {"bfly": lanes ^ n, "idx": n % 32, "up": lanes - n, "down": lanes + n}[how]
        lane = np.where((lane >= 0) & (lane < 32), lane, lanes)
        assert isinstance(target, str)
        self.write(target.partition("|")[0], self.bits(source, 32)[self.warps * 32 + lane], mask)

    def _synchronize(self, instruction: Instruction, mask: Array) -> None:
        if instruction.parts[1] == "warp":
            return
        if not mask.all() or len(instruction.operands) > 1:
            raise ProgramError("expected a barrier of all threads")
        self.shared.barrier()
        self.memory.barrier()

    def _fence(self, instruction: Instruction, _: Array) -> None:
        if "proxy" in instruction.parts:
            self.shared.fence()

    def _copy(self, instruction: Instruction, mask: Array) -> None:
        action = instruction.parts[2]
        if instruction.parts[1] != "async" or action == "bulk":
            raise ProgramError("a copy of a form that is not known here")
        if action == "commit_group":
            self._copies.append([])
            self._copy_group += 1
        elif action == "wait_group":
            while len(self._copies) - 1 > int(str(instruction.operands[0])):
                self.shared.end_copies(self._copy_group - len(self._copies) + 1)
                for where, content, warps in self._copies.popleft():
                    self.shared.store(where, content, warps)
        else:
            target, source, length, *rest = instruction.operands
            size = int(str(length), 0)
            given = self.bits(rest[0], 32) if rest else np.full(self.threads, size)
            if ((given != 0) & (given != size)).any():
                raise ProgramError("a copy of less than its size")
            content = np.zeros((self.threads, size), np.uint8)  # what is not given is zero
            reads = mask & (given != 0)
            content[reads] = self.memory.load(self.addresses(source)[reads], size, self.warps[reads])
            where, warps = self.addresses(target)[mask], self.warps[mask]
            self.shared.begin_copy(where, size, warps, self._copy_group)
            self._copies[-1].append((where, content[mask], warps))

    def _group_products(self, instruction: Instruction, mask: Array) -> None:
        if not mask.all():
            raise ProgramError("expected all threads to multiply")
        action = instruction.parts[1]
        if action == "mma_async":
            matrix.multiply_group(self, instruction)
        elif action == "fence":
            self._unordered.clear()
        elif action == "commit_group":
            self.product_group += 1
        elif action == "wait_group":
            done = self.product_group - 1 - int(str(instruction.operands[0]))
            self.shared.end_products(done)
            self._products_done = max(self._products_done, done)

    def _multiply(self, instruction: Instruction, mask: Array) -> None:
        if not mask.all():
            raise ProgramError("expected all threads to multiply")
        matrix.multiply(self, instruction)

    def _matrix(self, instruction: Instruction, mask: Array) -> None:
        if not mask.all():
            raise ProgramError("expected all threads to move matrices")
        (matrix.load if instruction.parts[0] == "ldmatrix" else matrix.store)(self, instruction)

    def _ignore(self, _: Instruction, __: Array) -> None:
        """Nothing that is modelled."""


_SPECIAL = {
    "ld": Block._load, "st": Block._store, "mov": Block._move, "setp": Block._compare, "selp": Block._select,
    "cvt": Block._convert, "shfl": Block._shuffle, "bar": Block._synchronize, "barrier": Block._synchronize,
    "fence": Block._fence, "cp": Block._copy, "wgmma": Block._group_products, "mma": Block._multiply,
    "ldmatrix": Block._matrix, "stmatrix": Block._matrix, "membar": Block._ignore, "griddepcontrol": Block._ignore,
}  # fmt: skip


def launch(program: Program, memory: Memory, arguments: Mapping[str, int], shared: int, blocks: int) -> None:
    """Run all blocks of a grid, one after the other.

    Raises:
        RaceError: threads of a block race.
        ProgramError: the program does what it must not.
    """
    for index in range(blocks):
        Block(program, memory, arguments, shared, index, blocks).run()
