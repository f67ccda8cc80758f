"""Patches without detail, and shipped networks that leave such areas alone."""

from __future__ import annotations

import pytest
import torch

from vsr_plugin.images import imresize
from vsr_plugin.training.flat import emphasize, flatten_some


@pytest.mark.parametrize("channels", [1, 3])
def test_some_patches_are_flat_and_agree_with_their_targets(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    small, large = torch.rand(400, channels, 12, 12), torch.rand(400, channels, 36, 36)
    flat, (target,), count = flatten_some(small, [large], 0.25, generator)
    assert count in (100, 101)
    assert int((flat != small).any(dim=3).any(dim=2).any(dim=1).sum()) == count
    assert torch.equal(flat[count:], small[count:])
    assert torch.equal(target[count:], large[count:])
    for constant in (flat[:count:2], target[:count:2]):
        assert torch.equal(constant.amax((2, 3)), constant.amin((2, 3)))
    assert (flat[1:count:2].amax((2, 3)) > flat[1:count:2].amin((2, 3))).all()
    shrunk = imresize(target[1].permute(1, 2, 0).double().numpy(), 1 / 3)
    inside = (slice(2, -2), slice(2, -2))
    assert torch.allclose(torch.from_numpy(shrunk)[inside].float(), flat[1].permute(1, 2, 0)[inside], atol=1e-5)


def test_a_share_of_less_than_a_patch_is_right_on_average() -> None:
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(4, 1, 6, 6)
    drawn = [flatten_some(small, [], 0.1, generator)[0] for _ in range(300)]
    assert 0.3 < sum(not torch.equal(patches, small) for patches in drawn) / 300 < 0.5


def test_errors_in_the_middle_of_flat_patches_count_more() -> None:
    target = torch.zeros(6, 1, 9, 9)  # two outputs for each of three patches
    loud = emphasize(torch.ones(6, 1, 9, 9), target, 1, 3)
    middle = torch.zeros(9, 9)
    middle[3:6, 3:6] = 9
    assert torch.equal(loud[[0, 3], 0], (1 + middle).expand(2, 9, 9))
    assert torch.equal(loud[[1, 2, 4, 5]], torch.ones(4, 1, 9, 9))
    assert torch.equal(emphasize(target + 1, target, 0, 3), target + 1)
