"""SOAP."""

from __future__ import annotations

import torch

from vsr_plugin.training.soap import SOAP


def descend(optimizer: torch.optim.Optimizer, weight: torch.nn.Parameter, steps: int) -> float:
    """Fit a filter to smooth inputs, whose covariance has a condition number of about 10⁵."""
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(4, 16, generator=generator)
    smooth = torch.cumsum(torch.randn(64, 16, generator=generator), 1)
    loss = torch.tensor(0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (smooth @ (weight.flatten(1) - target).T).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return float(loss.detach())


def test_correlated_inputs_do_not_slow_it_down() -> None:
    losses = {}
    for kind in (torch.optim.Adam, SOAP):
        weight = torch.nn.Parameter(torch.zeros(4, 1, 4, 4))
        losses[kind] = descend(kind([weight], lr=0.02, betas=(0.9, 0.99)), weight, 300)
    assert losses[SOAP] < losses[torch.optim.Adam] / 2


def test_of_a_vector_it_is_adam() -> None:
    ours, theirs = (torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0])) for _ in range(2))
    pairs = [(ours, SOAP([ours], 0.1)), (theirs, torch.optim.Adam([theirs], 0.1, betas=(0.9, 0.99)))]
    for parameter, optimizer in pairs:
        for _ in range(20):
            optimizer.zero_grad()
            (parameter**4).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_its_state_survives_saving() -> None:
    def run(interrupted: bool) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.zeros(4, 1, 4, 4))
        optimizer = SOAP([weight], 0.02)
        descend(optimizer, weight, 25)
        if interrupted:
            state = optimizer.state_dict()
            optimizer = SOAP([weight], 0.02)
            optimizer.load_state_dict(state)
        descend(optimizer, weight, 25)
        return weight.detach()

    assert torch.equal(run(interrupted=False), run(interrupted=True))


def test_gradients_of_all_sizes_leave_numbers() -> None:
    """Layers that have just grown get next to nothing, from a few samples, with which float32 finds no basis."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        weight = torch.nn.Parameter(torch.zeros(16, 16, 3, 3))
        weight.grad = torch.zeros_like(weight)
        sizes = 10 ** (-7 - 16 * torch.rand(16, 3, 3, generator=generator))
        weight.grad[0] = torch.randn(16, 3, 3, generator=generator) * sizes
        SOAP([weight], 1e-3).step()
        assert torch.isfinite(weight).all()


def test_the_basis_is_turned_as_often_as_the_device_is_worth() -> None:
    weight = torch.nn.Parameter(torch.zeros(4, 1, 4, 4))
    optimizer = SOAP([weight], 0.02, every={"cpu": 3})
    bases = []
    for _ in range(4):
        descend(optimizer, weight, 1)
        bases.append(optimizer.state[weight]["basis1"].clone())
    assert torch.equal(bases[0], bases[1])
    assert not torch.equal(bases[1], bases[2])
    assert torch.equal(bases[2], bases[3])


def test_no_gradient_is_no_step() -> None:
    weight = torch.nn.Parameter(torch.ones(4, 4, 3, 3))
    weight.grad = torch.zeros_like(weight)
    SOAP([weight], 1e-3).step()
    assert torch.equal(weight, torch.ones_like(weight))
