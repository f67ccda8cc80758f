"""Compiles a kernel for any GPU, without having one: PTX, machine code, registers, shared memory."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from . import gluon

if TYPE_CHECKING:
    from .launch import Launch

_POINTERS = {
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.uint8: "*u8",
    torch.uint16: "*u16",
    torch.int32: "*i32",
}
_OPTIONS = ("num_warps", "num_stages", "maxnreg")  # of a configuration; all others are constants of the kernel


@dataclass(frozen=True)
class Assembly:
    """A kernel in one configuration, for one architecture.

    Attributes:
        name: The kernel's name.
        ptx: NVIDIA's portable assembly language.
        cubin: Machine code; empty if not requested.
        parameters: Names of the kernel's arguments that are not constant, in order.
        shared: Bytes of shared memory per program.
        warps: Warps per program.
    """

    name: str
    ptx: str
    cubin: bytes
    parameters: tuple[str, ...]
    shared: int
    warps: int

    @cached_property
    def usage(self) -> dict[str, int]:
        """Per thread: registers ("reg"), and bytes of stack and of local memory, to which registers are spilled."""
        found = re.findall(r"(REG|STACK|LOCAL):(\d+)", self._read("-res-usage"))
        return {name.lower(): int(value) for name, value in found}

    @cached_property
    def listing(self) -> str:
        """The machine code, disassembled."""
        return self._read("-sass")

    def _read(self, how: str) -> str:
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(self.cubin)
            file.flush()
            command = [triton.knobs.nvidia.cuobjdump.path, how, file.name]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603


def assemble(launch: Launch, choice: dict[str, Any], architecture: int, *, only_ptx: bool = False) -> Assembly:
    """Compile a kernel as a launch of it would.

    Args:
        launch: What `recorded` collected.
        choice: One of its configurations.
        architecture: Compute capability, such as 90 for 9.0.
        only_ptx: Leave out the machine code.

    Raises:
        triton.errors.TritonError: the kernel does not compile.
    """
    source, options = _source(launch, choice)
    knobs = triton.knobs.runtime
    with knobs.scope():
        if only_ptx:
            knobs.add_stages_inspection_hook = _skip_machine_code
        compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    return Assembly(
        name=compiled.metadata.name,
        ptx=compiled.asm["ptx"],
        cubin=compiled.asm.get("cubin", b""),
        parameters=tuple(name for name, kind in source.signature.items() if kind != "constexpr"),
        shared=compiled.metadata.shared,
        warps=compiled.metadata.num_warps,
    )


def _source(launch: Launch, choice: dict[str, Any]) -> tuple[ASTSource, dict[str, Any]]:
    """The source that Triton compiles at a launch: most integers are specialized for 1 and for multiples of 16."""
    kernel = launch.kernel
    signature: dict[str, str] = {}
    constants, attributes = {}, {}
    for index, (name, value) in enumerate(launch.arguments.items()):
        known = not kernel.params[index].do_not_specialize
        if isinstance(value, torch.Tensor):
            signature[name] = _POINTERS[value.dtype]
        elif isinstance(value, float):
            signature[name] = "fp32"
        elif value == 1 and known:
            signature[name], constants[name] = "constexpr", 1
        else:
            signature[name] = "i32"
        if isinstance(value, torch.Tensor) or (known and isinstance(value, int) and value % 16 == 0):
            attributes[(index,)] = [["tt.divisibility", 16]]
    for name, value in {**launch.constants, **choice}.items():
        if name in kernel.arg_names:
            signature[name], constants[name] = "constexpr", value
    options = {name: choice[name] for name in _OPTIONS if choice.get(name)}
    ordered = {name: signature[name] for name in kernel.arg_names}
    kind = gluon.GluonASTSource if gluon.is_gluon(kernel) else ASTSource
    return kind(kernel, ordered, constants, attributes), options | {"enable_fp_fusion": True}


def _skip_machine_code(*stages: Any) -> tuple[str, str] | None:
    """A hook that makes Triton stop after PTX. Called without arguments, it returns a key for Triton's cache."""
    if not stages:
        return "ptx", "ptx"
    stages[1]["cubin"] = lambda _, __: b""
    return None
