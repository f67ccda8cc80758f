"""Resampling in bands is the plain version, in any precision, for any plane."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch

from vsr_plugin import kernels

REFERENCE: Any = import_module("vsr_plugin.kernels.reference")


@pytest.mark.parametrize(
    ("shape", "ratio", "shift"),
    [
        ((31, 70), (31 / 40, 70 / 52), (0.0, 0.0)),
        ((7, 200), (7 / 40, 3.9), (1.3, -2.0)),
        ((40, 52), (1.0, 1.0), (0.0, 0.0)),
        ((40, 52), (1.0, 1.0), (0.25, 0.0)),
        ((150, 10), (2.5, 0.2), (0.125, 0.25)),
        ((1, 1), (1 / 40, 1 / 52), (0.0, 0.0)),
    ],
)
def test_bands_are_the_plain_version(shape: tuple[int, int], ratio: Any, shift: Any) -> None:
    x = torch.rand(2, 3, 40, 52, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    truth = REFERENCE.resize(x, shape, ratio, shift)
    assert truth.shape == (2, 3, *shape)
    assert torch.allclose(kernels.resize(x, shape, ratio, shift), truth, rtol=0, atol=1e-14)
    plain = (REFERENCE.resize(x.float(), shape, ratio, shift) - truth).abs().max()
    assert (kernels.resize(x.float(), shape, ratio, shift) - truth).abs().max() <= 2 * max(plain, 2**-24)


def test_a_plane_is_the_same_alone_and_among_others() -> None:
    x = torch.rand(3, 2, 70, 90, generator=torch.Generator().manual_seed(2))
    together = kernels.resize(x, (111, 55), (111 / 70, 55 / 90), (0.0, 0.1))
    alone = kernels.resize(x[2, 1], (111, 55), (111 / 70, 55 / 90), (0.0, 0.1))
    assert torch.equal(together[2, 1], alone)


def test_planes_smaller_than_the_filter_are_mirrored() -> None:
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    result = kernels.resize(x, (3, 7), (3.0, 3.5), (0.0, 0.0))
    assert torch.allclose(result, REFERENCE.resize(x, (3, 7), (3.0, 3.5), (0.0, 0.0)))
    assert torch.allclose(result[0], 3 - result[0].flip(0))
