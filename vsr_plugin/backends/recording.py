"""CUDA graphs: many launches as one."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from ..kernels import AVAILABLE, load_ops

if TYPE_CHECKING:
    from collections.abc import Callable


def record(launch: Callable[[], object], stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
    """Record what ``launch`` starts on ``stream``, where it must have run before: allocators and libraries then settle.

    Other threads may use the device meanwhile, but one that tunes kernels waits.

    Raises:
        RuntimeError: a launch cannot be recorded. The current stream is as before.
        torch.OutOfMemoryError: there is no room for the memory that a graph keeps.
    """
    graph = torch.cuda.CUDAGraph()
    tuning = load_ops().LOCK if AVAILABLE else nullcontext()
    before = torch.cuda.stream(torch.cuda.current_stream(stream.device))  # which a failed capture changes
    with tuning, before, torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        launch()
    return graph
