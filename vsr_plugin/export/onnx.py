"""A network as an ONNX file, for ONNX Runtime, OpenCV's dnn, vs-mlrt, chaiNNer and others.

One input and one output of float32 frames, (batch, channels, height, width), as vs-mlrt and OpenVINO's plugin want them
in any precision; open lengths have names. Steps before the first layer, such as the bicubic enlargement of SRCNN, are
in the graph as convolution and pixel shuffle, because OpenCV has no cubic resize like the papers'. The borders of the
`Upscaler` are in it, too (`Mirrored`).

chaiNNer was not tried: according to its source, it takes such files, but makes gray images with networks of luma.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..backends.graph import INPUT, OUTPUT, onnx_graph

if TYPE_CHECKING:
    from .facts import Exported

_IR_VERSION = 8  # that of the first programs that read our opset


def write(network: Exported) -> dict[str, bytes]:
    """The content of the file; the same bytes for the same network.

    Raises:
        BackendError: a package is missing, or the network cannot be exported.
    """
    import onnx

    spec, scale = network.spec, network.scale
    proto, _ = onnx_graph(network.mirrored, spec, network.precision)
    graph = proto.graph
    graph.name = f"{spec.name}_x{scale}"
    graph.ClearField("value_info")  # programs infer them for the shape at hand
    _give_float32(graph)
    batch, height, width = ("batch", "height", "width") if network.size is None else (1, *network.size[::-1])
    _shape(graph.input[0], INPUT, [batch, spec.channels, height, width])
    large = [f"{height}_x{scale}", f"{width}_x{scale}"] if network.size is None else [height * scale, width * scale]
    _shape(graph.output[0], OUTPUT, [batch, spec.channels, *large])
    proto.ir_version = _IR_VERSION
    proto.producer_name = "vsr_plugin"
    proto.doc_string = f"{spec.name} x{scale}: {spec.paper}"
    for name, fact in network.facts.items():
        proto.metadata_props.add(key=name, value=fact)
    onnx.checker.check_model(proto, full_check=True)
    return {".onnx": proto.SerializeToString(deterministic=True)}


def _give_float32(graph: Any) -> None:
    """Cast the output of a graph whose last features are of another type."""
    import onnx

    kind = graph.output[0].type.tensor_type
    if kind.elem_type == onnx.TensorProto.FLOAT:
        return
    [last] = [node for node in graph.node if OUTPUT in node.output]
    narrow = f"{OUTPUT}_narrow"
    last.output[list(last.output).index(OUTPUT)] = narrow
    graph.node.append(onnx.helper.make_node("Cast", [narrow], [OUTPUT], to=onnx.TensorProto.FLOAT))
    kind.elem_type = onnx.TensorProto.FLOAT


def _shape(value: Any, name: str, lengths: list[Any]) -> None:
    """Write the name and the shape of an input or an output; names stand for open lengths."""
    assert value.name == name
    shape = value.type.tensor_type.shape
    shape.ClearField("dim")
    for length in lengths:
        dim = shape.dim.add()
        if isinstance(length, str):
            dim.dim_param = length
        else:
            dim.dim_value = length
