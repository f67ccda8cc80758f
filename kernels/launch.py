"""Launches kernels: on the current stream, in the fastest configuration, which is measured once and kept on disk."""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_log = logging.getLogger(__name__)

INTERPRETED: bool = triton.knobs.runtime.interpret  # on the CPU, in numpy: for tests

LOCK = threading.RLock()
"""Held while a kernel starts, as Triton's autotuner stores the arguments of a call in itself. Must also be held while a
CUDA graph is recorded: tuning in another thread would wait for the whole device, and end the recording."""

_LEAST_PROGRAMS = 256  # about two for each multiprocessor of a large GPU

_DTYPES = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


def numbers(dtype: torch.dtype) -> dict[str, Any]:
    """The constants for the types that a kernel multiplies.

    DTYPE is the type that factors are rounded to, OPERAND the type given to `tl.dot`: float32 if bfloat16 is
    interpreted, as numpy has no bfloat16. FAST allows functions that are exact to 11 bits.
    """
    operand = tl.float32 if INTERPRETED and dtype == torch.bfloat16 else _DTYPES[dtype]
    return {"DTYPE": _DTYPES[dtype], "OPERAND": operand, "FAST": not INTERPRETED and dtype != torch.float32}


@triton.jit
def _probe_kernel(x_ptr):
    tl.store(x_ptr, 1.0)


def probe(device: torch.device) -> None:
    """Compile and start a kernel of one line; raises Triton's error if that fails."""
    x = torch.zeros(1, device=device)
    with torch.cuda.device(device):
        _probe_kernel[(1,)](x)


def check_offsets(*tensors: torch.Tensor) -> None:
    """Check that items of tensors (N, …) are not too large in memory: kernels use 32-bit offsets inside an item.

    Raises:
        RuntimeError: the last sample of an item is 2³¹ or more samples behind its first one.
    """
    for x in tensors:
        reach = sum((length - 1) * stride for length, stride in zip(x.shape[1:], x.stride()[1:], strict=True))
        if reach >= 1 << 31:
            raise RuntimeError(f"expected a frame of at most 2³¹ samples, got {reach + 1}: use tiles")


@dataclass(frozen=True)
class Launch:
    """A launch of a kernel.

    Attributes:
        kernel: The jitted function.
        grid: Computes the number of programs from all constants.
        choices: Configurations, the default first.
        arguments: Tensors and numbers by name, in order.
        constants: Constants by name, without those of a configuration.
        steps: Computes the iterations of a program's loop from all values by name; None if programs differ too much
            for one number.
    """

    kernel: Any
    grid: Callable[[dict[str, Any]], tuple[int, ...]]
    choices: list[dict[str, Any]]
    arguments: dict[str, Any]
    constants: dict[str, Any]
    steps: Callable[[dict[str, Any]], int] | None


_recording: ContextVar[list[Launch] | None] = ContextVar("_recording", default=None)
_recorded_processors: ContextVar[int] = ContextVar("_recorded_processors", default=132)


@contextmanager
def recorded(processors: int = 132) -> Iterator[list[Launch]]:
    """Collect this thread's launches without starting them: results are not computed.

    Args:
        processors: Multiprocessors of the GPU that the launches are for.
    """
    launches: list[Launch] = []
    tokens = _recording.set(launches), _recorded_processors.set(processors)
    try:
        yield launches
    finally:
        _recording.reset(tokens[0])
        _recorded_processors.reset(tokens[1])


def is_recording() -> bool:
    """Whether launches are only recorded: tensors' values are then never read."""
    return _recording.get() is not None


def processors(device: torch.device) -> int:
    """Multiprocessors of a device; without a GPU, those given to `recorded`."""
    return _processors(device) if device.type == "cuda" else _recorded_processors.get()


@cache
def _processors(device: torch.device) -> int:
    count: int = torch.cuda.get_device_properties(device).multi_processor_count
    return count


def once(_: dict[str, Any]) -> int:
    """The steps of a program without a loop."""
    return 1


_PATIENCE = 64
_patience = _PATIENCE


