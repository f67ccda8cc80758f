"""Kernels of whole networks for Hopper: how they are started, and where they are trusted."""

from __future__ import annotations

import logging
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch

from . import convolution, reference
from .launch import check_offsets, processors
from .strip import PackedNetwork, Run, WholeKernel, segment_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from .convolution import Form, Packed
    from .launch import Tuned
    from .reference import Layer, SampleFormat

_log = logging.getLogger(__name__)


def whole(
    name: str,
    fits: Callable[[Sequence[Form]], bool],
    pack: Callable[[Sequence[Packed]], PackedNetwork],
    run: Run,
    example: Callable[[], tuple[Layer, ...]],
) -> WholeKernel:
    """A kernel for Hopper alone, which has to prove itself on an example of its network."""
    return WholeKernel(name, fits, pack, run, partial(_supports, name, pack, run, example))


def walk(tuned: Tuned, configs: list[dict[str, Any]], columns: int, resident: int) -> Run:
    """How a kernel is run that walks down strips, one row at a step, and keeps nothing in memory.

    Args:
        tuned: The kernel.
        configs: What may be chosen.
        columns: That a strip has, the halo's among them.
        resident: Programs that share a multiprocessor.
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
        segment = segment_rows(strips, height, network.halo, processors(x.device), resident)
        tuned(
            lambda _: (strips * -(-height // segment),),
            configs,
            x, out, *network.tensors, height, width, segment,
            x.stride(0), x.stride(2), x.stride(3), out.stride(0), out.stride(2), out.stride(3),
            1.0 / convolution.peak_of(source), convolution.peak_of(target),
            FROM_SAMPLES=source is not None, TO_SAMPLES=target is not None, **network.constants,
        )  # fmt: skip
        return out

    return run


def rows_walked(values: dict[str, Any], halo: int) -> int:
    """The steps of such a kernel, for `Launch`."""
    height: int = min(values["segment"], values["height"])
    return height + 2 * halo


def _supports(
    name: str,
    pack: Callable[[Sequence[Packed]], PackedNetwork],
    run: Callable[..., Tensor],
    example: Callable[[], tuple[Layer, ...]],
    device: torch.device,
    dtype: torch.dtype,
) -> bool:
    """Whether it is Hopper, which alone has these instructions, and the kernel has proved itself there."""
    halves = (torch.float16, torch.bfloat16)
    if dtype not in halves or device.type != "cuda" or torch.cuda.get_device_capability(device) != (9, 0):
        return False
    return proves_itself(name, pack, run, example, device, dtype)


@cache
def proves_itself(
    name: str,
    pack: Callable[[Sequence[Packed]], PackedNetwork],
    run: Callable[..., Tensor],
    example: Callable[[], tuple[Layer, ...]],
    device: torch.device,
    dtype: torch.dtype,
) -> bool:
    """Whether a small frame comes out right: tried once, for Gluon and what it compiles to may change with Triton."""
    from .cases import in_dtype

    layers = example()
    samples = reference.SampleFormat(255, 8)
    x = torch.randint(0, 256, (1, 1, 12, 130), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).to(device)
    plain, truth = (
        reference.chain(x, tuple(in_dtype(layer, kind, device) for layer in layers), source=samples, target=samples)
        for kind in (dtype, torch.float64)
    )
    try:
        packed = pack([convolution.pack(layer, dtype, device) for layer in layers])
        found = run(x, packed, source=samples, target=samples)
        away, allowed = (int((y.int() - truth.int()).abs().max()) for y in (found, plain))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, another kernel does the same
        _log.warning("The kernel %s does not run, the one for all GPUs does instead: %s", name, error)
        return False
    if away > max(1, 2 * allowed):
        _log.warning("The kernel %s computes wrong samples, the one for all GPUs runs instead", name)
        return False
    return True
