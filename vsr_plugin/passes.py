"""`Pass`: a frame through one network, whole or in windows, in groups of one compiled shape."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from . import tiling
from .backends import SamplesNetwork
from .backends.ensemble import SelfEnsemble
from .errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from .backends import Backend, Network, Precision
    from .kernels import SampleFormat
    from .models import NetworkSpec


class Pass:
    """One network on one device; compiled when it meets a shape, and again when it meets another.

    Attributes:
        scale: The enlargement.

    Args:
        module: (N, C, H, W) → (N, C, H·scale, W·scale), samples in [0, 1].
        spec: Its overlap at ``scale``, its channels, and what its input's size must be a multiple of.
        scale: ″
        backend: What runs it.
        device: Where.
        precision: In which arithmetic.
        self_ensemble: Whether the result is the mean over the eight flips and rotations.
    """

    def __init__(
        self,
        module: nn.Module,
        spec: NetworkSpec,
        scale: int,
        backend: Backend,
        device: torch.device,
        precision: Precision,
        *,
        self_ensemble: bool,
    ) -> None:
        self.scale = scale
        self._module = module
        self._spec = spec
        self._backend = backend
        self._device = device
        self._precision: Precision = precision
        self._self_ensemble = self_ensemble
        self._network: Network | None = None
        self._shape: tuple[int, int, int, int] | None = None

    def drop(self) -> None:
        """Free the network; it is compiled again when it is needed."""
        if self._network is not None:
            self._network.close()
        self._network = self._shape = None

    def __call__(self, x: Tensor, batch: int, tile: int | None, native: SampleFormat | None = None) -> Tensor:
        """(N, C, H, W) → (N, C, H·scale, W·scale), contiguous.

        The frames are extended by their mirror image first, and the result is cropped, so that flat areas stay flat up
        to the border (`tiling`). The papers' networks do without: `evaluation` measures those, not this.

        Args:
            x: float32; or with ``native`` samples of this format, and so is the result.
            batch: Windows that the network takes at once.
            tile: Input samples a side that are taken from a window; None when frames go through whole.
            native: ″

        Raises:
            UsageError: what the network makes is not ``scale`` times as large as what it gets.
        """
        scale, spec = self.scale, self._spec
        grid = tiling.plan(x.shape[2], x.shape[3], tile, spec.overlap[scale], spec.multiple_of)
        x = tiling.extend(x, grid)
        compiled = self._compiled((batch, x.shape[1], *grid.size))
        run: Callable[[Tensor], Tensor] = compiled
        if native is not None:
            assert isinstance(compiled, SamplesNetwork)
            run = partial(compiled.upscale_samples, samples=native)

        def network(x: Tensor) -> Tensor:
            large = run(x)
            expected = (*x.shape[:2], x.shape[2] * scale, x.shape[3] * scale)
            if large.shape != expected:
                raise UsageError(
                    f"Expected {spec.name} to make {expected} of {tuple(x.shape)}, ×{scale}, got {tuple(large.shape)}"
                )
            return large

        if len(grid) == 1 and len(x) == batch:
            return tiling.crop(network(x), grid, scale).contiguous()
        out = x.new_empty((len(x), x.shape[1], x.shape[2] * scale, x.shape[3] * scale))
        windows = list(tiling.cut(x, grid))
        for begin in range(0, len(windows), batch):
            group = windows[begin : begin + batch]
            missing = batch - len(group)
            for index, result in enumerate(network(torch.stack(group + group[-1:] * missing))[: len(group)], begin):
                tiling.place(result, index, out, grid, scale)
        return tiling.crop(out, grid, scale).contiguous()

    def _compiled(self, shape: tuple[int, int, int, int]) -> Network:
        if self._network is None or self._shape != shape:
            self.drop()
            self._network = self._compile(shape)
            if self._self_ensemble:
                n, channels, height, width = shape
                square = height == width
                lying = self._network if square else self._compile((n, channels, width, height))
                self._network = SelfEnsemble(self._network, lying)
            self._shape = shape
        return self._network

    def _compile(self, shape: tuple[int, int, int, int]) -> Network:
        return self._backend.compile(self._module, self._spec, shape, self._precision, self._device)
