"""The backend: finds the engine of a network, or builds it, and runs it."""

from __future__ import annotations

import logging
from hashlib import sha256
from typing import TYPE_CHECKING

import torch

from ...errors import BackendError, OutputError
from ..cache import CACHE_SIZE, COMPILED, ENGINE, TIMING, Cache, CacheFile, default_folder
from ..memory import translated_errors
from . import Profile
from .builds import watched
from .export import Graph, export
from .flavor import OPTIONS, current, find_flavor
from .run import EngineNetwork

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import nn

    from ...models import NetworkSpec
    from ...sources import Source
    from .. import Device, Precision
    from . import Shape, Target
    from .flavor import Flavor, LoadedEngine

_log = logging.getLogger(__name__)

_SMALLEST_SIDE = 16  # of the frames of an engine for a range of sizes


class TensorRTBackend:
    """Compiles for CUDA with TensorRT or TensorRT-RTX, whichever is installed, and keeps the engines.

    Args:
        cache_dir: The folder for engines; by default in the user's cache folder.
        ahead: Whether engines are built for another GPU.
        cache_size: Megabytes of engines to keep at most.

    Attributes:
        flavor: The library.
        cache: The folder of engine files.
    """

    devices: tuple[str, ...] = ("cuda",)
    own_threads = False
    has_cache = True
    reads_samples = True
    is_lazy = False
    largest_batch = 4

    def __init__(self, cache_dir: Path | None = None, *, ahead: bool = False, cache_size: int = CACHE_SIZE) -> None:
        self.flavor: Flavor = find_flavor(ahead=ahead)
        self.cache = Cache(cache_dir or default_folder(), cache_size)

    def default_precision(self, sources: Iterable[Source], spec: NetworkSpec, device: Device) -> Precision:
        """float16: features have 11 significant bits, and frames stay in float32."""
        return "float16"

    def compile(
        self, module: nn.Module, spec: NetworkSpec, shape: Shape, precision: Precision, device: Device
    ) -> EngineNetwork:
        """Load an engine for this shape; if there is none, build one for its height and width."""
        where = torch.device(device)
        with translated_errors(f"tensorrt: compiling {spec.name}"), current(where):  # it measures there
            graph, target = export(module, spec, precision), self.flavor.target(where)
            if device.type == "cuda":
                torch.cuda.empty_cache()  # the libraries do not allocate through torch
            file = self.cache.find(_key(graph, target), shape)
            engine = None if file is None else self._load(file, where)
            if file is None or engine is None:
                what = f"{spec.name} ×{graph.scale}, {fixed(shape)}, {precision}, {target}"
                file, _ = self._build(graph, fixed(shape), target, what, refused=file)
                engine = self._load(file, where)
            if engine is None:
                raise BackendError(f"tensorrt: {self.flavor.name} does not take what it has built: install it again")
            network = EngineNetwork(engine, shape, graph.shuffle, where, spec.name)
            self._keep_compiled(file, engine)
            return network

    def build(
        self, module: nn.Module, spec: NetworkSpec, profile: Profile, precision: Precision, target: Target
    ) -> tuple[Path, bool]:
        """Build an engine ahead of time, unless it exists.

        Returns:
            Its file, and whether it was built now.

        Raises:
            BackendError: the library reports an error.
            OutputError: the engine cannot be written.
        """
        with translated_errors(f"tensorrt: building {spec.name}"):
            graph = export(module, spec, precision)
            what = f"{spec.name} ×{graph.scale}, {profile}, {precision}, {target}"
            file, new = self._build(graph, profile, target, what)
        if self.cache.read(file.name) is None:
            raise OutputError(f"Cannot keep the engine in {self.cache.folder}", cache_dir=...)
        return self.cache.folder / file.name, new

    def _build(
        self, graph: Graph, profile: Profile, target: Target, what: str, refused: CacheFile | None = None
    ) -> tuple[CacheFile, bool]:
        """The engine of exactly this profile, other than the one that was refused, and whether it was built now."""
        name = f"{_key(graph, target)}_{profile.name}{ENGINE}"
        with self.cache.lock():
            there = self.cache.read(name)  # another process may have built it while it held the lock
            if there is not None and (refused is None or there.content != refused.content):
                return there, False
            timing = f"{sha256(repr(target).encode()).hexdigest()}{TIMING}"
            measured = self.cache.read(timing)
            with watched(f"the engine of {what}") as watch:
                content, timings = self.flavor.build(
                    graph.onnx, profile, target, b"" if measured is None else measured.content, watch
                )
            if timings:
                self.cache.write(timing, str(target), timings)
            self.cache.write(name, what, content)
        return CacheFile(name, what, content), True

    def _load(self, file: CacheFile, device: torch.device) -> LoadedEngine | None:
        """Load the engine to its device; if the library rejects the file, remove it and return None."""
        compiled = self.cache.read(_compiled(file))
        engine = self.flavor.load(file.content, b"" if compiled is None else compiled.content, device)
        if engine is None:
            _log.warning("%s does not take %s: building it again", self.flavor.name, file.name)
            self.cache.drop(file.name)
            self.cache.drop(_compiled(file))
        return engine

    def _keep_compiled(self, file: CacheFile, engine: LoadedEngine) -> None:
        try:
            content = engine.compiled()
        except RuntimeError as error:  # the network works without it
            _log.warning("what was compiled for this GPU cannot be kept: %s", error)
            return
        there = self.cache.read(_compiled(file))
        if content and (there is None or there.content != content):
            self.cache.write(_compiled(file), file.what, content)


def _key(graph: Graph, target: Target) -> str:
    """sha256 of all that an engine depends on besides its profile; weights and precision are part of the graph."""
    return sha256(repr((sha256(graph.onnx).hexdigest(), OPTIONS, target)).encode()).hexdigest()


def _compiled(file: CacheFile) -> str:
    return file.name.removesuffix(ENGINE) + COMPILED


def fixed(shape: Shape) -> Profile:
    """Frames of one size, up to so many at a time: the batch becomes smaller when memory runs out."""
    return Profile((1, *shape[1:]), shape)


def ranged(shape: Shape) -> Profile:
    """Frames of any size up to this one, which it is fastest for."""
    _, channels, height, width = shape
    return Profile((1, channels, min(height, _SMALLEST_SIDE), min(width, _SMALLEST_SIDE)), shape)
