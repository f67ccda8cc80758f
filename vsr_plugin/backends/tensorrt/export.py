"""Exports the ONNX graph that engines are built from: without the last pixel shuffle, which our kernel does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..graph import OUTPUT, onnx_graph

if TYPE_CHECKING:
    from torch import nn

    from ...models import NetworkSpec
    from .. import Precision


@dataclass(frozen=True, slots=True)
class Graph:
    """An exported network.

    Attributes:
        onnx: float32 (N, C, H, W) → (N, C·shuffle², …), the same bytes for the same network.
        shuffle: The remaining pixel shuffle; 1 is none.
        scale: The scale, including the shuffle.
    """

    onnx: bytes
    shuffle: int
    scale: int


def export(module: nn.Module, spec: NetworkSpec, precision: Precision) -> Graph:
    """Write a network as a graph, without the pixel shuffle at its end, if any, which is done when results are stored.

    Raises:
        BackendError: a package is not installed, or the network cannot be exported.
    """
    proto, scale = onnx_graph(module, spec, precision)
    shuffle = _cut_shuffle(proto.graph)
    proto.graph.ClearField("value_info")
    return Graph(proto.SerializeToString(deterministic=True), shuffle, scale)


def _cut_shuffle(graph: Any) -> int:
    """Remove the pixel shuffle at the end of a graph; returns its r, or 1 if there is none."""
    [output] = graph.output
    last = next(node for node in graph.node if output.name in node.output)
    options = {attribute.name: attribute for attribute in last.attribute}
    readers = [node for node in graph.node if output.name in node.input]
    if last.op_type != "DepthToSpace" or options["mode"].s != b"CRD" or readers:
        return 1
    r = int(options["blocksize"].i)
    before = last.input[0]
    inner = next(value for value in graph.value_info if value.name == before)
    output.CopyFrom(inner)
    output.name = OUTPUT
    graph.node.remove(last)
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == before:
                    names[index] = OUTPUT
    return r
