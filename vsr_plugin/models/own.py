"""Networks of the caller's own: checks of the modules and of their results, and checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..arguments import check_type
from ..errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


def check_modules(given: object, scales: Sequence[int], known: Sequence[int]) -> dict[int, nn.Module]:
    """The module of each scale.

    Args:
        given: A module or a function, or a mapping from scales to them.
        scales: The scales that are needed; of several, a mapping may have only some.
        known: The scales that the network has.

    Raises:
        UsageError: ``given`` is something else, a weight is NaN or infinite, or a scale is missing or unknown.
    """
    if not isinstance(given, Mapping):
        if len(scales) > 1:
            raise UsageError(f"Expected a module for each of the scales {_listed(scales)}, got one")
        return {scales[0]: _module(given)}
    for scale in given:
        check_type("a scale of module", scale, int)
        if scale not in known:
            raise UsageError(
                f"Expected modules for scales that the spec has an overlap for ({_listed(known)}), got {scale}"
            )
    if not given or (len(scales) == 1 and scales[0] not in given):
        raise UsageError(f"Expected a module for scale {_listed(scales)}, got {_listed(tuple(given)) or 'none'}")
    return {scale: _module(part) for scale, part in given.items()}


def _listed(scales: Sequence[int]) -> str:
    return ", ".join(map(str, scales))


def _module(given: object) -> nn.Module:
    if isinstance(given, nn.Module):
        for name, tensor in given.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise UsageError(f"Expected weights that are numbers, got NaN or infinity in {name}")
        return given
    if isinstance(given, type):
        raise UsageError(f"Expected a module of torch, got the class {given.__name__}: make one, {given.__name__}(…)")
    if not callable(given):
        raise UsageError(f"Expected a module of torch or a function of a tensor, got {given!r}")
    return Function(given)


class Function(nn.Module):
    """A function as a module: (N, C, H, W) → (N, C, H·scale, W·scale)."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Call the function."""
        return self.function(x)


def check_result(result: object, name: str) -> Tensor:
    """Return the output of a network, if it is one floating-point tensor.

    Raises:
        UsageError: the output is something else.
    """
    if not isinstance(result, Tensor):
        raise UsageError(f"Expected {name} to return a tensor, got {type(result).__name__}")
    check_results([str(result.dtype).removeprefix("torch.")], name)
    return result


def check_results(types: Sequence[str], name: str) -> None:
    """Raise UsageError unless a network returns one floating-point tensor, given the types of all it returns."""
    if len(types) != 1:
        raise UsageError(f"Expected {name} to return one tensor, got {len(types)}")
    if "f" not in types[0]:
        raise UsageError(f"Expected {name} to return floating point from 0 (black) to 1 (white), got {types[0]}")


def checksum(modules: Iterable[nn.Module]) -> str:
    """SHA-256, in hexadecimal, of the networks' classes and weights."""
    found = hashlib.sha256()
    for module in modules:
        found.update(type(module).__qualname__.encode())
        for name, tensor in sorted(module.state_dict().items()):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
