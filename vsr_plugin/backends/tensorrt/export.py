"""A network as the ONNX graph that engines are built of: without its last pixel shuffle, which our kernel does."""

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
        shuffle: The pixel shuffle that is left to do; 1 is none.
        scale: The enlargement, with the shuffle.
    """

    onnx: bytes
    shuffle: int
    scale: int


def export(module: nn.Module, spec: NetworkSpec, precision: Precision) -> Graph:
    """Write a network as a graph; its last pixel shuffle, if it ends with one, is left to who stores the result.

    Raises:
        BackendError: a package is not there, or the network cannot be exported.
    """
    proto, scale = onnx_graph(module, spec, precision)
    shuffle = _cut_shuffle(proto.graph)
    proto.graph.ClearField("value_info")
    return Graph(proto.SerializeToString(deterministic=True), shuffle, scale)


def _cut_shuffle(graph: Any) -> int:
    """Take the pixel shuffle off the end of a graph; gives its r, or 1 where there is none."""
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
