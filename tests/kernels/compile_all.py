"""Compiles kernels to machine code for architectures, without a GPU; a program, for here Triton must not interpret.

Usage: compile_all.py ARCHITECTURES everything|default|ptx — prints one line of JSON for each kernel that was compiled.
"""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of these only the defaults are compiled: 86 and 89 get the code of 80 and differ in how much fits; on 75, whose matrix
# units Triton does not use, the kernels do not run unless they are asked for.
_DEFAULTS_ONLY = (75, 86, 89)
_MATRIX = re.compile(r"wgmma\.mma_async|tcgen05\.mma|mma\.sync")


def launches(work: Any) -> list[Any]:
    """What a case would start on a GPU."""
    with import_module("vsr_plugin.kernels.launch").recorded() as found:
        work.kernel()
    return list(found)


def works(architectures: list[int], *, everything: bool) -> Iterator[tuple[Any, torch.dtype, Any]]:
    """(case, dtype, work): all cases in float16; or the first one of every kernel, in every dtype."""
    seen: set[str] = set()
    for case in import_module("vsr_plugin.kernels.cases").CASES:
        if everything and case.kernel in seen:
            continue
        seen.add(case.kernel)
        for dtype in (torch.float16, torch.bfloat16, torch.float32) if everything else (torch.float16,):
            if any(case.runs_on(architecture, dtype) for architecture in architectures):
                # Height and width are multiples of 16, as those of video are.
                yield case, dtype, case.prepare(1, 16, 32, dtype, torch.device("cpu"))


def small_works(architecture: int, names: str = "") -> Iterator[tuple[str, Any]]:
    """(key, work) of small cases, of odd sizes: all in float16; in every dtype the first one of every kernel.

    What is for Hopper alone has no other test, and is there in all its dtypes. `…_ampere` differs from it in products
    only, and is the same for all GPUs: of other scales than the first, one format is enough.

    Args:
        architecture: Those that run on it.
        names: A pattern that the keys must match.
    """
    seen: set[str] = set()
    for case in import_module("vsr_plugin.kernels.cases").CASES:
        for dtype in (torch.float16, torch.bfloat16, torch.float32):
            key = f"{case.kernel}: {case.name}, {str(dtype).removeprefix('torch.')}"
            wanted = dtype == torch.float16 or case.kernel not in seen or case.kernel.endswith("_hopper")
            if case.kernel.endswith("_ampere"):
                wanted &= architecture != 90 and ("×3" in case.name or "8 bits" in case.name)
            if wanted and case.runs_on(architecture, dtype) and re.search(names, key):
                yield key, case.prepare(*_small_size(case.kernel, dtype), dtype, torch.device("cpu"))
        seen.add(case.kernel)


def _small_size(kernel: str, dtype: torch.dtype) -> tuple[int, int, int]:
    """(n, height, width) with several tiles each way, and no more."""
    if dtype == torch.float32:  # exact numbers need many instructions, and take long
        return 1, 3, 20
    if kernel.endswith(("hopper", "ampere")):  # two strips, and two segments
        return 2, 9, 70
    return 2, 5, 37


def main(architectures: list[int], *, everything: bool) -> None:
    assemble = import_module("vsr_plugin.kernels.assembly").assemble
    for case, dtype, work in works(architectures, everything=everything):
        for launch in launches(work):
            # Whatever the numbers are, the choices differ in the same way.
            choices = launch.choices if everything and dtype == torch.float16 else launch.choices[:1]
            for index, choice in enumerate(choices):
                for architecture in architectures:
                    if not case.runs_on(architecture, dtype):
                        continue
                    # float32 is the same everywhere; bfloat16 is refused on Turing.
                    if {torch.float32: architecture != 90, torch.bfloat16: architecture < 80}.get(dtype):
                        continue
                    if index and architecture in _DEFAULTS_ONLY:
                        continue
                    compiled = assemble(launch, choice, architecture)
                    line = {
                        "case": f"{case.kernel}: {case.name}",
                        "kernel": compiled.name,
                        "dtype": str(dtype),
                        "architecture": architecture,
                        "choice": choice,
                        "default": index == 0,
                        "shared": compiled.shared,
                        "matrix": sorted(set(_MATRIX.findall(compiled.ptx))),
                        **compiled.usage,
                    }
                    print(json.dumps(line), flush=True)


def print_ptx(architecture: int, names: str) -> None:
    """The default of each case, and the first case of each kernel in the other types, without assembling it."""
    assemble = import_module("vsr_plugin.kernels.assembly").assemble
    for key, work in small_works(architecture, names):
        (launch,) = launches(work)
        compiled = assemble(launch, launch.choices[0], architecture, only_ptx=True)
        line = {"key": key, "parameters": compiled.parameters, "shared": compiled.shared, "ptx": compiled.ptx}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    if sys.argv[2] == "ptx":
        print_ptx(int(sys.argv[1]), sys.argv[3])
    else:
        main([int(word) for word in sys.argv[1].split(",")], everything=sys.argv[2] == "everything")
