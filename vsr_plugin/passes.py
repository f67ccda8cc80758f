"""`Pass`: runs one network on frames, whole or in windows, in batches of one compiled shape."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from . import tiling
from .arrays import as_tensor, check_finite, copy, empty, magnitude, stack
from .backends import SamplesNetwork
from .backends.ensemble import SelfEnsemble
from .errors import UsageError
from .rectangles import Cover
from .samples import to_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .arrays import Array
    from .backends import Backend, Device, Network, Precision
    from .models import NetworkSpec
    from .rectangles import Rectangle
    from .reuse import Place
    from .samples import SampleFormat
    from .sources import Source
    from .tiling import Grid


class Pass:
    """One network on one device; compiled for the shape of its input, and again when that changes.

    Attributes:
        scale: The network's.

    Args:
        source: The module, (N, C, H, W) → (N, C, H·scale, W·scale), samples in [0, 1].
        spec: Its overlap at ``scale``, its channels, and what its input's sides must be multiples of.
        scale: ″
        backend: The backend that runs it.
        device: The device that it runs on.
        precision: The arithmetic of the network.
        self_ensemble: Whether the result is the mean over the eight flips and rotations.
    """

    def __init__(
        self,
        source: Source,
        spec: NetworkSpec,
        scale: int,
        backend: Backend,
        device: Device,
        precision: Precision,
        *,
        self_ensemble: bool,
    ) -> None:
        self.scale = scale
        self._source = source
        self._spec = spec
        self._backend = backend
        self._device = device
        self._precision: Precision = precision
        self._self_ensemble = self_ensemble
        self._network: Network | None = None
        self._shape: tuple[int, int, int, int] | None = None
        self._checked = False
        self._agreed: dict[tuple[Grid, int, tuple[int, int]], bool] = {}
        self._noise: tuple[Grid, int, Array, Array] | None = None  # a frame of noise, and its result

    def drop(self) -> None:
        """Free the network; it is compiled again when it is needed."""
        if self._network is not None:
            self._network.close()
        self._network = self._shape = None

    def __call__(
        self,
        x: Array,
        batch: int,
        tile: int | None,
        native: SampleFormat | None = None,
        reuse: Callable[..., Place] | None = None,
    ) -> Array:
        """(N, C, H, W) → (N, C, H·scale, W·scale), contiguous.

        The frames are first extended by their mirror image, and the result is cropped, so that flat areas stay flat up
        to the border (`tiling`). The papers do not do this; `evaluation` measures networks as the papers do.

        Args:
            x: float32 tensors; or, with ``native``, samples of this format, like the result: arrays on the CPU, tensors
                on a GPU.
            batch: Windows per call of the network.
            tile: Side of a tile in input samples, without the overlap; None if frames are not tiled.
            native: ″
            reuse: `Reuse.place` of the frames' stream, for this pass: unchanged parts are not computed again.

        Raises:
            UsageError: the output is not ``scale`` times as large as the input, or is NaN or infinite.
        """
        spec, overlap = self._spec, self._spec.overlap[self.scale]
        grid = tiling.plan(x.shape[2], x.shape[3], tile, overlap, spec.multiple_of)
        x = tiling.extend(x, grid)
        network = self._compiled((batch, x.shape[1], *grid.size))
        if reuse is None:
            large = self._run(network, x, grid, batch, native)
            part = tiling.crop(large, grid, self.scale)
            return np.ascontiguousarray(part) if isinstance(part, np.ndarray) else part.contiguous()

        finished = native if isinstance(network, SamplesNetwork) else None  # the network's own output format

        def windows_of(size: tuple[int, int]) -> Grid:
            return tiling.plan(size[0], size[1], tile, overlap, spec.multiple_of, margin=0)

        def compile_for(size: tuple[int, int]) -> Callable[[Array], Array]:
            windows = windows_of(size)
            compiled = self._compile((1, x.shape[1], *windows.size))
            return lambda part: self._run(compiled, part if finished else unit(part), windows, 1, finished)

        def unit(x: Array) -> Array:
            return x if native is None else as_tensor(to_unit(x, native.peak))

        def store(large: Array) -> Array:
            if native is None or finished:
                return large
            from .kernels import to_samples

            return to_samples(large, native.depth, peak=native.peak).numpy()

        def agrees(rectangles: Sequence[Rectangle]) -> bool:
            size = rectangles[0].size
            if (grid, batch, size) not in self._agreed:
                self._agreed[grid, batch, size] = self._agrees(rectangles, grid, batch, windows_of(size))
            return self._agreed[grid, batch, size]

        cover = partial(Cover, grid.extended, overlap, spec.multiple_of)
        place = reuse((self, grid, native), cover, self.scale)

        def enlarge(x: Array) -> Array:
            return self._run(network, x if finished else unit(x), grid, batch, finished)

        large = place.enlarge(x, enlarge, compile_for, store, agrees)
        return copy(tiling.crop(large, grid, self.scale))

    def _agrees(self, rectangles: Sequence[Rectangle], grid: Grid, batch: int, windows: Grid) -> bool:
        """Whether rectangles of a frame of noise have the results that the whole frame has there, in every bit."""
        channels = self._spec.channels
        if self._noise is None or self._noise[:2] != (grid, batch):
            self.drop()  # there may be no memory for two networks of whole frames; the next frame compiles it again
            noise: Array = np.random.default_rng(0).random((1, channels, *grid.extended), np.float32)
            if self._self_ensemble or not self._backend.is_lazy:  # they take tensors alone
                noise = as_tensor(noise)
            with closing(self._compile((batch, channels, *grid.size))) as whole:
                self._noise = grid, batch, noise, self._run(whole, noise, grid, batch)
        *_, noise, large = self._noise
        with closing(self._compile((1, channels, *windows.size))) as alone:
            results = ((one, self._run(alone, noise[..., *one.inside], windows, 1)) for one in rectangles)
            return all(
                np.array_equal(result[..., *one.taken(self.scale)], large[..., *one.placed(self.scale)])
                for one, result in results
            )

    def _run(self, network: Network, x: Array, grid: Grid, batch: int, native: SampleFormat | None = None) -> Array:
        """Run a network on extended frames, or rectangles of them, window by window."""
        scale = self.scale
        run: Callable[[Array], Array] = network
        if native is not None:
            assert isinstance(network, SamplesNetwork)
            run = partial(network.upscale_samples, samples=native)

        def checked(x: Array) -> Array:
            large = run(x)
            expected = (*x.shape[:2], x.shape[2] * scale, x.shape[3] * scale)
            if large.shape != expected:
                raise UsageError(
                    f"Expected {self._spec.name} to make {expected} of {tuple(x.shape)}, ×{scale}, "
                    f"got {tuple(large.shape)}"
                )
            if native is None and (self._device.type == "cpu" or not self._checked):
                check_finite(magnitude(large), x, self._spec.name)  # on a GPU once, as it waits for the result
                self._checked = True
            return large

        if len(grid) == 1 and len(x) == batch:
            return checked(x)
        out = empty(x, (len(x), x.shape[1], x.shape[2] * scale, x.shape[3] * scale))
        windows = list(tiling.cut(x, grid))
        for begin in range(0, len(windows), batch):
            group = windows[begin : begin + batch]
            missing = batch - len(group)
            for index, result in enumerate(checked(stack(group + group[-1:] * missing))[: len(group)], begin):
                tiling.place(result, index, out, grid, scale)
        return out

    def _compiled(self, shape: tuple[int, int, int, int]) -> Network:
        """The network, compiled for whole frames or for their windows."""
        if self._network is None or self._shape != shape:
            self.drop()
            self._network = self._compile(shape)
            self._shape = shape
        return self._network

    def _compile(self, shape: tuple[int, int, int, int]) -> Network:
        network = self._compile_as_is(shape)
        if not self._self_ensemble:
            return network
        n, channels, height, width = shape
        square = height == width
        return SelfEnsemble(network, network if square else self._compile_as_is((n, channels, width, height)))

    def _compile_as_is(self, shape: tuple[int, int, int, int]) -> Network:
        source = self._source if self._backend.is_lazy else self._source.module
        return self._backend.compile(source, self._spec, shape, self._precision, self._device)
