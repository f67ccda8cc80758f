"""Our own kernels, on CUDA: a network is read layer by layer; operations that have no kernel run in torch.

Frames (at most four channels) stay in float32, so that half precision affects only features: the bicubic enlargement
that a network adds its residual to is exact. A luma network can also read samples as they are stored, and write
samples to store; then no frame in floating point is ever written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx

from ..arrays import as_tensor
from ..errors import BackendError, OutOfMemoryError
from ..kernels import AVAILABLE, SampleFormat, exact_float32, load_ops, to_samples, to_unit
from . import fusion
from .memory import translated_errors
from .recording import record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

    from ..arrays import Array
    from ..models import NetworkSpec
    from ..samples import SampleFormat as PlaneFormat
    from ..sources import Source
    from . import Device, Precision
    from .fusion import Plan

_log = logging.getLogger(__name__)

Program = Callable[[Tensor], Tensor]

_FRAME_CHANNELS = 4  # tensors of up to so many are frames, not features
_aten = torch.ops.aten


@contextmanager
def _translated_errors(task: str) -> Iterator[None]:
    """`translated_errors`, with a remedy: Triton compiles on the user's machine, which may lack something it needs."""
    try:
        with translated_errors(task):
            yield
    except OutOfMemoryError:
        raise
    except BackendError as error:
        raise BackendError(str(error), backend="eager") from error.__cause__


class TritonBackend:
    """Compiles for CUDA; for the CPU if Triton interprets its kernels, as in tests."""

    devices: tuple[str, ...] = ("cuda",)
    own_threads = False
    has_cache = False
    reads_samples = True
    is_lazy = False
    largest_batch = 16

    def __init__(self) -> None:
        if not AVAILABLE:
            raise BackendError("Backend 'triton' needs the package triton, which is not installed", backend="eager")
        if load_ops().INTERPRETED:
            self.devices = ("cpu",)

    def default_precision(self, sources: Iterable[Source], spec: NetworkSpec, device: Device) -> Precision:
        """float16: features have 11 significant bits, and frames stay in float32."""
        return "float16"

    def compile(
        self,
        module: nn.Module,
        spec: NetworkSpec,
        shape: tuple[int, int, int, int],
        precision: Precision,
        device: Device,
    ) -> TritonNetwork:
        """Read the network and pack its weights; the first run compiles and tunes the kernels."""
        if precision == "bfloat16" and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
            raise BackendError(
                f"Backend 'triton' computes in bfloat16 on GPUs of compute capability 8.0 and newer, and "
                f"{torch.cuda.get_device_name(device)} is older: use float16"
            )
        with _translated_errors(f"triton: compiling {spec.name}"), torch.no_grad():
            plan = fusion.read(module, shape)
            return TritonNetwork(plan, spec.name, getattr(torch, precision), torch.device(device))


class TritonNetwork:
    """A network on kernels, for one shape.

    Attributes:
        steps: (what runs the step, what it computes, the operations that it covers), in order.
    """

    def __init__(self, plan: Plan, name: str, dtype: torch.dtype, device: torch.device) -> None:
        self._programs = _Programs(plan, dtype, device)
        self._name, self._device = name, device
        self.steps = fusion.explain(plan, self._programs.whole and self._programs.whole.name)
        self._runs: dict[SampleFormat | None, Program] = {}

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Run one batch."""
        return self._run(x, None)

    @torch.inference_mode()
    def upscale_samples(self, x: Array, samples: PlaneFormat) -> Array:
        """Run one batch of native samples, as `SamplesNetwork` says."""
        stored = SampleFormat(samples.peak, samples.depth)
        return self._run(as_tensor(x), stored).numpy() if isinstance(x, np.ndarray) else self._run(x, stored)

    def close(self) -> None:
        """Free weights and graphs."""
        self._runs.clear()
        del self._programs

    def _run(self, x: Tensor, samples: SampleFormat | None) -> Tensor:
        with _translated_errors(f"triton: running {self._name}"):
            if samples not in self._runs:
                program = self._programs.make(samples)
                several = self._device.type == "cuda" and self._programs.launches > 1
                self._runs[samples] = _Recording(program) if several else program
            return self._runs[samples](x)


class _Recording:
    """A program of many launches, recorded as a single launch once it has run often enough."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._recorded: Program | None = None
        self._calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        if self._recorded is not None:
            return self._recorded(x)
        self._calls += 1
        ops = load_ops()
        if self._calls < ops.patience():
            return self._program(x)
        with ops.LOCK:
            result = self._program(x)  # tunes kernels that are not tuned yet
            try:
                self._recorded = _Recorded(self._program, x)
            except torch.OutOfMemoryError:  # a recording keeps memory of its own; frames need none
                _log.info("no memory to record a network with: its kernels are launched one by one")
                self._recorded = self._program
        return result


