"""Starts the kernels that walk down a strip, one row at a step."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from .convolution import peak_of
from .launch import check_offsets, processors
from .products import PIXELS
from .strip import segment_rows
from .whole import WholeKernel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from .convolution import Form, Packed
    from .launch import Tuned
    from .reference import Layer, SampleFormat
    from .whole import PackedNetwork, Run


def whole_kernels(
    name: str,
    tuned: Tuned,
    fits: Callable[[Sequence[Form]], bool],
    pack: Callable[[str, Sequence[Packed]], PackedNetwork],
    lag: int,
    *,
    resident: int,
    registers: int,
    example: Callable[[int], tuple[Layer, ...]],
) -> list[WholeKernel]:
    """A network's kernel for Hopper, and the one for all GPUs from Ampere on.

    Args:
        name: The network's name.
        tuned: The kernel.
        fits: As in `WholeKernel`.
        pack: ″, for one of the units of `products`.
        lag: Layers that read rows of the step before.
        resident: Programs per multiprocessor.
        registers: Registers per thread, at most.
        example: A network that fits, for a scale.
    """
    run = _walk(tuned, {"num_warps": 4, "maxnreg": registers}, resident, lag)
    return [
        WholeKernel(f"{name}_{gpu}", fits, partial(pack, unit), run, gpus=is_for, example=partial(example, 3))
        for gpu, unit, is_for in (("hopper", "wgmma", _is_hopper), ("ampere", "mma", _has_mma))
    ]


def _is_hopper(architecture: int) -> bool:
    return architecture == 90


def _has_mma(architecture: int) -> bool:
    return architecture >= 80


def _walk(tuned: Tuned, config: dict[str, Any], resident: int, lag: int) -> Run:
    """Make the function that runs such a kernel."""

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
        strips = n * -(-width // (PIXELS.value - 2 * network.halo))
        segment = segment_rows(strips, height, 2 * network.halo + lag, processors(x.device), resident)
        tuned(
            lambda _: (strips * -(-height // segment),),
            [config],
            x, out, *network.tensors, height, width, segment,
            x.stride(0), x.stride(2), x.stride(3), out.stride(0), out.stride(2), out.stride(3),
            1.0 / peak_of(source), peak_of(target),
            FROM_SAMPLES=source is not None, TO_SAMPLES=target is not None, **network.constants,
        )  # fmt: skip
        return out

    return run


def rows_walked(values: dict[str, Any], extra: int) -> int:
    """The steps of such a kernel, for `Launch`: its rows, and the extra ones above and below."""
    height: int = min(values["segment"], values["height"])
    return height + extra
