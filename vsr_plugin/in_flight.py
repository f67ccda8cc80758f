"""`InFlight`: several batches of frames on a device at a time.

A GPU copies in, computes and copies out at the same time, each in a stream of its own. A batch is started without
waiting for the one before; only the caller that takes its frames waits.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from .backends.memory import translated_errors
from .device import download, upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import torch
    from torch import Tensor

    from .arrays import Array
    from .backends import Device
    from .frames import Frame, Samples

    type Results = Callable[[], list[Frame]]  # waits for the frames

# One is copied in, one computed and one copied out, so the slowest of the three never waits for the others.
_MOST = 3


class Batch:
    """Frames that a device is working on.

    Args:
        planes: (N, H, W) on the CPU, to be filled; arrays, or tensors if there is an event.
        task: The work being done, for error messages.
        filled: The event after which they are filled; None if they are already.
        used: Tensors on the device that are in use until then.
    """

    def __init__(
        self,
        planes: Sequence[Array],
        task: str,
        filled: torch.cuda.Event | None = None,
        used: Sequence[Tensor] = (),
    ) -> None:
        self._planes = planes
        self._task = task
        self._filled = filled
        self._used = used

    def wait(self) -> Sequence[Samples]:
        """Wait for the planes, and return them.

        Raises:
            BackendError: the device failed.
        """
        if self._filled is not None:
            with translated_errors(self._task):
                self._filled.synchronize()
            self._filled, self._used = None, ()
            self._planes = [plane.numpy() for plane in self._planes]
        return self._planes


class InFlight:
    """Runs batches on one device, in order.

    On the CPU, starting a batch also finishes it.

    Attributes:
        most: How many batches may be unfinished at a time; starting another waits for the first.

    Args:
        device: The CPU or a CUDA device.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._batches: deque[Batch] = deque()
        self.most = 1
        if device.type == "cuda":
            import torch

            self.most = _MOST
            make: Callable[..., torch.cuda.Stream] = torch.cuda.Stream  # it is not typed
            self._inward, self._computing, self._outward = (make(device) for _ in range(3))

    def begin(
        self, planes: Sequence[Sequence[Samples]], compute: Callable[[list[Array]], Sequence[Array]], task: str
    ) -> Batch:
        """Send a batch to the device.

        Args:
            planes: For each plane, those of all frames, (H, W). They are read before this returns.
            compute: (N, H, W) planes → the same: arrays on the CPU; tensors on a GPU, where it enqueues on the current
                stream.
            task: The work being done, for error messages.

        Raises:
            Exception: any error of ``compute``. Earlier batches go on.
        """
        if self._device.type == "cpu":
            return Batch(compute([np.stack(each) for each in planes]), task)
        import torch

        while len(self._batches) >= self.most:
            self._batches.popleft().wait()
        self._computing.wait_stream(torch.cuda.current_stream(self._device))  # the caller may make weights there
        with torch.cuda.stream(self._inward):
            small = [upload(each, self._device) for each in planes]
        self._computing.wait_stream(self._inward)
        with torch.cuda.stream(self._computing):
            large = compute(small)
        self._outward.wait_stream(self._computing)
        with torch.cuda.stream(self._outward):
            results = [download(plane) for plane in large]
            filled = self._outward.record_event()
        # A stream reuses freed memory in its own order, and does not know that another stream still reads it.
        self._batches.append(Batch(results, task, filled, (*small, *large)))
        return self._batches[-1]

    def run(self, batches: Iterable[list[Frame]], begin: Callable[[list[Frame]], Results]) -> Iterator[Frame]:
        """Run a stream of batches on the device; an error is raised after the frames before it.

        Args:
            batches: The stream.
            begin: Starts a batch with `InFlight.begin`.
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
        """Wait for all batches; return whether there were any, whose memory is now free."""
        there = bool(self._batches)
        while self._batches:
            self._batches.popleft().wait()
        return there


def batches(frames: Iterable[Frame], fit: Callable[[Frame], int]) -> Iterator[list[Frame]]:
    """Group frames of one geometry into batches; an error is raised after the frames before it.

    Args:
        frames: A stream.
        fit: The largest batch for a frame of this geometry.
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
