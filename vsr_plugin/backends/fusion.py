"""Reads a network's graph into fused layers: every convolution takes in the operations that follow it.

A layer (`kernels.reference.Layer`) is a convolution with its bias, a batch normalization or constants (folded into its
weights), an activation, a factor, a pixel shuffle, a residual, and an activation after it. Operations that fit no layer
stay operations of torch. No network is known by name: all layers are found in the graph that torch.export makes.
"""

from __future__ import annotations

import copy
import operator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, fx, nn

from ..kernels import Activation, Layer
from ..models.deconvolution import with_subpixel_deconvolutions
from ..models.layers import BicubicUpsample

if TYPE_CHECKING:
    from collections.abc import Callable

_aten = torch.ops.aten
_ACTIVATIONS: dict[Any, Activation] = {
    _aten.relu.default: "relu",
    _aten.relu_.default: "relu",
    _aten.leaky_relu.default: "leaky",
    _aten.leaky_relu_.default: "leaky",
    _aten.prelu.default: "prelu",
    _aten.tanh.default: "tanh",
    _aten.sigmoid.default: "sigmoid",
}


@dataclass(frozen=True)
class Fused:
    """A layer that a kernel computes.

    Attributes:
        layer: The layer, with weights in float32 on the CPU.
        source: The node whose value it reads.
        residual: The node whose value is added, or None.
        covers: The operations that it replaces, in words.
    """

    layer: Layer
    source: fx.Node
    residual: fx.Node | None
    covers: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The fused layers of a network.

    Attributes:
        nodes: The nodes of the graph, in order, without those that depend only on weights.
        fused: Each layer, by the last node that it covers.
        swallowed: The other nodes that layers cover.
        constants: The values of nodes that depend only on weights.
        source: The node of the input.
        result: The node of the output.
    """

    nodes: tuple[fx.Node, ...]
    fused: dict[fx.Node, Fused]
    swallowed: frozenset[fx.Node]
    constants: dict[fx.Node, Tensor]
    source: fx.Node
    result: fx.Node


class Enlargement(nn.Module):
    """Replaces `BicubicUpsample`: a kernel that computes in float32, whatever the network's precision."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H·scale, W·scale), float32."""
        result: Tensor = torch.ops.vsr_plugin.enlarge(x, self.scale, None, torch.float32)
        return result


def read(module: nn.Module, shape: tuple[int, int, int, int]) -> Plan:
    """Find the layers of a network for inputs of ``shape``.

    Args:
        module: A copy is traced in float32 on the CPU; no frame is computed, so the shape costs no time.
        shape: (N, C, H, W).
    """
    module = with_subpixel_deconvolutions(module).to("cpu", torch.float32).eval().requires_grad_(requires_grad=False)
    module = _with_enlargements(module)
    program = torch.export.export(module, (torch.empty(shape),), strict=False)
    values = {**program.state_dict, **program.constants}
    constants: dict[fx.Node, Tensor] = {}
    graph = program.graph
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    for node in graph.find_nodes(op="placeholder"):
        target = specs[node.name].target
        if target is not None:
            constants[node] = values[target].detach()
    nodes = []
    for node in graph.nodes:
        if node.op == "call_function":
            if node.all_input_nodes and all(source in constants for source in node.all_input_nodes):
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), constants.__getitem__)
                constants[node] = node.target(*args, **kwargs)
            else:
                nodes.append(node)
    source = next(node for node in graph.find_nodes(op="placeholder") if node not in constants)
    (output,) = graph.find_nodes(op="output")
    result = cast("fx.Node", output.args[0][0])
    fused, swallowed = _fuse(nodes, constants)
    return Plan(tuple(nodes), fused, frozenset(swallowed), constants, source, result)


def _with_enlargements(module: nn.Module) -> nn.Module:
    module = copy.copy(module) if isinstance(module, BicubicUpsample) else module
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, BicubicUpsample):
                setattr(parent, name, Enlargement(child.scale))
    return module


