"""Predict how long our kernels would take on a GPU that is not here, by counting their machine code.

Every part of a multiprocessor is a queue: it issues four instructions of warps a clock, moves 128 bytes a clock from
and to shared memory and the level-1 cache, and multiplies and computes special functions at fixed rates. The busiest
part sets the least time. How much longer it takes depends on how well the programs that share a multiprocessor fill
each other's pauses: at worst, a program's parts work one after another, and only other programs overlap with them
(a closed queue with a customer for each program, by mean value analysis: Reiser and Lavenberg, JACM 27, 1980). Misses
of the level-1 cache cost bandwidth here, but no latency; bank conflicts are not modelled.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from ..errors import BackendError, UsageError
from . import machine_code
from .kernel_cases import timed_cases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .machine_code import Demand

_log = logging.getLogger(__name__)

_ISSUED = 4  # instructions of warps a clock


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU by its published figures.

    Attributes:
        name: Common name.
        architecture: Compute capability, such as 90 for 9.0.
        processors: Multiprocessors.
        clock: Clock in Hz that it keeps under load.
        products: Products of float16 with float32 sums a clock, by the matrix units of a multiprocessor.
        bandwidth: Bytes a second that a copy reads and writes.
        flops: Operations a second that a large matrix product reaches.
        threads: Threads that a multiprocessor holds.
        programs: ″
        shared: Bytes of shared memory of a multiprocessor.
    """

    name: str
    architecture: int
    processors: int
    clock: float
    products: int
    bandwidth: float
    flops: float
    threads: int
    programs: int
    shared: int

    def resident(self, warps: int, registers: int, shared: int) -> int:
        """How many programs share a multiprocessor."""
        # Warps get registers in units of 256; the system keeps 1 KB of shared memory for each program.
        by_registers = 65_536 // (-(-registers * 32 // 256) * 256 * warps)
        return min(self.programs, self.threads // 32 // warps, by_registers, self.shared // (shared + 1024))

    def clocks(self, demand: Demand) -> dict[str, float]:
        """Clocks that each part of a multiprocessor works: issue, data, matrix units, special functions."""
        return {
            "issue": demand.instructions / _ISSUED,
            "data": demand.data,
            "matrix": demand.products / self.products,
            "special": demand.special,
        }


# For the H200, bandwidth and flops are measured, by a copy and by cuBLAS; for the others, they are nine tenths of the
# published bandwidth, and the published flops.
GPUS = (
    Gpu("H200", 90, 132, 1.755e9, 2048, 4.3e12, 790e12, 2048, 32, 233_472),
    Gpu("RTX 4090", 89, 128, 2.52e9, 256, 0.907e12, 165e12, 1536, 24, 102_400),
    Gpu("RTX 3090", 86, 82, 1.695e9, 256, 0.842e12, 71e12, 1536, 16, 102_400),
)


@dataclass(frozen=True, slots=True)
class Prediction:
    """How long a kernel would take, and why.

    Attributes:
        kernel: Name of the kernel.
        case: What is special about this use.
        gpu: The GPU's name.
        architecture: Its compute capability.
        steps: How often a program goes through its loop; 1 if it has none.
        instructions: Instructions of a program's warps in a step; without a loop, in all of it.
        clocks: How long a step of a program keeps each part of a multiprocessor busy, by the part's name.
        registers: Registers of a thread.
        spilled: Bytes of a thread that registers do not hold.
        shared: Bytes of shared memory of a program.
        resident: Programs that share a multiprocessor.
        products: Multiply-accumulates by the matrix units in the whole launch, including those of padding.
        least: Seconds of the whole launch, if the busiest part never waits.
        most: ″, if a program's parts wait for each other, and only other programs overlap with them.
        floor: Seconds that the GPU needs at best for the same result.
    """

    kernel: str
    case: str
    gpu: str
    architecture: int
    steps: int
    instructions: float
    clocks: dict[str, float]
    registers: int
    spilled: int
    shared: int
    resident: int
    products: float
    least: float
    most: float
    floor: float

    @property
    def busiest(self) -> str:
        """The part that sets the least time."""
        return max(self.clocks, key=self.clocks.__getitem__)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; times in seconds."""
        return asdict(self) | {"busiest": self.busiest}


def predict_kernels(
    only: str = "", *, batch: int = 8, height: int = 1080, width: int = 1920, gpus: tuple[Gpu, ...] = GPUS
) -> Iterator[Prediction]:
    """Compile every kernel that is worth timing, in float16, and count what it does; no GPU is needed.

    Args:
        only: Part of a kernel's name or of a case's.
        batch: Frames at once.
        height: Height of a frame, before it is enlarged.
        width: ″
        gpus: The GPUs to predict for.

    Raises:
        BackendError: Triton is not installed.
        UsageError: Triton interprets its kernels in this process, or there is no such kernel.
    """
    from ..kernels import AVAILABLE

    if not AVAILABLE:
        raise BackendError("Predictions need the package triton, which is not installed")
    launch: Any = import_module("vsr_plugin.kernels.launch")
    if launch.INTERPRETED:
        raise UsageError("Expected Triton to compile, but it interprets: TRITON_INTERPRET is set")
    for case in timed_cases(only):
        for gpu in gpus:
            if not case.runs_on(gpu.architecture, torch.float16):
                continue
            _log.info("%s: %s for %s", case.kernel, case.name, gpu.name)
            with launch.recorded(gpu.processors) as launches:
                work = case.prepare(batch, height, width, torch.float16, torch.device("cpu"))
                work.kernel()
            (started,) = launches
            if started.steps is not None:
                yield predict(case, work, started, gpu)


def predict(case: Any, work: Any, launch: Any, gpu: Gpu) -> Prediction:
    """Predict how long one launch would take.

    Args:
        case: The `Case`.
        work: Its `Work`.
        launch: The `Launch` that it starts.
        gpu: The GPU to predict for.
    """
    choice = launch.choices[0]
    compiled = import_module("vsr_plugin.kernels.assembly").assemble(launch, choice, gpu.architecture)
    code = machine_code.read(compiled.listing, compiled.warps)
    values = {**launch.arguments, **launch.constants, **choice}
    steps = launch.steps(values) if code.loops else 1
    step = code.inside if code.loops else code.outside
    whole = code.outside + code.inside.times(steps)
    usage = compiled.usage
    resident = gpu.resident(compiled.warps, usage["reg"], compiled.shared)
    (programs,) = launch.grid({**launch.constants, **choice})
    each = -(-programs // gpu.processors)  # programs of a multiprocessor
    busy = sorted(gpu.clocks(whole).values())
    least, most = busy[-1], _clocks_of_a_program(busy[-1], sum(busy[:-1]), min(resident, each))
    memory = work.bytes / gpu.bandwidth
    return Prediction(
        kernel=case.kernel,
        case=case.name,
        gpu=gpu.name,
        architecture=gpu.architecture,
        steps=steps,
        instructions=step.instructions,
        clocks=gpu.clocks(step),
        registers=usage["reg"],
        spilled=usage["stack"] + usage["local"],
        shared=compiled.shared,
        resident=resident,
        products=whole.products * programs,
        least=max(each * least / gpu.clock, memory),
        most=max(each * most / gpu.clock, memory),
        floor=max(memory, work.flops / gpu.flops),
    )


def _clocks_of_a_program(busiest: float, others: float, programs: int) -> float:
    """Clocks between the ends of two programs, if ``programs`` take turns at the busiest part; see the module."""
    queue = 0.0
    for count in range(1, programs + 1):
        there = busiest * (1 + queue)
        rate = count / (there + others)
        queue = rate * there
    return 1 / rate
