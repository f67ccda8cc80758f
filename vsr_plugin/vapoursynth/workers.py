"""The upscalers that clips use, and those that are kept for the next clip of the same kind.

A player reloads its script for every seek. The compiled network of a clip is therefore kept when the clip is closed,
until a clip asks for another one.
"""

from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..reuse import Reuse
from .quiet import quiet_python

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from ..engine import Upscaler
    from ..frames import Frame

_lock = threading.RLock()  # reentrant: garbage collection may close clips while it is held
_kept: list[Worker] = []  # in use by no clip
_keeping = False  # from the first clip until the program ends


class Worker:
    """An upscaler; several work side by side on one device.

    Attributes:
        batch: Frames that the network takes at once.
        target: Size of the enlarged frames.

    Args:
        upscaler: Owned by the worker; closed if this fails.
        example: A frame like those to come: it is enlarged here, which compiles the network.
        kind: The key by which `open_worker` finds it again after it is closed; by default it is not kept.

    Raises:
        VsrError: the network does not run.
    """

    def __init__(self, upscaler: Upscaler, example: Frame, kind: Hashable = None) -> None:
        self._upscaler = upscaler
        self._reuse = Reuse()
        self.kind = kind
        try:
            self([example])
        except BaseException:
            self.free()
            raise
        self.target = upscaler.target(example)
        assert upscaler.batch is not None
        self.batch = upscaler.batch

    def __call__(self, frames: Sequence[Frame]) -> list[Frame]:
        """Enlarge frames, each by its own tags."""
        try:
            with quiet_python():
                return list(self._upscaler.stage(iter(frames), self._reuse))
        except UsageError:  # an error of a frame
            raise
        except BaseException:
            self.kind = None  # its state is unknown
            raise

    def close(self) -> None:
        """Keep the network for the next clip of its kind, or free it."""
        self._reuse = Reuse()
        with _lock:
            keep = _keeping and self.kind is not None
            if keep:
                _kept.append(self)
        if not keep:
            self.free()

    def free(self) -> None:
        """Free the network."""
        self._upscaler.close()


def open_worker(kind: Hashable, make: Callable[[], Worker]) -> Worker:
    """A worker of this kind that was kept, or else a new one, after all that were kept are freed.

    Args:
        kind: All that the network depends on, and the size of the frames.
        make: Makes a worker of that kind.
    """
    global _keeping
    with _lock:
        if not _keeping:
            _keeping = True
            atexit.register(_end)
        for index, worker in enumerate(_kept):
            if worker.kind == kind:
                return _kept.pop(index)
    free_kept()
    return make()


def free_kept() -> None:
    """Free the networks that no clip uses."""
    with _lock:
        idle = _kept[:]
        _kept.clear()
    for worker in idle:
        worker.free()


def _end() -> None:
    global _keeping
    with _lock:
        _keeping = False
    free_kept()
