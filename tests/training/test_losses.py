"""What a step compares."""

from __future__ import annotations

import pytest
import torch

from vsr_plugin.models.drcn import DRCN
from vsr_plugin.models.espcn import ESPCN
from vsr_plugin.models.lapsrn import LapSRN
from vsr_plugin.models.srcnn import SRCNN
from vsr_plugin.training.losses import LOSSES, VIEWS, Comparison


def loss_of(name: str, comparisons: list[Comparison]) -> torch.Tensor:
    return torch.stack([each.weight * LOSSES[name](each.output, each.target) for each in comparisons]).sum()


def test_shuffled_labels_give_the_loss_of_the_shuffled_image() -> None:
    torch.manual_seed(0)
    network = ESPCN(3).double()
    small, large = torch.rand(2, 1, 7, 9, dtype=torch.float64), torch.rand(2, 1, 21, 27, dtype=torch.float64)
    losses = [loss_of("mse", VIEWS[view].compare(network, small, [large], 0.0)) for view in ("whole", "subpixels")]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-14, atol=0)


@pytest.mark.parametrize("middle", [1, 5])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_valid_convolutions_see_what_the_whole_image_shows(scale: int, middle: int) -> None:
    torch.manual_seed(0)
    network = SRCNN(scale, middle).double()
    image = torch.rand(1, 1, 40, 40, dtype=torch.float64)
    truth = torch.rand(1, 1, 40 * scale, 40 * scale, dtype=torch.float64)
    patch = slice(8, 32), slice(8, 32)
    place = slice(8 * scale, 32 * scale), slice(8 * scale, 32 * scale)
    (comparison,) = VIEWS["valid"].compare(network, image[(..., *patch)], [truth[(..., *place)]], 0.0)
    cut = 2 * scale + network.border
    inner = slice(8 * scale + cut, 32 * scale - cut), slice(8 * scale + cut, 32 * scale - cut)
    torch.testing.assert_close(comparison.output, network(image)[(..., *inner)], rtol=0, atol=1e-12)
    torch.testing.assert_close(comparison.target, truth[(..., *inner)], rtol=0, atol=0)


def test_euclidean_is_half_the_squared_error_per_patch() -> None:
    output, target = torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 2)
    assert float(LOSSES["euclidean"](output, target)) == (9 + 1) / 2 / 2


def test_drcn_is_judged_by_every_recursion_and_ever_more_by_their_mean() -> None:
    torch.manual_seed(0)
    network = DRCN(2, features=4, recursions=3).double()
    small, large = torch.rand(2, 1, 6, 7, dtype=torch.float64), torch.rand(2, 1, 12, 14, dtype=torch.float64)
    images = network.images(small)
    mean = sum((image / 3 for image in images), torch.zeros_like(large))
    torch.testing.assert_close(network(small), mean)
    first = sum(((image - large) ** 2).mean() for image in images) / 3
    second = ((mean - large) ** 2).mean()
    for part, alpha in ((0.0, 1.0), (0.1, 0.75), (0.4, 0.0), (0.9, 0.0)):
        loss = loss_of("mse", VIEWS["recursions"].compare(network, small, [large], part))
        torch.testing.assert_close(loss, alpha * first + (1 - alpha) * second)


def test_lapsrn_is_judged_at_every_level() -> None:
    torch.manual_seed(0)
    network = LapSRN(8, depth=1, features=4)
    small = torch.rand(1, 1, 4, 5)
    view = VIEWS["pyramid"]
    assert view.divisors(8) == (4, 2, 1)
    targets = [torch.rand(1, 1, 32 // divisor, 40 // divisor) for divisor in view.divisors(8)]
    made = view.compare(network, small, targets, 0.0)
    assert [each.output.shape for each in made] == [target.shape for target in targets]
    torch.testing.assert_close(made[-1].output, network(small))
    torch.testing.assert_close(made[0].output, network.pyramid(small)[0])


def test_charbonnier_is_a_smooth_absolute_error() -> None:
    output, target = torch.tensor([[3.0, 0.0]]), torch.zeros(1, 2)
    assert float(LOSSES["charbonnier"](output, target)) == pytest.approx((3.0 + 0.001) / 2, abs=1e-6)
    assert float(LOSSES["charbonnier sum"](output, target)) == pytest.approx(3.001, abs=1e-6)
