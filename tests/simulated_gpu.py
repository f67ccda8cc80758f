"""A GPU without one: streams whose work is done late, in any order that they allow, and a clock.

It stands for `torch.cuda` and for the copies to and from the device. What a stream does is only queued; it is done when
the host waits for it, or at random before. Memory that is freed is written over by the stream that allocated it, once
that stream comes to it, as torch's allocator would give it away again. Whoever forgets to wait sees wrong numbers.
"""

from __future__ import annotations

import weakref
from collections import deque
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from vsr_plugin.frames import Samples

GARBAGE = 222


class Memory:
    """A tensor on the device; its numbers are there when the stream that writes them has come so far."""

    def __init__(self, gpu: SimulatedGPU, shape: tuple[int, ...]) -> None:
        self.numbers = torch.full(shape, GARBAGE, dtype=torch.uint8)
        gpu.used += 1
        gpu.most_used = max(gpu.most_used, gpu.used)
        weakref.finalize(self, gpu.free, gpu.now, self.numbers)


class Event:
    """Done when its stream has come so far."""

    def __init__(self, gpu: SimulatedGPU, time: float) -> None:
        self.time, self.done = time, False
        self._gpu = gpu

    def synchronize(self) -> None:
        while not self.done:
            self._gpu.step()
        self._gpu.time = max(self._gpu.time, self.time)


class Queue:
    """Work in order; of more weight, sooner than that of others."""

    def __init__(self, gpu: SimulatedGPU, weight: float) -> None:
        self.time = 0.0
        self.weight = weight
        self.queue: deque[tuple[Event | None, Callable[[], object]]] = deque()  # (what it waits for, what it does)
        self._gpu = gpu
        gpu.streams.append(self)

    def enqueue(self, work: Callable[[], object], seconds: float) -> None:
        self._gpu.maybe_step()
        self.time = max(self.time, self._gpu.time) + seconds
        self.queue.append((None, work))

    def record_event(self) -> Event:
        event = Event(self._gpu, max(self.time, self._gpu.time))

        def happen() -> None:
            event.done = True

        self.queue.append((None, happen))
        return event

    def wait_stream(self, other: Queue) -> None:
        event = other.record_event()
        self.time = max(self.time, event.time)
        self.queue.append((event, lambda: None))


class SimulatedGPU:
    """Takes the place of `torch.cuda`.

    Attributes:
        time: On the host's clock, in seconds.
        used: Tensors on the device.
        most_used: At any time.

    Args:
        seed: Of the order in which things are done.
        copy_in: Seconds for a plane.
        copy_out: ″
    """

    def __init__(self, seed: int = 0, copy_in: float = 0.0, copy_out: float = 0.0) -> None:
        self._random = Random(seed)
        self._pace = self._random.choice([0.0, 0.2, 0.5, 0.8])
        self._copy_in, self._copy_out = copy_in, copy_out
        self.time = 0.0
        self.used = self.most_used = 0
        self.streams: list[Queue] = []
        self.now = self.Stream()

    # As torch.cuda has it.

    def Stream(self, _: object = None) -> Queue:  # noqa: N802 - as torch calls it
        return Queue(self, self._random.random() ** 4)

    def current_stream(self, _: object) -> Queue:
        return self.now

    @contextmanager
    def stream(self, stream: Queue) -> Iterator[None]:
        before, self.now = self.now, stream
        try:
            yield
        finally:
            self.now = before

    def synchronize(self, _: object = None) -> None:
        for stream in self.streams:
            stream.record_event().synchronize()

    # As `vsr_plugin.device` has it.

    def upload(self, planes: Sequence[Samples], _: object) -> Memory:
        stack = torch.from_numpy(np.stack(planes))
        return self.launch(lambda: stack, (), tuple(stack.shape), self._copy_in)

    def download(self, memory: Memory) -> Tensor:
        target, source = torch.full_like(memory.numbers, GARBAGE), memory.numbers
        self.now.enqueue(lambda: target.copy_(source), self._copy_out)
        return target

    # Of its own.

    def launch(
        self, function: Callable[..., Tensor], sources: Sequence[Memory], shape: tuple[int, ...], seconds: float = 0.0
    ) -> Memory:
        """Compute on the current stream."""
        target = Memory(self, shape)
        numbers, read = target.numbers, [source.numbers for source in sources]
        self.now.enqueue(lambda: numbers.copy_(function(*read)), seconds)
        return target

    def free(self, stream: Queue, numbers: Tensor) -> None:
        """Let the stream write to it."""
        self.used -= 1
        stream.queue.append((None, lambda: numbers.fill_(GARBAGE)))

    def maybe_step(self) -> None:
        """Do as much as a GPU that is not waited for may have done."""
        while any(stream.queue for stream in self.streams) and self._random.random() < self._pace:
            self.step()

    def step(self) -> None:
        """Do something that may be done now."""
        ready: list[Any] = [
            stream
            for stream in self.streams
            if stream.queue and (stream.queue[0][0] is None or stream.queue[0][0].done)
        ]
        weights = [stream.weight for stream in ready]
        self._random.choices(ready, weights)[0].queue.popleft()[1]()