class _Recorded:
    """A program as a CUDA graph: one launch in place of many."""

    def __init__(self, program: Program, x: Tensor) -> None:
        self._program, self._x = program, x.clone()
        stream = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(stream):
            program(self._x)
        torch.cuda.current_stream(x.device).wait_stream(stream)
        self._graph = record(self._launch, stream)

    def _launch(self) -> None:
        self._result = self._program(self._x)

    def __call__(self, x: Tensor) -> Tensor:
        self._x.copy_(x)
        self._graph.replay()
        return self._result.clone()  # the next replay writes over it


def explain(module: nn.Module, shape: tuple[int, int, int, int]) -> list[tuple[str, str, str]]:
    """The steps of a network, found without a GPU: (what runs it, what it computes, the operations that it covers).

    Raises:
        BackendError: Triton is not installed, or the network cannot be read.
    """
    TritonBackend()
    with _translated_errors("triton: reading the network"), torch.no_grad():
        plan = fusion.read(module, shape)
        whole = _find_whole(plan, torch.float16, torch.device("cpu"))
        return fusion.explain(plan, whole and whole.name)


def _find_whole(plan: Plan, dtype: torch.dtype, device: torch.device) -> Any:
    """The kernel that computes a whole network on a device, if any; kernels for some GPUs only come first."""
    parts = fusion.chain(plan)
    if parts is None:
        return None
    ops = load_ops()
    forms = [ops.Form.of(part.layer) for part in parts]
    return next((kernel for kernel in ops.WHOLE if kernel.fits(forms) and kernel.supports(device, dtype)), None)


@dataclass(frozen=True)
class _Step:
    """One operation: computes ``value`` from the values of ``reads``. Values are named by their nodes or in words."""

    value: Any
    reads: tuple[Any, ...]
    compute: Callable[..., Tensor]


_UNIT = "the input in [0, 1]"
_RESULT = "the result"


