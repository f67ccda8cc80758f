"""The backend: find the engine for a network, build it where there is none, and run it."""

from __future__ import annotations

import logging
from dataclasses import asdict
from hashlib import sha256
from typing import TYPE_CHECKING

import torch

from ...errors import BackendError, OutputError
from ..memory import translated_errors
from . import Profile, Recipe
from .builds import watched
from .cache import COMPILED, ENGINE, GRAPH, TIMING, Cache, Sealed, default_folder, key
from .export import Graph, digest_before_export, digest_of_weights, export
from .flavor import OPTIONS, find_flavor
from .run import EngineNetwork, current

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from ...models import NetworkSpec
    from .. import Precision
    from . import Executable, Shape, Target
    from .flavor import Flavor

_log = logging.getLogger(__name__)

LARGEST_BATCH = 4
"""Pictures at a time, if nobody says how many."""
_SMALLEST_SIDE = 16  # of the pictures that an engine for a range of sizes takes


class TensorRTBackend:
    """Compiles for CUDA with TensorRT or TensorRT-RTX, whichever is there, and keeps the engines.

    Args:
        cache_dir: Where; by default in the user's cache folder.

    Attributes:
        flavor: The library that is there.
        cache: The folder of engine files.
    """

    precisions: tuple[Precision, ...] = ("float16", "bfloat16", "float32")
    devices: tuple[str, ...] = ("cuda",)
    own_threads = False
    has_cache = True
    reads_samples = True
    largest_batch = LARGEST_BATCH

    def __init__(self, cache_dir: Path | None = None, *, ahead: bool = False) -> None:
        self.flavor: Flavor = find_flavor(ahead=ahead)
        self.cache = Cache(cache_dir or default_folder())

    def default_precision(self, spec: NetworkSpec, device: torch.device) -> Precision:
        """float16: features have 11 bits, pictures all of float32."""
        return "float16"

    def compile(
        self,
        module: nn.Module,
        spec: NetworkSpec,
        shape: Shape,
        precision: Precision,
        device: torch.device,
    ) -> EngineNetwork:
        """Load an engine for this shape; where there is none, build one for its height and width."""
        with translated_errors(f"tensorrt: compiling {spec.name}"), current(device):  # which is the one it measures on
            graph = self._graph(module, spec, precision)
            recipe = self._recipe(module, graph, precision, self.flavor.target(device), fixed(shape))
            if device.type == "cuda":
                torch.cuda.empty_cache()  # the libraries do not take their memory from torch
            sealed = self.cache.find(recipe, shape)
            executable = None if sealed is None else self._load(sealed, device)
            if executable is None:
                sealed, _ = self._build(graph, spec, recipe, refused=sealed)
                executable = self._load(sealed, device)
            if sealed is None or executable is None:
                raise BackendError(f"tensorrt: {self.flavor.name} does not take what it has built: install it again")
            network = EngineNetwork(executable, shape, graph.shuffle, device, spec.name)
            self._keep_compiled(sealed.name, executable)
            return network

    def build(
        self, module: nn.Module, spec: NetworkSpec, profile: Profile, precision: Precision, target: Target
    ) -> tuple[Path, bool]:
        """Build an engine ahead of time, unless it is there.

        Returns:
            Its file, and whether it was built now.

        Raises:
            BackendError: the library refuses.
            OutputError: the engine cannot be kept.
        """
        with translated_errors(f"tensorrt: building {spec.name}"):
            graph = self._graph(module, spec, precision)
            sealed, new = self._build(graph, spec, self._recipe(module, graph, precision, target, profile))
        path = self.cache.folder / sealed.name
        if self.cache.read(sealed.name) is None:
            raise OutputError(f"Cannot keep the engine in {self.cache.folder}: choose another --cache-dir")
        return path, new

    def _graph(self, module: nn.Module, spec: NetworkSpec, precision: Precision) -> Graph:
        """The network as a graph; exported once, if all that it depends on is known."""
        known = digest_before_export(module, spec, precision)
        kept = None if known is None else self.cache.read(f"{known}{GRAPH}")
        if kept is not None and {"shuffle", "scale"} <= kept.header.keys():
            return Graph(kept.content, kept.header["shuffle"], kept.header["scale"])
        _log.info("exporting %s to ONNX", spec.name)
        graph = export(module, spec, precision)
        if known is not None:
            facts = {"model": spec.name, "scale": graph.scale, "precision": precision, "shuffle": graph.shuffle}
            self.cache.write(f"{known}{GRAPH}", facts, graph.onnx)
        return graph

    @staticmethod
    def _recipe(module: nn.Module, graph: Graph, precision: Precision, target: Target, profile: Profile) -> Recipe:
        onnx = sha256(graph.onnx).hexdigest()
        return Recipe(digest_of_weights(module), onnx, precision, OPTIONS, target, profile)

    def _build(
        self, graph: Graph, spec: NetworkSpec, recipe: Recipe, refused: Sealed | None = None
    ) -> tuple[Sealed, bool]:
        """The engine of exactly this recipe, other than the one that was refused, and whether it was built now."""
        name, target = f"{key(recipe)}{ENGINE}", recipe.target
        with self.cache.lock():
            there = self.cache.read(name)  # whoever held the lock may have built it
            wanted = there is not None and there.header.get("recipe") == recipe.as_dict()
            if there is not None and wanted and (refused is None or there.content != refused.content):
                return there, False
            timing = f"{sha256(repr(target).encode()).hexdigest()}{TIMING}"
            measured = self.cache.read(timing)
            n, _, height, width = recipe.profile.largest
            size, (*_, low, narrow) = f"{width}×{height}", recipe.profile.smallest
            if (low, narrow) != (height, width):
                size = f"{narrow}×{low} to {size}"
            what = (
                f"the engine of {spec.name} ×{graph.scale} for {size}, up to {n} at a time, "
                f"{recipe.precision}, by {target.flavor} {target.version} for compute capability {target.capability}"
            )
            with watched(what) as watch:
                content, timings = self.flavor.build(
                    graph.onnx, recipe.profile, target, b"" if measured is None else measured.content, watch
                )
            header = {"recipe": recipe.as_dict(), "model": spec.name, "scale": graph.scale}
            self.cache.write(name, header, content)
            if timings:
                self.cache.write(timing, {"target": asdict(target)}, timings)
        return Sealed(name, header, content), True

    def _load(self, sealed: Sealed, device: torch.device) -> Executable | None:
        """The engine on its device; None, and the file dropped, where the library does not take it."""
        compiled = self.cache.read(_compiled(sealed.name))
        executable = self.flavor.load(sealed.content, b"" if compiled is None else compiled.content, device)
        if executable is None:
            _log.warning("%s does not take %s: building it again", self.flavor.name, sealed.name)
            self.cache.drop(sealed.name)
            self.cache.drop(_compiled(sealed.name))
        return executable

    def _keep_compiled(self, name: str, engine: Executable) -> None:
        try:
            content = engine.compiled()
        except RuntimeError as error:  # the network works all the same
            _log.warning("what was compiled for this GPU cannot be kept: %s", error)
            return
        there = self.cache.read(_compiled(name))
        if content and (there is None or there.content != content):
            self.cache.write(_compiled(name), {"engine": name}, content)


def _compiled(engine: str) -> str:
    return engine.removesuffix(ENGINE) + COMPILED


def fixed(shape: Shape) -> Profile:
    """Pictures of one size, up to so many at a time: fewer are left when memory has run out."""
    return Profile((1, *shape[1:]), shape, shape)


def ranged(shape: Shape) -> Profile:
    """Pictures of any size up to this one, which it is fastest for."""
    _, channels, height, width = shape
    return Profile((1, channels, min(height, _SMALLEST_SIDE), min(width, _SMALLEST_SIDE)), shape, shape)
