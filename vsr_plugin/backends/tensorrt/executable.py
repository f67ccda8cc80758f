"""An engine of either library on its device: what `flavor` loads, and `run` runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from . import Binding
from .export import INPUT, OUTPUT

if TYPE_CHECKING:
    from . import Shape


class LoadedEngine:
    """An `Executable`; to be used with its device current.

    Args:
        library: The module.
        ear: Its logger.
        runtime: What has loaded the engine, and must outlive it.
        engine: ″
        compiled: What `compiled` gave earlier, or nothing.

    Raises:
        RuntimeError: the library refuses; its own words.
    """

    def __init__(self, library: Any, ear: Any, runtime: Any, engine: Any, compiled: bytes) -> None:
        self._library, self._ear, self._runtime, self._engine = library, ear, runtime, engine
        self._cache = self._config = None
        how = library.ExecutionContextAllocationStrategy.USER_MANAGED  # what it computes in is memory of torch
        ear.listen()
        if hasattr(library, "IRuntimeCache"):  # TensorRT-RTX compiles for the GPU when an engine is first run
            self._config = engine.create_runtime_config()
            self._config.set_execution_context_allocation_strategy(how)
            # A graph is recorded after the first run: what runs then must be what should always run.
            strategies = library.DynamicShapesKernelSpecializationStrategy
            self._config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
            self._cache = self._config.create_runtime_cache()
            if compiled:
                self._cache.deserialize(compiled)  # or not, where the driver is another: then it compiles anew
            self._config.set_runtime_cache(self._cache)
            how = self._config
        self._context = engine.create_execution_context(how)
        self._check(self._context is not None, "there is no execution context")

    def bind(self, shape: Shape) -> Binding:
        """Choose the shape of the input."""
        self._ear.listen()
        self._check(self._context.set_input_shape(INPUT, shape), f"an input of {shape} is refused")
        workspace = int(self._context.update_device_memory_size_for_shapes())
        n, c, h, w = self._context.get_tensor_shape(OUTPUT)
        types = self._library.DataType
        dtypes = {types.FLOAT: torch.float32, types.HALF: torch.float16, types.BF16: torch.bfloat16}
        return Binding((n, c, h, w), dtypes[self._engine.get_tensor_dtype(OUTPUT)], workspace)

    def attach(self, x: int, y: int, workspace: int, size: int) -> None:
        """Choose the memory."""
        self._ear.listen()
        if hasattr(type(self._context), "device_memory"):  # which can only be written
            self._context.device_memory = workspace
        else:  # as versions to come may have it
            self._context.set_device_memory(workspace, size)
        for name, address in ((INPUT, x), (OUTPUT, y)):
            self._check(self._context.set_tensor_address(name, address), f"the memory for {name} is refused")

    def capturable(self, stream: int) -> bool:
        """Whether the library lets a run be captured."""
        return not hasattr(self._context, "is_stream_capturable") or bool(self._context.is_stream_capturable(stream))

    def enqueue(self, stream: int) -> None:
        """Enqueue one run."""
        self._ear.listen()
        self._check(self._context.execute_async_v3(stream), "a run is refused")

    def compiled(self) -> bytes:
        """What was compiled for this GPU."""
        written = None if self._cache is None else self._cache.serialize()
        return b"" if written is None else bytes(written)

    def close(self) -> None:
        """Free the engine, inside out."""
        del self._context
        del self._cache
        del self._config
        del self._engine
        del self._runtime

    def _check(self, done: object, otherwise: str) -> None:
        if not done:
            raise RuntimeError(self._ear.heard or f"{otherwise}, and it does not say why")
