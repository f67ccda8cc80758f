"""Planes to RGB and back."""

from __future__ import annotations

import torch
from torch import Tensor

from .cubic import resample
from .samples import to_samples


def planes_to_rgb(
    planes: tuple[Tensor, Tensor, Tensor],
    matrix: Tensor,
    subsampling: tuple[int, int] = (1, 1),
    offset: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Apply a matrix to native planes: three components, at the size of the first plane.

    Args:
        planes: Y (N, H, W) and two of ⌈H/f⌉ × ⌈W/f⌉, integer or floating code values.
        matrix: (3, 4): three weights and a constant for each component; holds color matrix, range and depth.
        subsampling: (vertical, horizontal) luma samples per chroma sample, the f above.
        offset: (vertical, horizontal) place of the first chroma sample, in luma samples from the first one.

    Returns:
        (N, 3, H, W), float32 for integer planes, not clamped.
    """
    luma, *chroma = (plane if plane.is_floating_point() else plane.to(torch.float32) for plane in planes)
    height, width = luma.shape[-2:]
    full = [luma]
    for plane in chroma:
        x = plane[:, None]
        for dim, length, f, place in ((2, height, subsampling[0], offset[0]), (3, width, subsampling[1], offset[1])):
            if f > 1:
                x = resample(x, dim, length, f, shift=0.5 - (place + 0.5) / f, edges="symmetric")
        full.append(x[:, 0])
    return mix(torch.stack(full, 1), matrix)


def rgb_to_planes(
    x: Tensor,
    matrix: Tensor,
    depth: int,
    subsampling: tuple[int, int] = (1, 1),
    offset: tuple[float, float] = (0.0, 0.0),
) -> tuple[Tensor, ...]:
    """Apply a matrix to RGB: native planes, subsampled (antialiased, sited), rounded once.

    Args:
        x: (N, 3, H, W), floating point.
        matrix: (P, 4): three weights and a constant for each of P planes; holds color matrix, range and depth.
        depth: Bits of a sample.
        subsampling: (vertical, horizontal) luma samples per chroma sample, for all planes but the first.
        offset: (vertical, horizontal) place of the first chroma sample, in luma samples from the first one.

    Returns:
        P planes: the first (N, H, W), the others of ⌈H/f⌉ × ⌈W/f⌉, uint8 or uint16.
    """
    mixed = mix(x, matrix)
    planes = [mixed[:, index : index + 1] for index in range(mixed.shape[1])]
    for index in range(1, len(planes)):
        for dim, f, place in ((2, subsampling[0], offset[0]), (3, subsampling[1], offset[1])):
            if f > 1:
                size = -(-planes[index].shape[dim] // f)
                shift = place + 0.5 - 0.5 * f
                planes[index] = resample(planes[index], dim, size, 1 / f, shift=shift, edges="symmetric")
    return tuple(to_samples(plane[:, 0], depth) for plane in planes)


def mix(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the components of (N, C, H, W) by a (P, C) matrix and add its last column: (P, C + 1) in all."""
    weights = matrix.to(x)
    return torch.einsum("pc,nchw->nphw", weights[:, :-1], x) + weights[:, -1, None, None]