class _Programs:
    """Makes functions that compute a plan; they share packed weights."""

    def __init__(self, plan: Plan, dtype: torch.dtype, device: torch.device) -> None:
        ops = load_ops()
        self._plan, self._dtype, self._ops = plan, dtype, ops
        by_torch = [node for node in plan.nodes if node not in plan.fused and node not in plan.swallowed]
        read = {source for node in by_torch for source in node.all_input_nodes}
        self._constants = {node: plan.constants[node].to(device) for node in read & plan.constants.keys()}
        self._packed = {node: ops.pack(part.layer, dtype, device) for node, part in plan.fused.items()}
        self.whole = _find_whole(plan, dtype, device)
        self._network = None if self.whole is None else self.whole.pack(list(self._packed.values()))
        self._layers = {} if self.whole else {node: ops.layer(packed) for node, packed in self._packed.items()}
        self.launches = 1 if self.whole else len(plan.nodes) - len(plan.swallowed)

    def make(self, samples: SampleFormat | None) -> Program:
        """A function from float32 (N, C, H, W) to the same; or with ``samples``, from samples of this format."""
        compute: Program
        if self.whole is not None:
            compute = partial(self.whole.run, network=self._network, source=samples, target=samples)
        else:
            compute = _join(self._steps(samples), self._plan.source, self._constants)

        def run(x: Tensor) -> Tensor:
            with exact_float32(x):
                return compute(x)

        return run

    def _steps(self, samples: SampleFormat | None) -> list[_Step]:
        """The operations in order; the last one computes `_RESULT`."""
        plan, source = self._plan, self._plan.source
        steps = [] if samples is None else [_Step(_UNIT, (source,), partial(to_unit, peak=samples.peak))]

        def floating(node: fx.Node) -> Any:
            return _UNIT if node is source and samples is not None else node

        for node in plan.nodes:
            if node in plan.swallowed:
                continue
            part = plan.fused.get(node)
            if part is not None:
                stores = samples is not None and node is plan.result and all(user.op == "output" for user in node.users)
                added = () if part.residual is None else (floating(part.residual),)
                compute = self._layer(node, samples if part.source is source else None, samples if stores else None)
                steps.append(_Step(_RESULT if stores else node, (part.source, *added), compute))
                if stores:
                    return steps
            elif node.target is torch.ops.vsr_plugin.enlarge.default:
                peak = samples.peak if samples is not None and node.args[0] is source else None
                enlarge = partial(self._ops.enlarge, scale=node.args[1], peak=peak, dtype=torch.float32)
                steps.append(_Step(node, (node.args[0],), enlarge))
            else:
                steps.append(_Step(node, tuple(map(floating, node.all_input_nodes)), self._torch(node)))
        store: Program = partial(torch.Tensor.to, dtype=torch.float32)
        if samples is not None:
            store = partial(to_samples, depth=samples.depth, peak=samples.peak)
        return [*steps, _Step(_RESULT, (floating(plan.result),), store)]

    def _layer(self, node: fx.Node, source: SampleFormat | None, target: SampleFormat | None) -> Callable[..., Tensor]:
        form, layer = self._packed[node].form, self._layers[node]
        channels = form.outputs // form.shuffle**2
        dtype = torch.float32 if channels <= _FRAME_CHANNELS else self._dtype

        def compute(x: Tensor, residual: Tensor | None = None) -> Tensor:
            result: Tensor = layer(x, residual=residual, source=source, target=target, dtype=dtype)
            return result

        return compute

    def _torch(self, node: fx.Node) -> Callable[..., Tensor]:
        """An operation that has no kernel; it converts features to one type before it joins them."""
        convolves = node.target in (_aten.conv2d.default, _aten.conv_transpose2d.input, _aten.conv2d.padding)
        operation: Any = node.target

        def compute(*values: Tensor) -> Tensor:
            read = dict(zip(node.all_input_nodes, values, strict=True))
            args: Any
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), read.__getitem__)
            if convolves:
                args = (*(a if a is None else a.to(self._dtype) for a in args[:3]), *args[3:])
            elif operation is _aten.cat.default:
                args = ([a.to(self._dtype) for a in args[0]], *args[1:])
            result: Tensor = operation(*args, **kwargs)
            return result

        return compute


def _join(steps: list[_Step], source: fx.Node, constants: dict[fx.Node, Tensor]) -> Program:
    """Join steps into one function; it drops a value after the last step that reads it."""
    needed = {read for step in steps for read in step.reads} | {_RESULT}
    steps = [step for step in steps if step.value in needed]
    last = {read: step for step in steps for read in step.reads}

    def run(x: Tensor) -> Tensor:
        values: dict[Any, Tensor] = {source: x, **constants}
        for step in steps:
            values[step.value] = step.compute(*(values[read] for read in step.reads))
            for read in set(step.reads):
                if last[read] is step:
                    del values[read]
        return values[_RESULT]

    return run
