"""How a kernel starts: on the current stream, in the configuration that was fastest, tuned once and kept on disk."""

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
"""Held while a kernel starts: Triton's autotuner keeps the arguments of a call in itself. Also to be held while a CUDA
graph is recorded, for tuning in another thread would wait for the whole device, and end the recording."""

_LEAST_PROGRAMS = 256  # about two for each multiprocessor of a large GPU

_DTYPES = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


def numbers(dtype: torch.dtype) -> dict[str, Any]:
    """The constants that say in which numbers a kernel multiplies.

    DTYPE is what factors are rounded to, OPERAND what `tl.dot` then gets: float32 where bfloat16 is interpreted, for
    numpy has none. FAST allows functions that are exact to 11 bits.
    """
    operand = tl.float32 if INTERPRETED and dtype == torch.bfloat16 else _DTYPES[dtype]
    return {"DTYPE": _DTYPES[dtype], "OPERAND": operand, "FAST": not INTERPRETED and dtype != torch.float32}


@triton.jit
def _probe_kernel(x_ptr):
    tl.store(x_ptr, 1.0)


def probe(device: torch.device) -> None:
    """Compile and start a kernel of one line; raises whatever keeps Triton from that."""
    x = torch.zeros(1, device=device)
    with torch.cuda.device(device):
        _probe_kernel[(1,)](x)


def check_offsets(*tensors: torch.Tensor) -> None:
    """Refuse tensors (N, …) whose items reach too far in memory: kernels count inside one in 32 bits.

    Raises:
        RuntimeError: the last sample of an item is 2³¹ or more samples behind its first one.
    """
    for x in tensors:
        reach = sum((length - 1) * stride for length, stride in zip(x.shape[1:], x.stride()[1:], strict=True))
        if reach >= 1 << 31:
            raise RuntimeError(f"expected a frame of at most 2³¹ samples, got {reach + 1}: use tiles")


@dataclass(frozen=True)
class Launch:
    """What starts a kernel.

    Attributes:
        kernel: The jitted function.
        grid: Number of programs, from all that is constant.
        choices: Configurations, the default first.
        arguments: Tensors and numbers by name, in order.
        constants: By name, but for those of a configuration.
        steps: How often a program of one configuration goes through its loop, from all values by name; None where
            programs differ too much for one number.
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
    """Collect what this thread would start, and start nothing: results are not computed.

    Args:
        processors: Multiprocessors of the GPU that the launches would be for.
    """
    launches: list[Launch] = []
    tokens = _recording.set(launches), _recorded_processors.set(processors)
    try:
        yield launches
    finally:
        _recording.reset(tokens[0])
        _recorded_processors.reset(tokens[1])


def is_recording() -> bool:
    """Whether launches are only recorded: then nobody reads the numbers in tensors."""
    return _recording.get() is not None


def processors(device: torch.device) -> int:
    """Multiprocessors of a device; where there is none, those that `recorded` was told."""
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
    """How many batches a network runs as it is, before it is tuned and recorded: a short clip is done before that."""
    return _patience


@contextmanager
def impatient() -> Iterator[None]:
    """Let this process tune and record at the first call, for what is measured must be as fast as it will be."""
    global _patience
    _patience = 1
    try:
        yield
    finally:
        _patience = _PATIENCE


class Tuned:
    """A kernel and the configurations it may run in; which one is measured when that is worth it, for each key.

    Until it has been called often enough, a kernel takes the default: to compile and measure the others takes as long
    as thousands of calls. So does a call of few programs, whose times would say nothing, and be kept for all images
    to come; and a kernel for whose measurement there was no memory.

    Args:
        kernel: The jitted function.
        key: Names of the constants a measurement is valid for: never a height or a width; types of tensors count
            anyway.
        steps: As in `Launch`.
    """

    def __init__(self, kernel: Any, key: Sequence[str], steps: Callable[[dict[str, Any]], int] | None = None) -> None:
        self._kernel = kernel
        self._steps = steps
        self._key = list(key)
        self._tuners: dict[str, Any] = {}
        self._calls: Counter[tuple[Any, ...]] = Counter()  # large ones, for each key
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
            grid: Number of programs, from all that is constant.
            choices: What may be chosen, the default first.
            args: Arguments of the kernel.
            kwargs: ″, by name.

        Raises:
            RuntimeError: whatever keeps Triton from compiling or starting it.
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
        # A product and a sum are one operation, as in cuDNN; said aloud, for Triton is about to change its mind.
        kwargs["enable_fp_fusion"] = True
        with LOCK, torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            try:
                if not self._start_tuned(grid, choices, args, kwargs):
                    self._kernel[grid](*args, **kwargs, **choices[0])
            except (RuntimeError, MemoryError):
                raise
            except Exception as error:  # Triton's own errors have no builtin above them; nor do those of its compilers
                raise RuntimeError(f"{type(error).__name__}: {error}") from error

    def _start_tuned(
        self, grid: Any, choices: list[dict[str, Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bool:
        """Start the fastest configuration, which is measured first if now is the time for it; else say no."""
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
            # Measuring takes a large tensor, to clear the caches. That there is no room for it says nothing of frames.
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
