"""Networks as ONNX graphs: batch, height and width are dynamic; features are in a precision, frames in float32.

TensorRT uses the types of the graph (strongly typed networks), so the precision is written into it. As in the Triton
backend, tensors of up to four channels are frames and stay in float32.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import BackendError, OutOfMemoryError
from ..installation import install
from ..models.deconvolution import with_subpixel_deconvolutions

if TYPE_CHECKING:
    from torch import Tensor

    from ..models import NetworkSpec
    from . import Precision

OPSET = 18  # the lowest that torch writes: more programs read it
INPUT, OUTPUT = "input", "output"

_FRAME_CHANNELS = 4
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
_WITH_WEIGHTS = (*_CONVOLUTIONS, nn.PReLU, nn.BatchNorm2d)


def onnx_graph(module: nn.Module, spec: NetworkSpec, precision: Precision) -> tuple[Any, int]:
    """Write a network as a graph: float32 (N, C, H, W) → (N, C, H·scale, W·scale).

    Returns:
        The ``onnx.ModelProto``, with intermediate shapes, without source locations and versions; and the scale.

    Raises:
        BackendError: a package is not installed, or the network cannot be exported.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - checked here, as torch reports it only in the middle of the export
    except ImportError as error:
        raise BackendError(f"ONNX graphs need {error.name}: {install('export')}") from error
    module = with_subpixel_deconvolutions(module).to("cpu", torch.float32).eval().requires_grad_(requires_grad=False)
    side = 8 * spec.multiple_of
    try:
        with torch.no_grad():
            scale = module(torch.zeros(1, spec.channels, side, side)).shape[2] // side
        _set_types(module, getattr(torch, precision))
        proto = _export(module, torch.zeros(2, spec.channels, 3 * side, 4 * side))
    except MemoryError as error:
        raise OutOfMemoryError(f"Exporting {spec.name} to ONNX: no room in memory: close other programs") from error
    except Exception as error:  # the exporter's errors have no common base class
        if _was_interrupted(error):
            raise KeyboardInterrupt from error
        lines = [line.strip() for line in str(error).splitlines() if line.strip() and "full stack trace" not in line]
        lines = lines or [type(error).__name__]
        raise BackendError(f"Exporting {spec.name} to ONNX failed: {lines[-1]}") from error
    _match_weights(proto)
    _strip(proto)
    onnx.checker.check_model(proto)
    return proto, scale


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C caused an error: the exporter catches it, and reports an error of its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _set_types(module: nn.Module, dtype: torch.dtype) -> None:
    """Make layers compute in ``dtype``, except those from frames to frames; other operations follow their inputs."""
    for layer in module.modules():
        if not isinstance(layer, _WITH_WEIGHTS):
            continue
        if isinstance(layer, _CONVOLUTIONS):
            if max(layer.in_channels, layer.out_channels) <= _FRAME_CHANNELS:
                continue
            if layer.out_channels <= _FRAME_CHANNELS:
                layer.register_forward_hook(_to_float32)
        layer.to(dtype)
        layer.register_forward_pre_hook(_to_type_of_weights)


def _to_type_of_weights(layer: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (args[0].to(layer.weight.dtype), *args[1:])


def _to_float32(_: nn.Module, __: Any, result: Tensor) -> Tensor:
    return result.to(torch.float32)


def _export(module: nn.Module, example: Tensor) -> Any:
    open_length = torch.export.Dim.DYNAMIC
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)  # it warns that torchvision is missing, which is not needed here
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # deprecations inside the exporter
            program = torch.onnx.export(
                module,
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamic_shapes=({0: open_length, 2: open_length, 3: open_length},),
                external_data=False,
                verbose=False,
            )
    finally:
        logger.setLevel(before)
    assert program is not None
    return program.model_proto


def _match_weights(proto: Any) -> None:
    """Convert weights to the type of their layer's input: the exporter folds batch normalizations in float32."""
    import onnx

    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    graph = onnx.shape_inference.infer_shapes(proto).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info)}
    dtypes = {getattr(onnx.TensorProto, name.upper()): getattr(torch, name) for name in ("float16", "bfloat16")}
    for node in proto.graph.node:
        wanted = types.get(node.input[0]) if node.op_type in ("Conv", "ConvTranspose") else None
        for tensor in (tensors[name] for name in node.input[1:] if wanted in dtypes and name in tensors):
            if tensor.data_type == onnx.TensorProto.FLOAT:
                values = torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()).to(dtypes[wanted])
                narrow = onnx.TensorProto(name=tensor.name, data_type=wanted, dims=tensor.dims)
                narrow.raw_data = values.view(torch.int16).numpy().astype("<i2").tobytes()
                tensor.CopyFrom(narrow)


def _strip(proto: Any) -> None:
    """Drop locations in source files, and versions."""
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.initializer, *proto.graph.input):
        for name in ("metadata_props", "doc_string", "producer_name", "producer_version"):
            if name in part.DESCRIPTOR.fields_by_name:
                part.ClearField(name)
