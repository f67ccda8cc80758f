"""Integer samples, and floating point in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_STRIP = 1 << 18  # samples: 1 MiB of float32


@dataclass(frozen=True)
class SampleFormat:
    """How a plane of integer samples is stored; without one, samples are floating point in [0, 1].

    Attributes:
        peak: The sample that means 1.
        depth: Bits of a sample.
    """

    peak: int
    depth: int

    @property
    def dtype(self) -> torch.dtype:
        """The type of a sample."""
        return torch.uint8 if self.depth == 8 else torch.uint16


def to_unit(samples: Tensor, peak: int) -> Tensor:
    """Integer samples of any shape to float32 in [0, 1]: divided by ``peak``, which becomes 1, and clamped."""
    return samples.to(torch.float32).div_(peak).clamp_(max=1.0)


def to_samples(x: Tensor, depth: int, *, peak: int | None = None) -> Tensor:
    """Floating samples of any shape to integers of ``depth`` bits: rounded to the nearest, never truncated.

    Args:
        x: Code values, or with ``peak`` values in [0, 1]; values outside are clamped.
        depth: 8 gives uint8, 9 to 16 uint16.
        peak: The code value of 1.0.
    """
    result = torch.empty(x.shape, dtype=torch.uint8 if depth == 8 else torch.uint16, device=x.device)
    # Large images on a CPU in strips, so that intermediate results stay in the cache: nearly twice as fast.
    dim = max(0, x.dim() - 2)
    rows = x.shape[dim] if not x.is_cpu or x.numel() <= 8 * _STRIP else max(1, _STRIP * x.shape[dim] // x.numel())
    for samples, strip in zip(result.split(rows, dim), x.split(rows, dim), strict=True):
        code = strip.clamp(0, (1 << depth) - 1) if peak is None else (strip * peak).clamp_(0, peak)
        code = code.round_()
        # Through int16, because torch has no fast conversion from floating point to uint8.
        samples.copy_(code.to(torch.int16) if depth == 8 else code)
    return result
