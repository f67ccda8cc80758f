"""Resampling a plane to any size: `reference.resize`, in products with bands of weights.

An output row needs a few input rows, so the matrix of all weights is a band. Cut into blocks of output rows, it is a
row of small full matrices, whose products with the plane take a thirtieth of the time of the plain version on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from .reference import taps

_BLOCK = 32  # output samples: with more, more products are with zeros; with fewer, products are too small to be fast


@dataclass(frozen=True, slots=True, eq=False)
class _Band:
    """The weights of some consecutive output samples.

    Attributes:
        begin: The first output sample.
        low: The first input sample that they need.
        high: The last one, plus 1.
        weights: (output samples, high − low).
    """

    begin: int
    low: int
    high: int
    weights: Tensor


def resize(x: Tensor, shape: tuple[int, int], ratio: tuple[float, float], shift: tuple[float, float]) -> Tensor:
    """`reference.resize`."""
    for dim in (-2, -1):
        if (x.shape[dim], ratio[dim], shift[dim]) != (shape[dim], 1.0, 0.0):
            bands = _bands(x.shape[dim], shape[dim], float(ratio[dim]), float(shift[dim]), x.dtype, x.device)
            x = _rows(x, shape[0], bands) if dim == -2 else _columns(x, shape[1], bands)
    return x


def _rows(x: Tensor, size: int, bands: tuple[_Band, ...]) -> Tensor:
    out = x.new_empty(*x.shape[:-2], size, x.shape[-1])
    # Plane by plane, so that a plane's result does not depend on how many planes there are.
    for target, plane in zip(out.reshape(-1, *out.shape[-2:]), x.reshape(-1, *x.shape[-2:]), strict=True):
        for band in bands:
            torch.mm(band.weights, plane[band.low : band.high], out=target[band.begin : band.begin + len(band.weights)])
    return out


def _columns(x: Tensor, size: int, bands: tuple[_Band, ...]) -> Tensor:
    out = x.new_empty(*x.shape[:-1], size)
    for target, plane in zip(out.reshape(-1, *out.shape[-2:]), x.reshape(-1, *x.shape[-2:]), strict=True):
        for band in bands:
            target[:, band.begin : band.begin + len(band.weights)] = plane[:, band.low : band.high] @ band.weights.T
    return out


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)  # as for `reference.taps`
def _bands(
    length: int, size: int, ratio: float, shift: float, dtype: torch.dtype, device: torch.device
) -> tuple[_Band, ...]:
    weights, index = taps(length, size, ratio, shift, "symmetric")
    found = []
    for begin in range(0, size, _BLOCK):
        some, where = weights[begin : begin + _BLOCK], index[begin : begin + _BLOCK]
        used = where[some != 0]
        low, high = int(used.min()), int(used.max()) + 1
        full = torch.zeros(len(some), high - low, dtype=torch.float64)
        # Weights of zero may be for samples outside; weights of mirrored samples are added.
        full.scatter_add_(1, (where - low).clamp(0, high - low - 1), some)
        found.append(_Band(begin, low, high, full.to(device=device, dtype=dtype)))
    return tuple(found)
