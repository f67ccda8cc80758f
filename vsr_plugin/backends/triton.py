"""Our own kernels, on CUDA: a network is read layer by layer, and runs on them; what has no kernel runs as torch.

Pictures (four channels at most) stay in float32 throughout, so that half precision touches only features: the bicubic
enlargement that a network adds its residual to is exact. A network of luma can also take samples as they are stored,
and leave them as they will be stored; then no picture in floating point is ever written.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from ..errors import BackendError, OutOfMemoryError
from ..kernels import AVAILABLE, exact_float32, load_ops, to_samples, to_unit
from . import fusion
from .memory import translated_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from ..models import NetworkSpec
    from . import Precision
    from .fusion import Plan

_PICTURE_CHANNELS = 4  # up to so many are a picture, not features
_aten = torch.ops.aten


@contextmanager
def _translated_errors(task: str) -> Iterator[None]:
    """As `translated_errors`, with what to do: Triton compiles on the user's machine, and may lack something there."""
    try:
        with translated_errors(task):
            yield
    except OutOfMemoryError:
        raise
    except BackendError as error:
        raise BackendError(f"{error}; without Triton: --backend eager") from error.__cause__


class TritonBackend:
    """Compiles for CUDA; for the CPU where Triton interprets its kernels, which is for tests."""

    precisions: tuple[Precision, ...] = ("float16", "bfloat16", "float32")
    devices: tuple[str, ...] = ("cuda",)
    own_threads = False
    has_cache = False
    reads_samples = True
    largest_batch = 16

    def __init__(self) -> None:
        if not AVAILABLE:
            raise BackendError("Backend 'triton' is not installed: pip install triton, or choose --backend eager")
        if load_ops().INTERPRETED:
            self.devices = ("cpu",)

    def default_precision(self, spec: NetworkSpec, device: torch.device) -> Precision:
        """float16: features have 11 bits, pictures all of float32."""
        return "float16"

    def compile(
        self,
        module: nn.Module,
        spec: NetworkSpec,
        shape: tuple[int, int, int, int],
        precision: Precision,
        device: torch.device,
    ) -> TritonNetwork:
        """Read the network and pack its weights; the first run compiles and tunes the kernels."""
        with _translated_errors(f"triton: compiling {spec.name}"), torch.no_grad():
            plan = fusion.read(module, shape)
            return TritonNetwork(plan, spec.name, shape, getattr(torch, precision), device)


