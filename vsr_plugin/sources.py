"""Where a network's module comes from: it is made when it is first needed, as torch takes seconds to load."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


class Source:
    """The module of a network, or how to make it.

    Attributes:
        key: All that the module is made of, in words, if that is known before it is made; else None. A backend may keep
            what it derives from the module under this key.
        stays_flat: Whether flat areas stay flat in bfloat16 (`rounding.stays_flat`), if that is known; else None.

    Args:
        make: Makes the module.
        key: ″
        stays_flat: ″
    """

    def __init__(
        self, make: Callable[[], nn.Module], key: str | None = None, *, stays_flat: bool | None = None
    ) -> None:
        self._make = make
        self.key = key
        self.stays_flat = stays_flat

    @classmethod
    def of(cls, module: nn.Module) -> Source:
        """The source of a module that is there."""
        return cls(lambda: module)

    @cached_property
    def module(self) -> nn.Module:
        """(N, C, H, W) → (N, C, H·scale, W·scale), samples in [0, 1]."""
        return self._make()
