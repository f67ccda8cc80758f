"""How the kernels for Hopper are started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .convolution import peak_of
from .launch import check_offsets, processors
from .strip import segment_rows

if TYPE_CHECKING:
    from torch import Tensor

    from .launch import Tuned
    from .reference import SampleFormat
    from .whole import PackedNetwork, Run


def walk(tuned: Tuned, configs: list[dict[str, Any]], columns: int, resident: int, lag: int) -> Run:
    """How a kernel is run that walks down strips, one row at a step, and keeps nothing in memory.

    Args:
        tuned: The kernel.
        configs: What may be chosen.
        columns: That a strip has, the halo's among them.
        resident: Programs that share a multiprocessor.
        lag: Layers that read what was left at the step before.
    """

    def run(
        x: Tensor,
        network: PackedNetwork,
        *,
        source: SampleFormat | None = None,
        target: SampleFormat | None = None,
        dtype: torch.dtype = torch.float32,
        out: Tensor | None = None,
    ) -> Tensor:
        n, _, height, width = x.shape
        check_offsets(x)
        out = network.empty(x, target, dtype) if out is None else out
        strips = n * -(-width // (columns - 2 * network.halo))
        segment = segment_rows(strips, height, 2 * network.halo + lag, processors(x.device), resident)
        tuned(
            lambda _: (strips * -(-height // segment),),
            configs,
            x, out, *network.tensors, height, width, segment,
            x.stride(0), x.stride(2), x.stride(3), out.stride(0), out.stride(2), out.stride(3),
            1.0 / peak_of(source), peak_of(target),
            FROM_SAMPLES=source is not None, TO_SAMPLES=target is not None, **network.constants,
        )  # fmt: skip
        return out

    return run


def rows_walked(values: dict[str, Any], extra: int) -> int:
    """The steps of such a kernel, for `Launch`: its rows, and those that it needs above and below."""
    height: int = min(values["segment"], values["height"])
    return height + extra
