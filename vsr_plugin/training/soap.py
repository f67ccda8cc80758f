"""SOAP: Adam in the basis in which a layer's gradients are least correlated.

Neighboring samples of an image are nearly equal, and so are the gradients of a filter's taps. Adam treats each tap
alone, and is slow in the valleys of such a loss. Tiny networks train several times faster in the rotated basis, and
the rotation costs little, because their layers are small.

Source: Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", ICLR 2025, algorithm 3.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

LARGEST = 1600  # the largest side that is rotated: 64 channels of 5 × 5 taps; of larger matrices only the other side is


class SOAP(torch.optim.Optimizer):
    """The weights of a layer are treated as an (outputs, inputs · taps) matrix; vectors are trained by Adam.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate, of Adam's size.
        betas: Decay of the mean gradient and of its square; the latter also of the correlations.
        every: Steps between updates of the basis, by kind of device: on a GPU one takes as long as several steps.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        every: Mapping[str, int] = MappingProxyType({"cpu": 20, "cuda": 80}),
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas})
        self._every = every

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        assert parameter.grad is not None
        gradient = parameter.grad.flatten(1) if parameter.ndim > 1 else parameter.grad[None]
        (beta1, beta2) = group["betas"]
        sides = tuple(side for side in (0, 1) if parameter.ndim > 1 and gradient.shape[side] <= LARGEST)
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
            for side in sides:
                state[f"basis{side}"] = _axes(_correlation(gradient, side))
                state[f"correlation{side}"] = torch.zeros_like(state[f"basis{side}"])
        state["step"] += 1
        for side in sides:
            state[f"correlation{side}"].lerp_(_correlation(gradient, side), 1 - beta2)
        state["mean"].lerp_(gradient, 1 - beta1)
        rotated = _rotate(gradient, state, sides)
        state["square"].lerp_(rotated * rotated, 1 - beta2)
        spread = (state["square"] / (1 - beta2 ** state["step"])).sqrt().add_(1e-8)
        update = _rotate(state["mean"], state, sides) / (1 - beta1 ** state["step"]) / spread
        for side in sides:
            basis = state[f"basis{side}"]
            update = basis @ update if side == 0 else update @ basis.T
        parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"])
        if state["step"] % self._every[parameter.device.type] == 0:
            for side in sides:
                _turn(state, side)


def _correlation(gradient: Tensor, side: int) -> Tensor:
    return gradient @ gradient.T if side == 0 else gradient.T @ gradient


def _axes(correlation: Tensor) -> Tensor:
    """Eigenvectors, in float64 and scaled to 1: in float32, tiny gradients of few samples give NaN."""
    scaled = correlation.double() / correlation.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    axes: Tensor = torch.linalg.eigh(scaled)[1]
    return axes.to(correlation)


def _rotate(matrix: Tensor, state: dict[str, Any], sides: tuple[int, ...]) -> Tensor:
    for side in sides:
        matrix = state["basis0"].T @ matrix if side == 0 else matrix @ state["basis1"]
    return matrix


def _turn(state: dict[str, Any], side: int) -> None:
    """One step of the power method; sorts the axes by the variance that they explain, and the squares with them."""
    basis, correlation = state[f"basis{side}"], state[f"correlation{side}"]
    moved = correlation @ basis
    order = (basis * moved).sum(0).argsort(descending=True)
    state["square"] = state["square"].index_select(side, order)
    state[f"basis{side}"] = torch.linalg.qr(moved[:, order])[0]