def patience() -> int:
    """How many batches a network runs before it is tuned and recorded, which is not worth it for short clips."""
    return _patience


@contextmanager
def impatient() -> Iterator[None]:
    """Make this process tune and record at the first call, so that measurements show the final speed."""
    global _patience
    _patience = 1
    try:
        yield
    finally:
        _patience = _PATIENCE


class Tuned:
    """A kernel and its possible configurations; for each key they are measured once that is worth it.

    A kernel uses the default until it has been called often enough, as compiling and measuring the others takes as
    long as thousands of calls. Calls of few programs use it, too, as their times would mean nothing and would be kept
    for all later images; and so do kernels that there was no memory to measure.

    Args:
        kernel: The jitted function.
        key: Names of the constants that a measurement is valid for, never a height or a width; types of tensors are
            always part of it.
        steps: As in `Launch`.
    """

    def __init__(self, kernel: Any, key: Sequence[str], steps: Callable[[dict[str, Any]], int] | None = None) -> None:
        self._kernel = kernel
        self._steps = steps
        self._key = list(key)
        self._tuners: dict[str, Any] = {}
        self._calls: Counter[tuple[Any, ...]] = Counter()  # calls of many programs, for each key
        self._measured: dict[tuple[Any, ...], bool] = {}  # whether there was memory for it

    def __call__(
        self,
        grid: Callable[[dict[str, Any]], tuple[int, ...]],
        choices: list[dict[str, Any]],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Start the kernel.

        Args:
            grid: Computes the number of programs from all constants.
            choices: The possible configurations, the default first.
            args: Arguments of the kernel.
            kwargs: ″, by name.

        Raises:
            RuntimeError: Triton cannot compile or start it.
        """
        recording = _recording.get()
        if recording is not None:
            arguments = dict(zip(self._kernel.arg_names, args, strict=False))  # the names that follow are constants
            recording.append(Launch(self._kernel, grid, choices, arguments, kwargs, self._steps))
            return
        tensors = (arg for arg in args if isinstance(arg, torch.Tensor))
        device = next(tensors).device
        if INTERPRETED:
            self._kernel[grid](*args, **kwargs, **choices[0])
            return
        # A product and a sum are one operation, as in cuDNN; set explicitly, as Triton is about to change its default.
        kwargs["enable_fp_fusion"] = True
        with LOCK, torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            try:
                if not self._start_tuned(grid, choices, args, kwargs):
                    self._kernel[grid](*args, **kwargs, **choices[0])
            except (RuntimeError, MemoryError):
                raise
            except Exception as error:  # errors of Triton and of its compilers have no common builtin base class
                raise RuntimeError(f"{type(error).__name__}: {error}") from error

    def _start_tuned(
        self, grid: Any, choices: list[dict[str, Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bool:
        """Start the fastest configuration, measuring it first if due; return False if the default must be used."""
        if len(choices) == 1 or math.prod(grid(choices[0])) < _LEAST_PROGRAMS:
            return False
        types = (arg.dtype for arg in args if isinstance(arg, torch.Tensor))
        key = (repr(choices), *(kwargs.get(name) for name in self._key), *types)
        if key not in self._measured:
            self._calls[key] += 1
            if self._calls[key] < patience():
                return False
        elif not self._measured[key]:
            return False
        try:
            self._tuner(choices)[grid](*args, **kwargs)
        except RuntimeError as error:
            if "out of memory" not in str(error):
                raise
            # Measuring needs a large tensor, to clear the caches. There may still be room for frames without it.
            _log.info("no memory to tune a kernel with: it runs in its default configuration")
            self._measured[key] = False
            return False
        self._measured[key] = True
        return True

    def _tuner(self, choices: list[dict[str, Any]]) -> Any:
        name = repr(choices)
        if name not in self._tuners:
            configs = []
            for choice in choices:
                meta = dict(choice)
                options = {option: meta.pop(option, None) for option in ("num_warps", "num_stages")}
                configs.append(triton.Config(meta, **options))
            self._tuners[name] = triton.autotune(configs, key=self._key, cache_results=True)(self._kernel)
        return self._tuners[name]
