"""The `Upscaler`: frames in, larger frames out, through one network on one device.

Native samples go to the device as they are; conversion, tiling, the network and rounding happen there. What has to be
known of a network is in its `NetworkSpec`, what has to be known of a picture in its `ColorSpec`.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self

import torch

from . import tiling
from .backends import Network, Precision, SamplesNetwork, open_backend
from .backends.ensemble import SelfEnsemble
from .backends.memory import forget_frames, translated_errors
from .color import Conversion
from .device import default_backend, find_device, torch_threads
from .errors import OutOfMemoryError, UsageError
from .execution import MIN_TILE, Execution
from .image import to_frame, to_image
from .models import find_model, read_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from .frames import Frame
    from .image import Image
    from .kernels import SampleFormat
    from .models import NetworkSpec

_log = logging.getLogger(__name__)

# Larger tiles gain nothing and smaller ones cost more than a few percent, on every CPU and network measured.
_AUTO_TILE = 512
# What a network is expected to hold per output pixel: two layers of 128 channels at high resolution. When it needs
# more than that, or than there is, running out of memory mends the batch and the tile.
_BYTES_PER_PIXEL = 1024
_CPU_BUDGET = 4 << 30  # not asked of the machine, so that the same frames take the same memory everywhere


class Upscaler:
    """Enlarges frames with one network on one device; a context manager.

    Not for several threads at once.

    Attributes:
        spec: What is known of the model.
        scale: The enlargement.
        backend: The name of what runs the network.
        device: Where it runs.
        precision: In which arithmetic; samples enter and leave the network in float32.
        batch: Frames (windows, of a tiled frame) that the network takes at once; None before the first batch.
        tile: Input samples a side that are taken from a window; None when frames go through whole.
        self_ensemble: Whether the result is the mean over the eight flips and rotations of the frame.

    Args:
        model: A name out of `MODELS`.
        scale: One that the model has.
        execution: Backend, device, precision and the like; by default what is best for this machine.
        weights: A file in place of the shipped weights, as `load_model` takes it.

    Raises:
        UsageError: an argument out of its range; the message says what would do.
        WeightsError: weights that are missing or do not fit.
        BackendError: a backend that is not installed, or does not load.
    """

    spec: NetworkSpec

    def __init__(
        self,
        model: str = "espcn",
        scale: int = 2,
        execution: Execution | None = None,
        *,
        weights: str | Path | None = None,
    ) -> None:
        self._configure(find_model(model, scale), scale, execution or Execution())
        self.spec, self._module = read_model(model, scale, weights)

    @classmethod
    def from_module(cls, module: nn.Module, spec: NetworkSpec, scale: int, execution: Execution | None = None) -> Self:
        """An upscaler for a network of the caller's own.

        Args:
            module: (N, C, H, W) → (N, C, H·scale, W·scale), samples in [0, 1].
            spec: Its overlap at ``scale``, its channels, and what its input's size must be a multiple of.
            scale: The enlargement.
            execution: As in the constructor.

        Raises:
            UsageError: a scale that ``spec`` gives no overlap for, or another argument out of its range. Also from
                `upscale`, if what the module makes is not ``scale`` times as large as what it gets.
        """
        self = cls.__new__(cls)
        self._configure(spec, scale, execution or Execution())
        self._module = module
        return self

    def _configure(self, spec: NetworkSpec, scale: int, execution: Execution) -> None:
        if scale not in spec.overlap:
            scales = ", ".join(map(str, spec.scales))
            raise UsageError(f"Expected a scale that {spec.name} has an overlap for ({scales}), got {scale}")
        self.spec = spec
        self.scale = scale
        self.device = find_device(execution.device)
        self.backend = execution.backend or default_backend(self.device)
        self._backend = open_backend(self.backend, execution.cache_dir, execution.threads)
        if self.device.type not in self._backend.devices:
            runs_on = " and ".join(self._backend.devices)
            missing = execution.device is None and self._backend.devices == ("cuda",)
            why = "and there is no CUDA device that torch can use" if missing else f"not on {self.device.type}"
            there = self._backend.devices == ("cuda",) and torch.cuda.is_available()
            device = {"device": "cuda"} if there else {}
            raise UsageError(f"Backend {self.backend!r} runs on {runs_on}, {why}", **device, backend=...)
        self.precision: Precision = execution.precision or self._backend.default_precision(spec, self.device)
        if self.precision not in self._backend.precisions:
            known = ", ".join(self._backend.precisions)
            raise UsageError(f"Backend {self.backend!r} has no precision {self.precision!r}. Its precisions: {known}")
        self.batch = execution.batch
        self.tile = execution.tile if isinstance(execution.tile, int) else None
        self.self_ensemble = execution.self_ensemble
        self._asked = execution
        self._fitted: tuple[int, int] | None = None
        self._network: Network | None = None
        self._shape: tuple[int, int, int, int] | None = None
        self._closed = False

    def upscale(self, frames: Sequence[Frame]) -> list[Frame]:
        """Enlarge frames of one geometry.

        Args:
            frames: Any number; what exceeds the batch is taken in turns.

        Returns:
            As many frames in the same order, on the CPU; all but planes is as it was.

        Raises:
            UsageError: frames of different geometry; a matrix that a network of RGB cannot use.
            OutOfMemoryError: no room for the smallest tile.
            BackendError: anything else that goes wrong in the backend.
        """
        if self._closed:
            raise UsageError("Expected an open upscaler, got one that is closed: make another")
        if any(frame.geometry != frames[0].geometry for frame in frames):
            raise UsageError(
                "Expected frames of one geometry, got different ones: use Upscaler.stage, or upscale them apart"
            )
        done: list[Frame] = []
        while len(done) < len(frames):
            batch = self._fit(frames[0])
            failure: OutOfMemoryError | None = None
            try:
                done += self._upscale_batch(frames[len(done) : len(done) + batch])
            except OutOfMemoryError as error:
                forget_frames(failure := error)  # which hold the tensors that are in the way
            if failure is not None:
                self._shrink(frames[0], failure)
        return done

    def enlarge_image(self, image: Image) -> Image:
        """Enlarge an image; ``upscaler(image)`` does the same.

        Args:
            image: (H, W) gray, (H, W, 3) RGB or (H, W, 4) RGBA: full range, in uint8, uint16, or floating point from 0
                (black) to 1 (white). OpenCV's BGR is turned around by ``image[..., ::-1]``.

        Returns:
            An array of the same type, ``scale`` times as high and wide.

        Raises:
            UsageError: another type or shape.
            BackendError: as from `upscale`.
        """
        (large,) = self.upscale([to_frame(image)])
        return to_image(large, image)

    __call__ = enlarge_image

    def stage(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Enlarge a stream of frames, in order.

        Asks for input only when output is wanted, holds at most one batch before and one after, and closes ``frames``
        when it ends or is closed. A change of geometry, or the end, closes a batch.
        """
        held: list[Frame] = []
        try:
            for frame in frames:
                if held and frame.geometry != held[0].geometry:
                    full, held = held, []
                    yield from self.upscale(full)
                held.append(frame)
                if len(held) >= self._fit(frame):
                    full, held = held, []
                    yield from self.upscale(full)
            if held:
                yield from self.upscale(held)
        finally:
            close = getattr(frames, "close", None)
            if close is not None:
                close()

    @property
    def recipe(self) -> tuple[nn.Module, NetworkSpec, int, Execution]:
        """What `from_module` takes to make another one of the same network."""
        return self._module, self.spec, self.scale, self._asked

    def checksum(self) -> str:
        """Of the network's kind and its weights."""
        found = hashlib.sha256(type(self._module).__qualname__.encode())
        for name, tensor in sorted(self._module.state_dict().items()):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return found.hexdigest()

    def close(self) -> None:
        """Free the network, and the memory of its device for others; the upscaler must not be used afterwards."""
        self._closed = True
        self._drop_network()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drop_network(self) -> None:
        if self._network is not None:
            self._network.close()
        self._network = self._shape = None

    def _fit(self, frame: Frame) -> int:
        """Choose batch and tile for frames of this size, when it is new; give the batch in force."""
        if self.batch is None or (frame.height, frame.width) != self._fitted:
            self._fitted = (frame.height, frame.width)
            need = frame.height * frame.width * self.scale**2 * _BYTES_PER_PIXEL
            on_cpu = self.device.type == "cpu"
            budget = _CPU_BUDGET if on_cpu else torch.cuda.mem_get_info(self.device)[0] // 2
            # On a CPU one frame keeps all cores busy, and more of them only take memory.
            self.batch = self._asked.batch or (
                1 if on_cpu else max(1, min(self._backend.largest_batch, budget // need))
            )
            if self._asked.tile == "auto":
                self.tile = None if need * self.batch <= budget else _AUTO_TILE
        return self.batch

    def _shrink(self, frame: Frame, failure: OutOfMemoryError) -> None:
        """Halve the batch, then the tile, and say so; raise where there is nothing to halve."""
        self._drop_network()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        assert self.batch is not None
        smaller = max(MIN_TILE, (self.tile or max(frame.height, frame.width)) // 2)
        if self.batch > 1:
            self.batch //= 2
        elif self._asked.tile != "off" and smaller != self.tile:
            self.tile = smaller
        else:
            how, remedy = (
                ("whole", {"tile": "auto"}) if self.tile is None else (f"in tiles of {smaller}", {"model": ...})
            )
            what = f"{self.backend}: no room in memory to enlarge {frame.width}×{frame.height} {how}"
            raise OutOfMemoryError(what, **remedy) from failure
        tiles = "whole frames" if self.tile is None else f"tiles of {self.tile}"
        _log.warning("out of memory: going on with a batch of %d and %s", self.batch, tiles)

    def _upscale_batch(self, frames: Sequence[Frame]) -> list[Frame]:
        first = frames[0]
        conversion = Conversion(first.color, len(first.planes), self.spec.channels, self.scale)
        task = f"{self.backend}: enlarging {first.width}×{first.height}"
        with torch.inference_mode(), translated_errors(task), torch_threads(1 if self._backend.own_threads else None):
            planes = [self._upload([frame.planes[index] for frame in frames]) for index in range(len(first.planes))]
            reads = self._backend.reads_samples and self.spec.multiple_of == 1 and not self.self_ensemble
            native = conversion.native if reads else None
            x, rest = conversion.split(planes) if native is None else (planes[0][:, None], tuple(planes[1:]))
            x = self._run(x, native)
            results = [self._download(plane) for plane in conversion.join(x, rest)]
            if self.device.type == "cuda":
                torch.cuda.current_stream(self.device).synchronize()
        return [replace(frame, planes=tuple(plane[index] for plane in results)) for index, frame in enumerate(frames)]

    def _upload(self, planes: Sequence[Tensor]) -> Tensor:
        """(H, W) on the CPU → (N, H, W) on the device, in native samples."""
        if self.device.type == "cpu":
            return torch.stack(list(planes))
        pinned = torch.empty((len(planes), *planes[0].shape), dtype=planes[0].dtype, pin_memory=True)
        for index, plane in enumerate(planes):
            pinned[index].copy_(plane)
        return pinned.to(self.device, non_blocking=True)

    def _download(self, planes: Tensor) -> Tensor:
        """To the CPU; not there before the device is synchronised."""
        if self.device.type == "cpu":
            return planes
        pinned = torch.empty(planes.shape, dtype=planes.dtype, pin_memory=True)
        return pinned.copy_(planes, non_blocking=True)

    def _run(self, x: Tensor, native: SampleFormat | None) -> Tensor:
        """(N, C, H, W) → (N, C, H·scale, W·scale), by windows and in groups of one compiled shape.

        Args:
            x: float32; or with ``native`` samples of this format, and so is the result.
            native: ″
        """
        assert self.batch is not None
        height, width = x.shape[-2:]
        scale = self.scale
        x = tiling.pad(x, self.spec.multiple_of)
        grid = tiling.plan(x.shape[2], x.shape[3], self.tile, self.spec.overlap[scale], self.spec.multiple_of)
        compiled = self._compiled((self.batch, x.shape[1], *grid.size))
        run: Callable[[Tensor], Tensor] = compiled
        if native is not None:
            assert isinstance(compiled, SamplesNetwork)
            run = partial(compiled.upscale_samples, samples=native)

        def network(x: Tensor) -> Tensor:
            large = run(x)
            expected = (*x.shape[:2], x.shape[2] * scale, x.shape[3] * scale)
            if large.shape != expected:
                raise UsageError(
                    f"Expected {self.spec.name} to make {expected} of {tuple(x.shape)}, ×{scale}, "
                    f"got {tuple(large.shape)}"
                )
            return large

        if len(grid) == 1 and len(x) == self.batch:
            return network(x)[..., : height * scale, : width * scale]
        out = x.new_empty((len(x), x.shape[1], x.shape[2] * scale, x.shape[3] * scale))
        windows = list(tiling.cut(x, grid))
        for begin in range(0, len(windows), self.batch):
            group = windows[begin : begin + self.batch]
            missing = self.batch - len(group)
            for index, result in enumerate(network(torch.stack(group + group[-1:] * missing))[: len(group)], begin):
                tiling.place(result, index, out, grid, scale)
        return out[..., : height * scale, : width * scale]

    def _compiled(self, shape: tuple[int, int, int, int]) -> Network:
        if self._network is None or self._shape != shape:
            self._drop_network()
            self._network = self._compile(shape)
            if self.self_ensemble:
                n, channels, height, width = shape
                square = height == width
                lying = self._network if square else self._compile((n, channels, width, height))
                self._network = SelfEnsemble(self._network, lying)
            self._shape = shape
        return self._network

    def _compile(self, shape: tuple[int, int, int, int]) -> Network:
        return self._backend.compile(self._module, self.spec, shape, self.precision, self.device)