class TritonNetwork:
    """A network on kernels, for one shape.

    Attributes:
        steps: (what runs it, what it computes, which operations that covers), in order.
    """

    def __init__(
        self, plan: Plan, name: str, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device
    ) -> None:
        self._programs = _Programs(plan, dtype, device)
        self._name = name
        self.steps = fusion.explain(plan, self._programs.whole)
        self._shape = shape
        self._device = device
        self._runs: dict[tuple[int, int, torch.dtype] | None, Callable[[Tensor], Tensor]] = {}
        if shape[1] > 1:  # a network of luma may never see floating point
            self._prepare(None, torch.zeros(shape, device=device))

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Run one batch."""
        with _translated_errors(f"triton: running {self._name}"):
            return self._prepare(None, x)(x)

    @torch.inference_mode()
    def upscale_samples(self, x: Tensor, peak: int, depth: int) -> Tensor:
        """Run one batch of native samples, as `SamplesNetwork` says."""
        with _translated_errors(f"triton: running {self._name}"):
            return self._prepare((peak, depth, x.dtype), x)(x)

    def close(self) -> None:
        """Free weights and graphs."""
        self._runs.clear()
        del self._programs

    def _prepare(self, kind: tuple[int, int, torch.dtype] | None, x: Tensor) -> Callable[[Tensor], Tensor]:
        if kind not in self._runs:
            program = self._programs.make(None if kind is None else kind[:2])
            if self._device.type == "cuda":
                with torch.inference_mode(), load_ops().LOCK:
                    program(x)  # tunes what was never tuned
                    if self._programs.launches > 1:
                        program = _Recorded(program, x)
            self._runs[kind] = program
        return self._runs[kind]


class _Recorded:
    """A program as a CUDA graph: one launch in place of many."""

    def __init__(self, program: Callable[[Tensor], Tensor], x: Tensor) -> None:
        self._x = x.clone()
        stream = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(stream):
            program(self._x)  # once more on the stream that records, for allocators and libraries to settle
        torch.cuda.current_stream(x.device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the device meanwhile.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._result = program(self._x)

    def __call__(self, x: Tensor) -> Tensor:
        self._x.copy_(x)
        self._graph.replay()
        return self._result.clone()  # the next replay writes over it


def explain(module: nn.Module, shape: tuple[int, int, int, int]) -> list[tuple[str, str, str]]:
    """What would run a network, found without a GPU: (what runs it, what it computes, which operations that covers).

    Raises:
        BackendError: Triton is not installed, or the network cannot be read.
    """
    TritonBackend()
    with _translated_errors("triton: reading the network"), torch.no_grad():
        plan = fusion.read(module, shape)
        return fusion.explain(plan, _whole_kernel(plan))


def _whole_kernel(plan: Plan) -> str | None:
    """The name of the kernel that computes all of a network, if there is one."""
    parts = fusion.chain(plan)
    if parts is None:
        return None
    ops = load_ops()
    forms = [ops.Form.of(part.layer) for part in parts]
    return next((name for name, fits in ops.WHOLE.items() if fits(forms)), None)


class _Programs:
    """Makes runnable graphs of a plan; packed weights are shared between them."""

    def __init__(self, plan: Plan, dtype: torch.dtype, device: torch.device) -> None:
        ops = load_ops()
        self._plan, self._dtype, self._device, self._ops = plan, dtype, device, ops
        self._packed = {node: ops.pack(part.layer, dtype, device) for node, part in plan.fused.items()}
        self.whole = _whole_kernel(plan)
        self.launches = 1 if self.whole else len(plan.nodes) - len(plan.swallowed)

    def make(self, samples: tuple[int, int] | None) -> Callable[[Tensor], Tensor]:
        """A function of float32 (N, C, H, W), or of samples with this (peak, depth), to the same."""
        root = torch.nn.Module()
        graph = fx.Graph()
        x = graph.placeholder("x")
        result = self._whole(graph, root, x, samples) if self.whole else self._layers(graph, root, x, samples)
        graph.output(result)
        program = fx.GraphModule(root, graph)

        def run(x: Tensor) -> Tensor:
            with exact_float32(x):
                y: Tensor = program(x)
                return y

        return run

    def _whole(self, graph: fx.Graph, root: torch.nn.Module, x: fx.Node, samples: tuple[int, int] | None) -> fx.Node:
        assert self.whole is not None
        layers = list(self._packed.values())
        tensors = [
            _constant(graph, root, f"tensor{index}", tensor)
            for index, tensor in enumerate(self._ops.tensors_of(self.whole, layers))
        ]
        peak, depth = samples or (None, None)
        text = self._ops.to_text(*(packed.form for packed in layers))
        args = (x, tensors, self.whole, text, peak, depth, peak, torch.float32)
        return graph.call_function(torch.ops.vsr_plugin.whole.default, args)

    def _layers(self, graph: fx.Graph, root: torch.nn.Module, x: fx.Node, samples: tuple[int, int] | None) -> fx.Node:
        plan = self._plan
        peak, depth = samples or (None, None)
        made: dict[fx.Node, fx.Node] = {plan.source: x}
        unit: list[fx.Node] = []  # the input in [0, 1], if samples come and something has to see floating point

        def value(node: fx.Node) -> fx.Node:
            if node in plan.constants:
                if node not in made:
                    constant = plan.constants[node].to(self._device)
                    made[node] = _constant(graph, root, f"constant_{node.name}", constant)
            elif node is plan.source and samples is not None:
                if not unit:
                    unit.append(graph.call_function(to_unit, (x, peak)))
                return unit[0]
            return made[node]

        for node in plan.nodes:
            if node in plan.swallowed:
                continue
            part = plan.fused.get(node)
            if part is not None:
                packed = self._packed[node]
                reads = samples is not None and part.source is plan.source
                stores = samples is not None and node is plan.result and not node.users.keys() - _outputs(node)
                tensors = [
                    _constant(graph, root, f"{name}_{node.name}", getattr(packed, name))
                    for name in ("weight", "bias", "slope")
                ]
                channels = packed.form.outputs // packed.form.shuffle**2
                made[node] = graph.call_function(
                    torch.ops.vsr_plugin.convolution.default,
                    (
                        x if reads else value(part.source),
                        *tensors,
                        None if part.residual is None else value(part.residual),
                        self._ops.to_text(packed.form),
                        peak if reads else None,
                        depth if stores else None,
                        peak if stores else None,
                        torch.float32 if channels <= _PICTURE_CHANNELS else self._dtype,
                    ),
                )
                if stores:
                    return made[node]
            elif node.target is torch.ops.vsr_plugin.enlarge.default:
                reads = samples is not None and node.args[0] is plan.source
                source = x if reads else value(node.args[0])  # type: ignore[arg-type] # its first argument is a node
                args = (source, node.args[1], peak if reads else None, torch.float32)
                made[node] = graph.call_function(torch.ops.vsr_plugin.enlarge.default, args)
            else:
                made[node] = self._torch(graph, node, value)
        result = value(plan.result)
        if samples is not None:
            return graph.call_function(to_samples, (result, depth), {"peak": peak})
        return graph.call_function(_aten.to.dtype, (result, torch.float32))

    def _torch(self, graph: fx.Graph, node: fx.Node, value: Callable[[fx.Node], fx.Node]) -> fx.Node:
        """An operation that has no kernel; where it joins features, they are made one type first."""
        args: Any
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), value)
        if node.target in (_aten.conv2d.default, _aten.conv_transpose2d.input, _aten.conv2d.padding):
            tensors = [a and graph.call_function(_aten.to.dtype, (a, self._dtype)) for a in args[:3]]
            args = (*tensors, *args[3:])
        elif node.target is _aten.cat.default:
            args = ([graph.call_function(_aten.to.dtype, (a, self._dtype)) for a in args[0]], *args[1:])
        return graph.call_function(node.target, args, kwargs)  # type: ignore[arg-type] # as it was in the plan


def _constant(graph: fx.Graph, root: torch.nn.Module, name: str, tensor: Tensor) -> fx.Node:
    root.register_buffer(name, tensor, persistent=False)
    return graph.get_attr(name)


def _outputs(node: fx.Node) -> set[Any]:
    return {user for user in node.users if user.op == "output"}
