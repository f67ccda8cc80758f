"""The `Upscaler`: frames in, larger frames out, through one network on one device.

Native samples are copied to the device unconverted; conversion, tiling, the network and rounding run there. A
`NetworkSpec` describes the network, a `ColorSpec` the samples of a frame.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self

from .arguments import checked_arguments
from .arrays import to_frame, to_image
from .backends import Precision, check_precision, open_backend
from .backends.memory import forget_frames, translated_errors
from .device import check_runs_on, default_backend, find_device, free_memory, memory, release_memory, torch_threads
from .errors import BackendError, OutOfMemoryError, UsageError
from .execution import MIN_TILE, Execution
from .frames import Frame
from .in_flight import InFlight, batches
from .luma import LumaConversion
from .models import CLEAN, NetworkSpec, find_model, find_sources
from .passes import Pass
from .reuse import Reuse
from .sizes import Size, Target
from .sources import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from .arrays import Array, Image
    from .in_flight import Results

_log = logging.getLogger(__name__)

# Larger tiles gain nothing, and smaller ones cost more than a few percent, on every CPU and network measured.
_AUTO_TILE = 512
# The memory that a network is expected to need per output pixel: two layers of 128 channels at high resolution. If it
# needs more than that, or than is free, the out-of-memory error makes the batch and the tile smaller.
_BYTES_PER_PIXEL = 1024
_CPU_BUDGET = 4 << 30  # a constant, so that the same frames take the same memory on every machine


@checked_arguments(scale="Size", execution="Execution")
class Upscaler:
    """Enlarges frames with one network on one device; a context manager.

    Only one thread may use it at a time.

    Attributes:
        spec: The description of the network.
        size: The requested size of frames; None if a scale was given.
        scales: The scales of the networks that a frame passes in turn; with a size, those for the latest frames.
        backend: The name of the backend that runs the network.
        device: The device that it runs on.
        precision: The arithmetic of the network; samples enter and leave it in float32.
        batch: Frames (windows, if frames are tiled) per call of the network; None before the first batch.
        tile: Side of a tile in input samples, without the overlap; None if frames are not tiled.
        self_ensemble: Whether the result is the mean over the eight flips and rotations of the frame.
        tuned_for: The kind of input that the shipped weights are for; None with the user's own weights.

    Args:
        model: A name in `MODELS`.
        scale: A scale of the model, or a size. For a size, the smallest sufficient scale is used, or two in turn, and
            then one bicubic resampling to the exact size, antialiased, and sited like the source.
        execution: Backend, device, precision and the like; by default the best for this machine.
        weights: A file to read in place of the shipped weights, as for `load_model`.
        tuned_for: Which of the shipped weights: ``clean``, or ``video`` for input that has been compressed.

    Raises:
        UsageError: an argument is out of range; the message says what is allowed.
        WeightsError: the weights are missing, damaged, or do not fit the model.
        BackendError: the backend is not installed, or does not load.
    """

    spec: NetworkSpec
    scales: tuple[int, ...]
    tuned_for: str | None = None

    def __init__(
        self,
        model: str = "espcn",
        scale: int | Size = 2,
        execution: Execution | None = None,
        *,
        weights: str | Path | None = None,
        tuned_for: str = CLEAN,
    ) -> None:
        fixed = scale.scale if isinstance(scale, Size) else scale
        spec = find_model(model, fixed)
        self._configure(spec, scale, execution)
        quantized = self._asked.precision == "int8"
        read = find_sources(spec, fixed, weights, tuned_for, quantized=quantized)
        if weights is None:
            self.tuned_for = tuned_for
        self.spec = spec = next(iter(read.values()))[0]
        if isinstance(scale, Size):
            self.spec = replace(spec, overlap={one: spec.overlap[one] for one, (spec, _) in read.items()})
        self._take({one: source for one, (_, source) in read.items()})

    @classmethod
    @checked_arguments("module", scale="Size", execution="Execution")
    def from_module(
        cls,
        module: Callable[[Tensor], Tensor] | Mapping[int, Callable[[Tensor], Tensor]],
        spec: NetworkSpec,
        scale: int | Size,
        execution: Execution | None = None,
    ) -> Self:
        """Make an upscaler for a network of the caller's own.

        Args:
            module: (N, C, H, W) → (N, C, H·scale, W·scale), samples in [0, 1]: a torch module or a function; or a
                mapping from each of several scales to one.
            spec: Its overlap at ``scale``, its channels, and what its input's sides must be multiples of.
            scale: The scale, or the requested size of frames.
            execution: As in the constructor.

        Raises:
            UsageError: ``spec`` has no overlap for a scale, a weight of the module is NaN or infinite, or another
                argument is out of range. `upscale` raises it, too, if the module's output is not ``scale`` times as
                large as its input, is not floating point, or is NaN or infinite.
        """
        from .models.own import check_modules

        self = cls.__new__(cls)
        self._configure(spec, scale, execution)
        fixed = scale.scale if isinstance(scale, Size) else scale
        modules = check_modules(module, spec.scales if fixed is None else (fixed,), spec.scales)
        self._take({one: Source.of(each) for one, each in modules.items()})
        return self

    def _take(self, sources: dict[int, Source]) -> None:
        self._sources = sources
        default = self._backend.default_precision
        with torch_threads(1 if self._backend.own_threads else None):  # it may run small frames: more would only wait
            self.precision: Precision = self._asked.precision or default(sources.values(), self.spec, self.device)
        if not self._backend.is_lazy:  # it would make them later: weights that cannot be read are told now
            _ = [source.module for source in sources.values()]

    def _configure(self, spec: NetworkSpec, scale: int | Size, execution: Execution | None) -> None:
        execution = execution or Execution()
        self.size = scale if isinstance(scale, Size) else None
        asked = self.size.scale if self.size else scale
        if asked is not None and asked not in spec.overlap:
            scales = ", ".join(map(str, spec.scales))
            raise UsageError(f"Expected a scale that {spec.name} has an overlap for ({scales}), got {asked}")
        self.spec = spec
        self.scales = () if isinstance(scale, Size) else (scale,)
        self.device = find_device(execution.device)
        self.backend = execution.backend or default_backend(self.device)
        self._backend = open_backend(self.backend, execution.cache_dir, execution.threads)
        check_runs_on(self.backend, self._backend.devices, self.device, asked=execution.device is not None)
        if execution.precision is not None:
            elsewhere = {"device": "cpu"} if execution.precision == "int8" and self.device.type == "cuda" else {}
            check_precision(self.backend, execution.precision, **elsewhere)
        self.batch = execution.batch
        self.tile = execution.tile if isinstance(execution.tile, int) else None
        self.self_ensemble = execution.self_ensemble
        self._asked = execution
        self._fitted: Target | None = None
        self._passes: dict[tuple[int, int], Pass] = {}  # (place in the order, scale) → the network
        self._in_flight = InFlight(self.device)
        self._closed = False

    @property
    def scale(self) -> int:
        """The product of the networks' scales; with a size, 1 before the first frames."""
        return math.prod(self.scales)

    def target(self, frame: Frame) -> Target:
        """The size, scales and pixel shape of the results for frames of this geometry.

        Raises:
            UsageError: the size is not larger than the frames, or larger than two networks in turn reach.
        """
        if self.size is None:
            return Target(frame.width * self.scale, frame.height * self.scale, self.scales, frame.sample_aspect_ratio)
        return self.size.of(frame, self._sources)

    @checked_arguments("frames")
    def upscale(self, frames: Sequence[Frame]) -> list[Frame]:
        """Enlarge frames of one geometry.

        Args:
            frames: Any number of them; they are processed in batches.

        Returns:
            As many frames in the same order, on the CPU; everything but planes and pixel shape is kept.

        Raises:
            UsageError: the frames differ in geometry; an RGB network cannot use their matrix; a floating-point sample
                is NaN or infinite, on any device.
            OutOfMemoryError: not even the smallest tile fits into memory.
            BackendError: the backend fails for any other reason.
        """
        return self._begin(frames)()

    def _begin(self, frames: Sequence[Frame], reuse: Reuse | None = None) -> Results:
        """Send frames to the device; return a function that waits for the results."""
        if self._closed:
            raise UsageError("Expected an open upscaler, got one that is closed: make another")
        if not isinstance(frames, Sequence) or not all(isinstance(frame, Frame) for frame in frames):
            raise UsageError("Expected frames as a sequence of Frame: enlarge_image takes an array")
        if any(frame.geometry != frames[0].geometry for frame in frames):
            raise UsageError(
                "Expected frames of one geometry, got different ones: use Upscaler.stage, or upscale them apart"
            )
        for frame in frames:
            frame.check_numbers()
        begun: list[Results] = []
        done = 0
        while done < len(frames):
            group = frames[done : done + self._fit(frames[0])]
            failure: OutOfMemoryError | None = None
            try:
                begun.append(self._begin_batch(group, reuse))
                done += len(group)
            except OutOfMemoryError as error:
                forget_frames(failure := error)  # its traceback holds tensors whose memory is needed
            if failure is not None and not self._in_flight.wait():
                self._shrink(frames[0], failure)
        return lambda: [frame for results in begun for frame in results()]

    @checked_arguments("image")
    def enlarge_image(self, image: Image) -> Image:
        """Enlarge an image; ``upscaler(image)`` does the same.

        Args:
            image: (H, W) gray, (H, W, 3) RGB or (H, W, 4) RGBA: full range, in uint8, uint16, or floating point from 0
                (black) to 1 (white). ``image[..., ::-1]`` turns OpenCV's BGR into RGB.

        Returns:
            An array of the same type, ``scale`` times as high and wide, or of the requested size.

        Raises:
            UsageError: the image has another type or shape, or a sample is NaN or infinite.
            BackendError: as from `upscale`.
        """
        (large,) = self.upscale([to_frame(image)])
        return to_image(large, image)

    __call__ = enlarge_image

    def stage(self, frames: Iterable[Frame], reuse: Reuse | None = None) -> Iterator[Frame]:
        """Enlarge a stream of frames, in order.

        Input is read only when output is requested. At most one batch and one frame are held, and as many results
        (three batches on a GPU, which gets the next ones before the first is finished). ``frames`` is closed when the
        stage ends or is closed. A change of geometry, the end, or an error of ``frames`` ends a batch; the error is
        raised after the frames before it. Unless `Execution.reuse` is "off", unchanged parts of a frame are not
        enlarged again, and a frame that repeats the one before it shares the planes of its result.

        Args:
            frames: The stream.
            reuse: State from earlier frames of the stream, updated by these; nothing else may use it meanwhile.
        """
        reuse = reuse or Reuse()

        def begin(batch: list[Frame]) -> Results:
            if self._asked.reuse == "off":
                return self._begin(batch)
            return reuse.begin(batch, lambda changed: self._begin(changed, reuse))

        try:
            yield from self._in_flight.run(batches(frames, self._fit), begin)
        finally:
            close = getattr(frames, "close", None)
            if close is not None:
                close()

    @property
    def recipe(self) -> tuple[Mapping[int, nn.Module], NetworkSpec, int | Size, Execution]:
        """Arguments of `from_module` for another upscaler of this network; its modules must be copied to be changed."""
        modules = {scale: source.module for scale, source in self._sources.items()}
        return modules, self.spec, self.size or self.scale, self._asked

    def checksum(self) -> str:
        """SHA-256, in hexadecimal, of the network's class and its weights."""
        from .models.own import checksum

        return checksum(source.module for _, source in sorted(self._sources.items()))

    def close(self) -> None:
        """Free the network and its memory on the device; the upscaler must not be used afterwards."""
        self._closed = True
        with suppress(BackendError):  # a failed device has raised its error before
            self._in_flight.wait()
        self._drop_networks()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drop_networks(self) -> None:
        while self._passes:
            self._passes.popitem()[1].drop()
        release_memory(self.device)

    def _fit(self, frame: Frame) -> int:
        """Choose batch and tile for frames of this size, if it is new; return the current batch."""
        target = self.target(frame)
        if self.batch is None or target != self._fitted:
            self._fitted = target
            self.scales = target.scales
            need = frame.height * frame.width * self.scale**2 * _BYTES_PER_PIXEL
            on_cpu = self.device.type == "cpu"
            budget = _CPU_BUDGET if on_cpu else free_memory(self.device) // 2
            # On a CPU one frame keeps all cores busy; a larger batch only takes more memory.
            self.batch = self._asked.batch or (
                1 if on_cpu else max(1, min(self._backend.largest_batch, budget // need))
            )
            if self._asked.tile == "auto":
                self.tile = None if need * self.batch <= budget else _AUTO_TILE
            # When main memory is full, no error is raised: the process is killed.
            one = need if self.tile is None else min(need, (self.tile * self.scale) ** 2 * _BYTES_PER_PIXEL)
            if on_cpu and self.batch > (fits := max(1, memory() // 2 // one)):
                _log.warning("no room in memory for a batch of %d: going on with %d", self.batch, fits)
                self.batch = fits
        return self.batch

    def _shrink(self, frame: Frame, failure: OutOfMemoryError) -> None:
        """Halve the batch, then the tile, and log a warning; raise if neither can be halved."""
        self._drop_networks()
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

    def _begin_batch(self, frames: Sequence[Frame], reuse: Reuse | None) -> Results:
        first, batch = frames[0], self.batch
        assert batch is not None
        target = self.target(first)
        on_cpu = self.device.type == "cpu"
        if not (on_cpu and self.spec.exact_in_windows):
            reuse = None
        luma = LumaConversion(first.color, len(first.planes), target.scale)
        whole = self.spec.channels == 1 and len(target.scales) == 1 and target.window is None
        reads = self._backend.reads_samples and self.spec.multiple_of == 1 and not self.self_ensemble
        native = luma.format if whole and (reads or reuse) else None
        if native is None or not on_cpu:
            from .color import Conversion  # loads torch, before its threads are limited

        def run(x: Array) -> Array:
            for place, scale in enumerate(target.scales):
                before = None if reuse is None else partial(reuse.place, place)
                x = self._pass(place, scale)(x if place == 0 else x.clamp(0, 1), batch, self.tile, native, before)
            return x

        def compute(planes: list[Array]) -> Sequence[Array]:
            if native is not None and on_cpu:
                return luma.join(run(planes[0][:, None])[:, 0], planes[1:])
            conversion = Conversion(first.color, len(first.planes), self.spec.channels, target.scale, target)
            return conversion.enlarge(planes, run, native=native is not None)

        task = f"{self.backend}: enlarging {first.width}×{first.height}"
        with translated_errors(task), torch_threads(1 if self._backend.own_threads else None):
            begun = self._in_flight.begin(list(zip(*(frame.planes for frame in frames), strict=True)), compute, task)

        def results() -> list[Frame]:
            planes = begun.wait()
            return [
                replace(frame, planes=tuple(plane[index] for plane in planes), sample_aspect_ratio=target.ratio)
                for index, frame in enumerate(frames)
            ]

        return results

    def _pass(self, place: int, scale: int) -> Pass:
        if (place, scale) not in self._passes:
            self._passes[place, scale] = Pass(
                self._sources[scale],
                self.spec,
                scale,
                self._backend,
                self.device,
                self.precision,
                self_ensemble=self.self_ensemble,
            )
        return self._passes[place, scale]
