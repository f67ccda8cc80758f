"""The geometric self-ensemble for any network; EDSR's paper marks it by a "+" after the network's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from . import Network


def mean_of_eight(x: Tensor, upright: Callable[[Tensor], Tensor], lying: Callable[[Tensor], Tensor]) -> Tensor:
    """Run a network on all eight flips and rotations of a frame, undo each on its result, and return the mean.

    Source: Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017, section 4.3.

    Args:
        x: (N, C, H, W).
        upright: The network, for (N, C, H, W).
        lying: The same network, for (N, C, W, H).

    Returns:
        (N, C, H·scale, W·scale), float32.
    """
    total: Tensor | None = None
    for network, source, turned in ((upright, x, False), (lying, x.transpose(2, 3), True)):
        for mirrored in ((), (2,), (3,), (2, 3)):
            result = network(source.flip(mirrored).contiguous()).flip(mirrored)
            result = result.transpose(2, 3) if turned else result
            total = result if total is None else total + result
    assert total is not None
    return total / 8


class SelfEnsemble:
    """A `Network` that is `mean_of_eight` of another.

    Args:
        upright: Compiled for (N, C, H, W).
        lying: Compiled for (N, C, W, H); the same network for square inputs.
    """

    def __init__(self, upright: Network, lying: Network) -> None:
        self._upright = upright
        self._lying = lying

    def __call__(self, x: Tensor) -> Tensor:
        """Run one batch, eight times."""
        return mean_of_eight(x, self._upright, self._lying)

    def close(self) -> None:
        """Free both networks."""
        self._upright.close()
        if self._lying is not self._upright:
            self._lying.close()
