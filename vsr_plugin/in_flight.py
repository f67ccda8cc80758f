"""`InFlight`: batches of frames on their way through a device, several at a time.

A GPU copies in, computes and copies out at the same time, each in a stream of its own. A batch is begun without waiting
for the one before; whoever wants its frames waits for them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import torch

from .backends.memory import translated_errors
from .device import download, upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor

    from .frames import Frame

    type Results = Callable[[], list[Frame]]  # waits for them

# One is copied in, one computed and one copied out: then the slowest of the three never waits for the others.
_MOST = 3


class Batch:
    """Frames on their way.

    Args:
        planes: (N, H, W) on the CPU, to be filled.
        task: What is being done, for the message of an error.
        filled: When they are; None if they are already.
        used: Tensors on the device that are in use until then.
    """

    def __init__(
        self,
        planes: Sequence[Tensor],
        task: str,
        filled: torch.cuda.Event | None = None,
        used: Sequence[Tensor] = (),
    ) -> None:
        self._planes = planes
        self._task = task
        self._filled = filled
        self._used = used

    def wait(self) -> Sequence[Tensor]:
        """Its planes, once they are there.

        Raises:
            BackendError: the device failed.
        """
        if self._filled is not None:
            with translated_errors(self._task):
                self._filled.synchronize()
            self._filled, self._used = None, ()
        return self._planes


class InFlight:
    """Takes batches through one device, in order.

    On the CPU a batch is done as soon as it is begun.

    Attributes:
        most: How many may be begun before the first is waited for; a further one waits by itself.

    Args:
        device: The CPU or a GPU of CUDA.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._batches: deque[Batch] = deque()
        self.most = 1
        if device.type == "cuda":
            self.most = _MOST
            make: Callable[..., torch.cuda.Stream] = torch.cuda.Stream  # which has no types
            self._inward, self._computing, self._outward = (make(device) for _ in range(3))

    def begin(
        self, planes: Sequence[Sequence[Tensor]], compute: Callable[[list[Tensor]], Sequence[Tensor]], task: str
    ) -> Batch:
        """Send a batch to the device.

        Args:
            planes: Of each plane all frames', (H, W) on the CPU. They are read before this returns.
            compute: (N, H, W) planes on the device → the same; enqueues on the current stream.
            task: What is being done, for the message of an error.

        Raises:
            Exception: what ``compute`` raises. The batches before go on.
        """
        if self._device.type == "cpu":
            return Batch(compute([upload(stack, self._device) for stack in planes]), task)
        while len(self._batches) >= self.most:
            self._batches.popleft().wait()
        self._computing.wait_stream(torch.cuda.current_stream(self._device))  # the caller's, which may make weights
        with torch.cuda.stream(self._inward):
            small = [upload(stack, self._device) for stack in planes]
        self._computing.wait_stream(self._inward)
        with torch.cuda.stream(self._computing):
            large = compute(small)
        self._outward.wait_stream(self._computing)
        with torch.cuda.stream(self._outward):
            results = [download(plane) for plane in large]
            filled = self._outward.record_event()
        # A stream takes freed memory again in its own order, and does not know that another still reads it.
        self._batches.append(Batch(results, task, filled, (*small, *large)))
        return self._batches[-1]

    def run(self, batches: Iterable[list[Frame]], begin: Callable[[list[Frame]], Results]) -> Iterator[Frame]:
        """Take a stream through the device; an error is raised after the frames before it.

        Args:
            batches: The stream.
            begin: Begins a batch by `begin`.
        """
        begun: deque[Results] = deque()
        failure: Exception | None = None
        try:
            for batch in batches:
                begun.append(begin(batch))
                if len(begun) == self.most:
                    yield from begun.popleft()()
        except Exception as error:  # noqa: BLE001 - it is raised again
            failure = error
        while begun:
            yield from begun.popleft()()
        if failure is not None:
            raise failure

    def wait(self) -> bool:
        """Wait for all batches; gives whether there were any whose memory is free now."""
        there = bool(self._batches)
        while self._batches:
            self._batches.popleft().wait()
        return there


def batches(frames: Iterable[Frame], fit: Callable[[Frame], int]) -> Iterator[list[Frame]]:
    """Put frames of one geometry together; an error is raised after the frames before it.

    Args:
        frames: A stream.
        fit: How many there may be of such a frame.
    """
    held: list[Frame] = []
    failure: Exception | None = None
    try:
        for frame in frames:
            if held and frame.geometry != held[0].geometry:
                yield held
                held = []
            held.append(frame)
            if len(held) >= fit(frame):
                yield held
                held = []
    except Exception as error:  # noqa: BLE001 - it is raised again
        failure = error
    if held:
        yield held
    if failure is not None:
        raise failure