def _fuse(nodes: list[fx.Node], constants: dict[fx.Node, Tensor]) -> tuple[dict[fx.Node, Fused], set[fx.Node]]:
    fused: dict[fx.Node, Fused] = {}
    taken: set[fx.Node] = set()
    for node in nodes:
        begun = _begin(node, constants)
        if begun is None:
            continue
        growing, padding = begun
        covered = [node]
        while len(covered[-1].users) == 1:
            (user,) = covered[-1].users
            grown = None if user in taken else _grow(growing, user, covered[-1], constants)
            if grown is None:
                break
            growing = replace(grown, covers=(*growing.covers, _name(user)))
            covered.append(user)
        fused[covered[-1]] = growing
        taken.update(covered, padding)
    return fused, taken - fused.keys()


def _begin(node: fx.Node, constants: dict[fx.Node, Tensor]) -> tuple[Fused, list[fx.Node]] | None:
    """The layer of a convolution alone, and the nodes before it that the layer covers; None for other nodes."""
    if node.target is not _aten.conv2d.default:
        return None
    source, weight, bias, stride, padding, dilation, groups = _arguments(node)
    if weight not in constants or (bias is not None and bias not in constants):
        return None
    square = constants[weight].shape[2] == constants[weight].shape[3] and padding[0] == padding[-1]
    if not square or groups != 1 or set(stride) | set(dilation) != {1}:
        return None
    layer = Layer(constants[weight], None if bias is None else constants[bias], padding[0])
    if source.target is _aten.pad.default and padding[0] == 0 and len(source.users) == 1:
        inner, margins, mode = (*source.args, "constant")[:3]
        if mode == "replicate" and len(margins) == 4 and len(set(margins)) == 1 and margins[0] > 0:
            covers = (_name(source), _name(node))
            return Fused(replace(layer, padding=margins[0], edges="replicate"), inner, None, covers), [source]
    return Fused(layer, source, None, (_name(node),)), []


def _arguments(node: fx.Node) -> list[Any]:
    """All arguments of a conv2d, including defaults."""
    given = [*node.args, *[None, [1, 1], [0, 0], [1, 1], 1][len(node.args) - 2 :]]
    return [node.kwargs.get(name, value) for name, value in zip(_CONVOLUTION, given, strict=True)]


_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def _grow(fused: Fused, user: fx.Node, last: fx.Node, constants: dict[fx.Node, Tensor]) -> Fused | None:
    """The layer with one more operation fused into it, or None if the operation cannot be fused."""
    layer, target = fused.layer, user.target
    linear = layer.activation == "none" and layer.scale == 1.0 and fused.residual is None
    if target in _ACTIVATIONS:
        return _with_activation(fused, user, constants)
    if target is _aten.batch_norm.default and linear and layer.shuffle == 1:
        given = cast("Any", user.args[1:5])
        weight, bias, mean, variance = (None if node is None else constants.get(node) for node in given)
        if mean is None or variance is None or user.args[5]:
            return None
        gain = (variance + cast("float", user.args[7])).rsqrt() * (1.0 if weight is None else weight)
        return replace(fused, layer=_affine(layer, gain, (0.0 if bias is None else bias) - mean * gain))
    if target is _aten.pixel_shuffle.default and layer.shuffle == 1 and fused.residual is None:
        return replace(fused, layer=replace(layer, shuffle=cast("int", user.args[1])))
    if target not in (_aten.mul.Tensor, _aten.add.Tensor) or user.kwargs.get("alpha", 1) != 1:
        return None
    other = user.args[1] if user.args[0] is last else user.args[0]
    if other is last:
        return None
    constant = constants.get(other) if isinstance(other, fx.Node) else torch.tensor(other, dtype=torch.float32)
    if constant is None:
        if target is _aten.add.Tensor and fused.residual is None and layer.after == "none":
            same = _shape(cast("fx.Node", other)) == _shape(last)
            return replace(fused, residual=cast("fx.Node", other)) if same else None
        return None
    if target is _aten.mul.Tensor and constant.numel() == 1 and fused.residual is None and layer.after == "none":
        factor = float(constant)
        if linear:
            return replace(fused, layer=_affine(layer, torch.tensor(factor), 0.0))
        return replace(fused, layer=replace(layer, scale=layer.scale * factor))
    channels = _shape(last)[1]
    per_channel = constant.numel() == 1 or tuple(constant.shape) in ((channels, 1, 1), (1, channels, 1, 1))
    if target is _aten.add.Tensor and linear and per_channel:
        added = constant.flatten().expand(channels).repeat_interleave(layer.shuffle**2)
        return replace(fused, layer=_affine(layer, torch.tensor(1.0), added))
    return None


