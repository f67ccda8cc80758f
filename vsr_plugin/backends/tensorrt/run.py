"""Runs an engine: on memory of torch, on the caller's stream, as a CUDA graph, with the end in our own kernel."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...arrays import as_tensor
from ...kernels import SampleFormat, load_ops, pixel_shuffle, to_samples, to_unit, usable
from ..memory import translated_errors
from ..recording import record
from .flavor import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ...arrays import Array
    from ...samples import SampleFormat as PlaneFormat
    from . import Shape
    from .flavor import LoadedEngine

_log = logging.getLogger(__name__)


class EngineNetwork:
    """A `SamplesNetwork` of one shape that keeps one input and one output on the device.

    Args:
        engine: An engine on ``device``.
        shape: (N, C, H, W).
        shuffle: The pixel shuffle that remains after the engine; 1 is none.
        device: A CUDA device; the CPU for engines that run there, in tests.
        name: The network's name, for messages.

    Attributes:
        recorded: Whether it runs as a CUDA graph.

    Raises:
        RuntimeError: the engine reports an error, and is closed.
    """

    def __init__(self, engine: LoadedEngine, shape: Shape, shuffle: int, device: torch.device, name: str) -> None:
        self._engine, self._shuffle, self._device, self._task = engine, shuffle, device, f"tensorrt: running {name}"
        self._last: torch.cuda.Stream | None = None
        try:
            with current(device):
                self._x, self._y = engine.bind(shape, device)
                self._replay, self.recorded = _record(engine, device)
        except BaseException:
            engine.close()  # the missing memory may be the engine's
            raise

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Run one batch."""
        with translated_errors(self._task):
            self._run(x)
            frames = self._frames()
            own = frames.data_ptr() == self._y.data_ptr()
            return frames.clone() if own else frames  # the next run overwrites the engine's own output

    @torch.inference_mode()
    def upscale_samples(self, x: Array, samples: PlaneFormat) -> Array:
        """Run one batch of native samples, as `SamplesNetwork` says: shuffled, rounded and stored in one kernel."""
        if isinstance(x, np.ndarray):
            return self.upscale_samples(as_tensor(x), samples).numpy()
        with translated_errors(self._task):
            self._run(to_unit(x, samples.peak))
            if usable(self._device):
                stored: Tensor = load_ops().shuffle_to_samples(
                    self._y, self._shuffle, SampleFormat(samples.peak, samples.depth)
                )
                return stored
            return to_samples(self._frames(), samples.depth, peak=samples.peak)

    def close(self) -> None:
        """Free the engine and its memory, once the device is done with them."""
        if self._last is not None:
            self._last.synchronize()
        with current(self._device):
            del self._replay, self._x, self._y
            self._engine.close()

    def _frames(self) -> Tensor:
        """float32 (N, C, H·scale, W·scale), perhaps in the memory of the output."""
        y = pixel_shuffle(self._y, self._shuffle) if self._shuffle > 1 else self._y
        return y.to(torch.float32)

    def _run(self, x: Tensor) -> None:
        if self._device.type == "cuda":
            stream = torch.cuda.current_stream(self._device)
            if self._last is not None and self._last != stream:
                stream.wait_stream(self._last)  # it still uses input, output and workspace
            self._last = stream
        self._x.copy_(x)
        self._replay()


def _record(engine: LoadedEngine, device: torch.device) -> tuple[Callable[[], None], bool]:
    """Make a CUDA graph of a run; returns a function that runs it on the current stream, and whether it is a graph.

    An engine that cannot be recorded is enqueued each time: on a stream of its own, because on the default stream
    TensorRT would wait for the whole device.
    """
    if device.type != "cuda":
        return lambda: engine.enqueue(0), False
    own = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def aside() -> None:
        caller = torch.cuda.current_stream(device)
        own.wait_stream(caller)
        with current(device):
            engine.enqueue(own.cuda_stream)
        caller.wait_stream(own)

    aside()  # compiles, and lets libraries settle
    why = "the library does not allow it"
    if engine.capturable(own.cuda_stream):
        try:
            graph = record(lambda: engine.enqueue(own.cuda_stream), own)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            why = str(error)
        else:
            return graph.replay, True
    _log.warning("no CUDA graph of this engine, so it runs a little slower: %s", why)
    return aside, False
