"""Kernels that compute a whole network: how networks are passed to them, and checks that they compute correctly."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import torch

from . import convolution, reference
from .examples import in_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from .convolution import Form, Packed
    from .reference import Layer, SampleFormat

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackedNetwork:
    """A network packed for its kernel.

    Attributes:
        tensors: Weights, biases and slopes, in the kernel's order.
        scale: The network's.
        halo: Columns on each side of a strip that are not kept.
        constants: The kernel's constants, by name.
        ring: Numbers in the rings for each column, for ROWS rows at a step; None without rings.
    """

    tensors: tuple[Tensor, ...]
    scale: int
    halo: int
    constants: dict[str, Any]
    ring: Callable[[int], int] | None = None

    def empty(self, x: Tensor, target: SampleFormat | None, dtype: torch.dtype) -> Tensor:
        """An uninitialized tensor for the result of ``x`` (N, 1, H, W)."""
        n, _, height, width = x.shape
        shape = (n, 1, height * self.scale, width * self.scale)
        return torch.empty(shape, dtype=target.dtype if target else dtype, device=x.device)


class Run(Protocol):
    """Runs a packed network."""

    def __call__(
        self,
        x: Tensor,
        network: PackedNetwork,
        *,
        source: SampleFormat | None = None,
        target: SampleFormat | None = None,
        dtype: torch.dtype = torch.float32,
        out: Tensor | None = None,
    ) -> Tensor:
        """Like `reference.chain` of the layers; ``out``, if given, is written to, and may have any strides.

        Args:
            x: (N, 1, H, W), samples of ``source``.
            network: The result of `WholeKernel.pack`.
            source: Format of ``x``, if it is not floating point.
            target: ″ of the result.
            dtype: Type of a result in floating point.
            out: (N, 1, H·scale, W·scale).
        """


@dataclass(frozen=True)
class WholeKernel:
    """A kernel that computes a whole network.

    Attributes:
        name: Its name in messages.
        fits: Whether it computes a chain of layers of these forms.
        pack: Puts layers that fit into the order in which the kernel reads them, once.
        run: Runs the kernel.
        gpus: Whether it is for a compute capability, such as 90 for 9.0, in 16 bits; None for all, in every type.
        slower_on: Compute capabilities on which, as measured, one kernel per layer is faster in 16 bits.
        example: A network that fits, for a kernel that must be checked before use.
    """

    name: str
    fits: Callable[[Sequence[Form]], bool]
    pack: Callable[[Sequence[Packed]], PackedNetwork]
    run: Run
    gpus: Callable[[int], bool] | None = None
    slower_on: tuple[int, ...] = ()
    example: Callable[[], tuple[Layer, ...]] | None = None

    def is_for(self, architecture: int, dtype: torch.dtype) -> bool:
        """Whether the kernel supports GPUs of this compute capability, with weights of this type."""
        return self.gpus is None or (dtype in (torch.float16, torch.bfloat16) and self.gpus(architecture))

    def supports(self, device: torch.device, dtype: torch.dtype) -> bool:
        """Whether the kernel should run on a device, with weights of this type."""
        here = architecture_of(device)
        if here in self.slower_on and dtype != torch.float32:
            return False
        if not self.is_for(here, dtype):
            return False
        return self.example is None or proves_itself(self, device, dtype)


def architecture_of(device: torch.device) -> int:
    """Compute capability, such as 90 for 9.0; 0 if kernels are interpreted."""
    if device.type != "cuda":
        return 0
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


@cache
def proves_itself(kernel: WholeKernel, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a kernel enlarges a small frame correctly: tried once, as its machine code may change with Triton."""
    assert kernel.example is not None
    layers = kernel.example()
    samples = reference.SampleFormat(255, 8)
    x = torch.randint(0, 256, (1, 1, 12, 130), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).to(device)
    plain, truth = (
        reference.chain(x, tuple(in_dtype(layer, kind, device) for layer in layers), source=samples, target=samples)
        for kind in (dtype, torch.float64)
    )

    def compute() -> Tensor:
        packed = kernel.pack([convolution.pack(layer, dtype, device) for layer in layers])
        return kernel.run(x, packed, source=samples, target=samples)

    return is_right(kernel.name, compute, plain, truth, least=1.0)


def is_right(name: str, compute: Callable[[], Tensor], plain: Tensor, truth: Tensor, least: float = 0.0) -> bool:
    """Whether a kernel's error is at most twice that of torch, or at most ``least``; logged if not.

    Args:
        name: The kernel's name.
        compute: Calls the kernel.
        plain: The result of torch in the kernel's type.
        truth: The result of torch in float64, or derived from it.
        least: An error that is always allowed.
    """
    try:
        away, allowed = (float((y.double() - truth.double()).abs().max()) for y in (compute(), plain))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - on any error, another kernel is used
        _log.warning("The kernel %s does not run, others do instead: %s", name, error)
        return False
    if not away <= max(least, 2 * allowed):  # also if it is NaN
        _log.warning("The kernel %s computes wrong numbers, others run instead", name)
        return False
    return True
