"""CUDA graphs: what many launches do, as one launch."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from ..kernels import AVAILABLE, load_ops

if TYPE_CHECKING:
    from collections.abc import Callable


def record(launch: Callable[[], object], stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
    """A graph of what ``launch`` starts on ``stream``, where it has run before, for allocators and libraries to settle.

    Other threads may go on using the device meanwhile, but for one that tunes kernels: it waits.

    Raises:
        RuntimeError: something in it cannot be recorded. The current stream is as before.
        torch.OutOfMemoryError: a graph keeps memory of its own, for which there is no room.
    """
    graph = torch.cuda.CUDAGraph()
    tuning = load_ops().LOCK if AVAILABLE else nullcontext()
    before = torch.cuda.stream(torch.cuda.current_stream(stream.device))  # a capture that fails to begin changes it
    with tuning, before, torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        launch()
    return graph
