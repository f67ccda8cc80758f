"""A library that stands in for TensorRT: its engines are graphs, run by ONNX Runtime where their addresses point."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch

from vsr_plugin.backends.tensorrt import Binding, Target
from vsr_plugin.backends.tensorrt.export import INPUT, OUTPUT

if TYPE_CHECKING:
    from vsr_plugin.backends.tensorrt import Profile, Shape
    from vsr_plugin.backends.tensorrt.builds import Watch

_STAMP = b"fake engine "
_TYPES = {"tensor(float)": (torch.float32, np.float32), "tensor(float16)": (torch.float16, np.float16)}


def run_graph(onnx: bytes, x: torch.Tensor) -> torch.Tensor:
    """What a graph makes of ``x``."""
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    [result] = session.run([OUTPUT], {INPUT: x.numpy()})
    return torch.from_numpy(result)


class FakeExecutable:
    """An `Executable` on the CPU."""

    def __init__(self, onnx: bytes, workspace: int = 64) -> None:
        self._session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        self._workspace = workspace
        self._dtype, self._numpy = _TYPES[self._session.get_outputs()[0].type]
        self.shape: Shape = (0, 0, 0, 0)
        self.memory = (0, 0, 0, 0)
        self.streams: list[int] = []
        self.closed = False

    def bind(self, shape: Shape) -> Binding:
        self.shape = shape
        [result] = self._session.run([OUTPUT], {INPUT: np.zeros(shape, np.float32)})
        return Binding(result.shape, self._dtype, self._workspace)

    def attach(self, x: int, y: int, workspace: int, size: int) -> None:
        self.memory = (x, y, workspace, size)

    def capturable(self, stream: int) -> bool:
        return False

    def enqueue(self, stream: int) -> None:
        self.streams.append(stream)
        x, y, *_ = self.memory
        count = int(np.prod(self.shape))
        picture = np.frombuffer((ctypes.c_char * (4 * count)).from_address(x), np.float32).reshape(self.shape)
        [result] = self._session.run([OUTPUT], {INPUT: picture})
        ctypes.memmove(y, np.ascontiguousarray(result, self._numpy).ctypes.data, result.nbytes)

    def compiled(self) -> bytes:
        return b"kernels for this GPU"

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeFlavor:
    """A `Flavor` that copies graphs, and says what was asked of it."""

    version: str = "1.0"
    name: str = "tensorrt_rtx"
    built: list[tuple[Profile, Target, bytes]] = field(default_factory=list)
    loaded: list[tuple[bytes, bytes]] = field(default_factory=list)
    refuses: Any = None  # engines that `load` does not take
    executables: list[FakeExecutable] = field(default_factory=list)

    def target(self, device: torch.device) -> Target:
        return self.target_ahead("8.9")

    def target_ahead(self, capability: str) -> Target:
        return Target(self.name, self.version, capability)  # type: ignore[arg-type] # one of the two names

    def build(self, onnx: bytes, profile: Profile, target: Target, timings: bytes, watch: Watch) -> tuple[bytes, bytes]:
        self.built.append((profile, target, timings))
        return _STAMP + onnx, timings + b"measured, "

    def load(self, engine: bytes, compiled: bytes, device: torch.device) -> FakeExecutable | None:
        self.loaded.append((engine, compiled))
        if not engine.startswith(_STAMP) or (self.refuses is not None and self.refuses(engine)):
            return None
        self.executables.append(FakeExecutable(engine.removeprefix(_STAMP)))
        return self.executables[-1]
