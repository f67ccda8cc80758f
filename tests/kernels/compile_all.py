"""Compiles kernels to machine code for architectures, without a GPU; a program, for here Triton must not interpret.

Usage: compile_all.py ARCHITECTURES everything|default|ptx — prints one line of JSON for each kernel that was compiled.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

if TYPE_CHECKING:
    from collections.abc import Iterator

_POINTERS = {
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.uint8: "*u8",
    torch.uint16: "*u16",
}
# Of these only the defaults are compiled: 86 and 89 get the code of 80 and differ in how much fits; on 75, whose matrix
# units Triton does not use, the kernels do not run unless they are asked for.
_DEFAULTS_ONLY = (75, 86, 89)
_MATRIX = re.compile(r"wgmma\.mma_async|tcgen05\.mma|mma\.sync")


def launches(work: Any) -> Iterator[tuple[Any, list[dict[str, Any]], tuple[Any, ...], dict[str, Any]]]:
    """(kernel, choices, arguments, constants) of what a case would start on a GPU."""
    launch = import_module("vsr_plugin.kernels.launch")
    found: list[Any] = []

    def record(self: Any, grid: Any, choices: Any, *args: Any, **kwargs: Any) -> None:
        found.append((self._kernel, choices, args, kwargs))

    real, launch.Tuned.__call__ = launch.Tuned.__call__, record
    try:
        work.kernel()
    finally:
        launch.Tuned.__call__ = real
    yield from found


def source(kernel: Any, choice: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """What Triton would compile at a launch: of most arguments it is known whether they are 1 or a multiple of 16."""
    signature: dict[str, str] = {}
    constants, attributes = {}, {}
    for index, (name, value) in enumerate(zip(kernel.arg_names, args, strict=False)):
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
    for name, value in {**kwargs, **choice}.items():
        if name in kernel.arg_names:
            signature[name], constants[name] = "constexpr", value
    options = {name: choice[name] for name in ("num_warps", "num_stages") if choice.get(name)}
    ordered = {name: signature[name] for name in kernel.arg_names}
    return ASTSource(kernel, ordered, constants, attributes), options | {"enable_fp_fusion": True}


def usage(binary: bytes) -> dict[str, int]:
    """Registers and bytes of stack of machine code, as cuobjdump reads them."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name.lower(): int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", said)}


def skip_assembler(*stages: Any) -> tuple[str, str] | None:
    """For Triton to call: PTX is all that is wanted."""
    if not stages:
        return "ptx", "ptx"
    stages[1]["cubin"] = lambda _, __: b""
    return None


def works(*, everything: bool) -> Iterator[tuple[Any, torch.dtype, Any]]:
    """(case, dtype, work): all cases in float16; or the first one of every kernel, in every dtype."""
    seen: set[str] = set()
    for case in import_module("vsr_plugin.kernels.cases").CASES:
        if everything and case.kernel in seen:
            continue
        seen.add(case.kernel)
        for dtype in (torch.float16, torch.bfloat16, torch.float32) if everything else (torch.float16,):
            # Height and width are multiples of 16, as those of video are.
            yield case, dtype, case.prepare(1, 16, 32, dtype, torch.device("cpu"))


def small_works(names: str = "") -> Iterator[tuple[str, Any]]:
    """(key, work) of small cases, of odd sizes: all in float16, the first one of every kernel in every dtype.

    Args:
        names: A pattern that the keys must match.
    """
    seen: set[str] = set()
    for case in import_module("vsr_plugin.kernels.cases").CASES:
        for dtype in (torch.float16, torch.bfloat16, torch.float32):
            key = f"{case.kernel}: {case.name}, {str(dtype).removeprefix('torch.')}"
            if (dtype == torch.float16 or case.kernel not in seen) and re.search(names, key):
                # Exact numbers need many instructions, and take long.
                size = (1, 3, 20) if dtype == torch.float32 else (2, 5, 37)
                yield key, case.prepare(*size, dtype, torch.device("cpu"))
        seen.add(case.kernel)


def main(architectures: list[int], *, everything: bool) -> None:
    for case, dtype, work in works(everything=everything):
        for kernel, choices, args, kwargs in launches(work):
            # Whatever the numbers are, the choices differ in the same way.
            for index, choice in enumerate(choices if everything and dtype == torch.float16 else choices[:1]):
                what, options = source(kernel, choice, args, kwargs)
                for architecture in architectures:
                    # float32 is the same everywhere; bfloat16 is refused on Turing.
                    if {torch.float32: architecture != 90, torch.bfloat16: architecture < 80}.get(dtype):
                        continue
                    if index and architecture in _DEFAULTS_ONLY:
                        continue
                    compiled = triton.compile(what, target=GPUTarget("cuda", architecture, 32), options=options)
                    line = {
                        "case": f"{case.kernel}: {case.name}",
                        "kernel": compiled.metadata.name,
                        "dtype": str(dtype),
                        "architecture": architecture,
                        "choice": choice,
                        "default": index == 0,
                        "shared": compiled.metadata.shared,
                        "matrix": sorted(set(_MATRIX.findall(compiled.asm["ptx"]))),
                        **usage(compiled.asm["cubin"]),
                    }
                    print(json.dumps(line), flush=True)


def print_ptx(architecture: int, names: str) -> None:
    """The default of each case, and the first case of each kernel in the other types, without assembling it."""
    triton.knobs.runtime.add_stages_inspection_hook = skip_assembler
    for key, work in small_works(names):
        ((kernel, (choice, *_), args, kwargs),) = launches(work)
        what, options = source(kernel, choice, args, kwargs)
        compiled = triton.compile(what, target=GPUTarget("cuda", architecture, 32), options=options)
        parameters = [name for name, kind in what.signature.items() if kind != "constexpr"]
        line = {"key": key, "parameters": parameters, "shared": compiled.metadata.shared, "ptx": compiled.asm["ptx"]}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    if sys.argv[2] == "ptx":
        print_ptx(int(sys.argv[1]), sys.argv[3])
    else:
        main([int(word) for word in sys.argv[1].split(",")], everything=sys.argv[2] == "everything")
