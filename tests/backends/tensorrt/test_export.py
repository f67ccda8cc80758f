"""Graphs say what networks say, and their bytes depend on nothing else."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from tests.networks import CHOSEN, EVERY, seeded, small
from tests.test_examples import CLIP
from vsr_plugin.backends import Device, open_backend
from vsr_plugin.backends.graph import INPUT, OPSET, OUTPUT
from vsr_plugin.backends.tensorrt import Profile
from vsr_plugin.backends.tensorrt.builds import Watch
from vsr_plugin.backends.tensorrt.export import Graph, export
from vsr_plugin.errors import BackendError
from vsr_plugin.kernels import pixel_shuffle
from vsr_plugin.models import MODELS, build_model, load_model
from vsr_plugin.stream.decode import Source

if TYPE_CHECKING:
    from vsr_plugin.backends import Precision

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from tests.backends.tensorrt.fakes import run_graph  # noqa: E402 - after ONNX Runtime is known to be there

ESPCN = MODELS["espcn"]


@cache
def exported(name: str, scale: int, precision: Precision = "float32") -> Graph:
    spec = small(name, scale)
    return export(seeded(spec, scale), spec, precision)


def rtx_flavor() -> Any:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    from vsr_plugin.backends.tensorrt.flavor import find_flavor

    return find_flavor(ahead=True)


def engine_of(graph: Graph, channels: int) -> bytes:
    flavor = rtx_flavor()
    profile = Profile((1, channels, 24, 40), (4, channels, 24, 40))
    built: bytes = flavor.build(graph.onnx, profile, flavor.target_ahead("8.9"), b"", Watch("a test"))[0]
    return built


def result_of(graph: Graph, x: Tensor) -> Tensor:
    return pixel_shuffle(run_graph(graph.onnx, x).float(), graph.shuffle)


@pytest.mark.parametrize(("name", "scale"), CHOSEN)
def test_a_graph_is_as_near_the_truth_as_plain_torch(name: str, scale: int) -> None:
    spec = small(name, scale)
    graph = exported(name, scale)
    assert graph.scale == scale
    x = torch.rand(3, spec.channels, 13, 18)  # not the shape it was exported with: N, H and W are open
    truth = seeded(spec, scale).double()(x.double())
    plain = seeded(spec, scale)(x)
    tolerance = max(2 * float((plain - truth).abs().max()), 2**-18)
    assert float((result_of(graph, x) - truth).abs().max()) <= tolerance


@pytest.mark.parametrize(("name", "scale"), CHOSEN)
def test_an_engine_is_built_without_a_gpu(name: str, scale: int) -> None:
    rtx_flavor()
    assert len(engine_of(exported(name, scale), MODELS[name].channels)) > 10_000


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale"), EVERY)
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_an_engine_of_the_whole_network_is_built_without_a_gpu(name: str, scale: int, precision: Precision) -> None:
    rtx_flavor()
    spec = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        module = build_model(spec, scale).eval()
    assert len(engine_of(export(module, spec, precision), spec.channels)) > 10_000


@pytest.mark.parametrize(("name", "scale"), [("espcn", 3), ("fsrcnn", 2), ("lapsrn", 4)])
def test_half_precision_is_as_near_the_truth_as_torchs(name: str, scale: int, frame: Tensor) -> None:
    spec = MODELS[name]
    module = load_model(name, scale)
    x = frame
    truth = load_model(name, scale).double()(x.double())
    eager = open_backend("eager").compile(module, spec, tuple(x.shape), "float16", Device("cpu"))  # type: ignore[arg-type]
    plain = float((eager(x) - truth).square().mean().sqrt())
    ours = float((result_of(export(module, spec, "float16"), x) - truth).square().mean().sqrt())
    assert ours <= 2 * plain


@pytest.fixture(scope="module")
def frame() -> Tensor:
    """A part of a frame of the example clip, as luma in [0, 1]."""
    source = Source(str(CLIP))
    luma = next(source).planes[0]
    source.close()
    return torch.from_numpy(luma[None, None, 100:148, 200:264]).float() / 255


def types(graph: Graph) -> dict[str, int]:
    model = onnx.load_from_string(graph.onnx)
    inferred = onnx.shape_inference.infer_shapes(model)
    return {value.name: value.type.tensor_type.elem_type for value in (*inferred.graph.input, *inferred.graph.output)}


def test_features_are_of_the_precision_and_frames_of_float32() -> None:
    graph = exported("vdsr", 2, "float16")
    assert types(graph) == {INPUT: onnx.TensorProto.FLOAT, OUTPUT: onnx.TensorProto.FLOAT}
    model = onnx.load_from_string(graph.onnx)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    dtypes = [weights[node.input[1]].data_type for node in model.graph.node if node.op_type == "Conv"]
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    assert dtypes == [single, *[half] * (len(dtypes) - 1)]  # the enlargement in front is from frame to frame


def test_bfloat16_is_written_into_the_graph() -> None:
    model = onnx.load_from_string(exported("espcn", 3, "bfloat16").onnx)
    assert {tensor.data_type for tensor in model.graph.initializer} == {onnx.TensorProto.BFLOAT16}


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_every_convolution_has_weights_of_its_inputs_type(precision: Precision) -> None:
    graph = exported("srresnet", 4, precision)  # has batch normalisations, which the exporter folds into weights
    inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph.onnx)).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.input, *inferred.value_info)}
    types |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
    convolutions = [node for node in inferred.node if node.op_type == "Conv"]
    assert len(convolutions) > 5
    assert {len({types[name] for name in node.input}) for node in convolutions} == {1}


@pytest.mark.parametrize(("name", "scale"), [("srresnet", 4), ("fsrcnn", 4)])
def test_an_engine_in_bfloat16_is_built_without_a_gpu(name: str, scale: int) -> None:
    rtx_flavor()
    assert len(engine_of(exported(name, scale, "bfloat16"), MODELS[name].channels)) > 10_000


def test_the_last_shuffle_is_left_to_the_kernel_that_stores() -> None:
    graph = exported("espcn", 3)
    model = onnx.load_from_string(graph.onnx)
    assert graph.shuffle == 3
    assert "DepthToSpace" not in {node.op_type for node in model.graph.node}
    assert model.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 9
    assert exported("vdsr", 2).shuffle == 1


def test_the_opset_is_the_stated_one_and_nothing_tells_where_it_was_made() -> None:
    graph = exported("espcn", 3)
    model = onnx.load_from_string(graph.onnx)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [OPSET]
    assert not any(part.doc_string or part.metadata_props for part in (model, model.graph, *model.graph.node))
    assert model.producer_version == ""


GRAPH = """
from hashlib import sha256
from tests.networks import seeded, small
from vsr_plugin.backends.tensorrt.export import export
print(sha256(export(seeded(small("lapsrn", 2), 2), small("lapsrn", 2), "float16").onnx).hexdigest())
"""


def test_the_same_network_has_the_same_bytes() -> None:
    assert export(seeded(small("lapsrn", 2), 2), small("lapsrn", 2), "float16") == exported("lapsrn", 2, "float16")


@pytest.mark.slow
def test_the_same_network_has_the_same_bytes_in_another_process() -> None:
    said = subprocess.run([sys.executable, "-c", GRAPH], capture_output=True, text=True, check=True).stdout.split()
    assert said == [sha256(exported("lapsrn", 2, "float16").onnx).hexdigest()]


class Foreign(nn.Module):
    """Code that is neither ours nor torch's."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.pixel_shuffle(x.repeat(1, 4, 1, 1), 2)


def test_a_network_of_the_users_own_is_exported() -> None:
    graph = export(Foreign(), ESPCN, "float32")
    assert (graph.scale, graph.shuffle) == (2, 2)


class Unexportable(nn.Module):
    """Decides by what it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 1 else x * 2


def test_what_cannot_be_exported_is_said_in_one_line() -> None:
    with pytest.raises(BackendError, match="Exporting espcn to ONNX failed: ") as caught:
        export(Unexportable(), ESPCN, "float32")
    assert "\n" not in str(caught.value)
    assert "stack trace" not in str(caught.value)


class Interrupted(nn.Module):
    """Ctrl-C comes while the exporter looks at it."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            raise KeyboardInterrupt
        return torch.nn.functional.pixel_shuffle(x.repeat(1, 4, 1, 1), 2)


def test_ctrl_c_during_an_export_is_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt):
        export(Interrupted(), ESPCN, "float32")


def test_the_callers_module_is_left_alone() -> None:
    module = seeded(ESPCN, 2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    export(module, ESPCN, "float16")
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in module.modules())