def _with_activation(fused: Fused, user: fx.Node, constants: dict[fx.Node, Tensor]) -> Fused | None:
    layer, kind = fused.layer, _ACTIVATIONS[user.target]
    if fused.residual is not None:
        done = layer.after == "none" and kind == "relu"
        return replace(fused, layer=replace(layer, after="relu")) if done else None
    if layer.activation != "none" or layer.scale != 1.0:
        return None
    slope = None
    if kind == "leaky":
        slope = torch.tensor([float(cast("float", (*user.args, 0.01)[1]))])
    elif kind == "prelu":
        found = constants.get(cast("fx.Node", user.args[1]))
        if found is None:
            return None
        slope = found if found.numel() == 1 else found.repeat_interleave(layer.shuffle**2)
    return replace(fused, layer=replace(layer, activation=kind, slope=slope))


def _affine(layer: Layer, gain: Tensor, added: Tensor | float) -> Layer:
    """The layer with its sums multiplied by ``gain``, and ``added`` to them, before any activation."""
    out = layer.weight.shape[0]
    bias = torch.zeros(out) if layer.bias is None else layer.bias
    gain = gain.expand(out)
    return replace(layer, weight=layer.weight * gain[:, None, None, None], bias=bias * gain + added)


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _name(node: fx.Node) -> str:
    """The name of an operation: conv2d, relu, add."""
    target = cast("Any", node.target)
    if target is operator.getitem:
        return "getitem"
    return str(getattr(target, "_opname", getattr(target, "__name__", target))).rstrip("_")


def chain(plan: Plan) -> tuple[Fused, ...] | None:
    """The layers of a network that consists only of layers, one after the other; None for any other network."""
    parts, at = [], plan.source
    for node in plan.nodes:
        if node in plan.swallowed:
            continue
        part = plan.fused.get(node)
        if part is None or part.source is not at or part.residual is not None:
            return None
        parts.append(part)
        at = node
    return tuple(parts) if at is plan.result else None


def explain(plan: Plan, whole: str | None) -> list[tuple[str, str, str]]:
    """(what runs the step, what it computes, the operations that it covers) for each step."""
    if whole is not None:
        parts = chain(plan) or ()
        return [(f"kernel: {whole}", describe(part.layer), ", ".join(part.covers)) for part in parts]
    steps = []
    for node in plan.nodes:
        if node in plan.fused:
            part = plan.fused[node]
            what = describe(part.layer) + ("" if part.residual is None else " + residual")
            steps.append(("kernel: convolution", what, ", ".join(part.covers)))
        elif node not in plan.swallowed:
            ours = _name(node) == "enlarge"
            what = "bicubic, from samples or float32" if ours else " × ".join(map(str, _shape(node)))
            steps.append(("kernel: enlarge" if ours else "torch", what, _name(node)))
    return steps


def describe(layer: Layer) -> str:
    """A layer in a few words."""
    out, channels, size, _ = layer.weight.shape
    words = [f"{channels}→{out}, {size}×{size}"]
    if layer.edges != "zeros":
        words.append("edges repeated")
    if layer.activation != "none":
        words.append(layer.activation)
    if layer.scale != 1.0:
        words.append(f"× {layer.scale:g}")
    if layer.shuffle > 1:
        words.append(f"shuffle {layer.shuffle}")
    if layer.after != "none":
        words.append(f"then {layer.after}")
    return ", ".join(words)


def macs(plan: Plan) -> Callable[[fx.Node], int]:
    """Multiply-accumulates of a layer for one batch, by the last node it covers."""

    def count(node: fx.Node) -> int:
        layer = plan.fused[node].layer
        n, _, height, width = _shape(node)
        return layer.weight.numel() * n * (height // layer.shuffle) * (width // layer.shuffle)

    return count
