"""ONNX and OpenVINO files compute what the networks compute: asked of ONNX Runtime, OpenCV's dnn and OpenVINO."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.networks import CHOSEN, SMALL, Mirrored, seeded, small
from tests.test_readme import README
from vsr_plugin import Upscaler
from vsr_plugin.backends import Device, open_backend
from vsr_plugin.backends.graph import INPUT, OUTPUT
from vsr_plugin.execution import Execution
from vsr_plugin.export import KINDS, export_file
from vsr_plugin.export.facts import Exported
from vsr_plugin.models import MODELS, load_model, manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
cv2 = pytest.importorskip("cv2")
onnxruntime = pytest.importorskip("onnxruntime")

SMALLEST = 2**-18  # a thousandth of a code value in 8 bits: what is nearer to the truth is near enough


def _shipped() -> Iterator[Any]:
    """Each model that has weights, at one of its scales if it is shallow; the others where there is time."""
    for index, (name, spec) in enumerate(MODELS.items()):
        scales = [scale for scale in spec.scales if spec.weights(scale)]
        for scale in scales:
            usual = scale == scales[index % len(scales)] and spec.architecture not in SMALL
            yield pytest.param(name, scale, id=f"{name}_x{scale}", marks=[] if usual else pytest.mark.slow)


SHIPPED = list(_shipped())
DEEP = [chosen for chosen in CHOSEN if MODELS[chosen.values[0]].architecture in SMALL]


@cache
def core() -> Any:
    return open_backend("openvino")._core  # type: ignore[attr-defined]


def by_openvino(file: Path, x: np.ndarray) -> np.ndarray:
    compiled = core().compile_model(core().read_model(str(file)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.asarray(compiled({INPUT: x})[OUTPUT])


def by_onnxruntime(file: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([OUTPUT], {INPUT: x})[0])


def by_opencv(file: Path, x: np.ndarray) -> np.ndarray:
    network = cv2.dnn.readNetFromONNX(str(file))
    network.setInput(x[:, :, :8, ::2].copy())  # another size first, as a program that shows several clips does
    network.forward()
    network.setInput(x)
    return np.asarray(network.forward())


# Kind of file → who runs it.
RUNNERS: dict[str, list[Callable[[Path, np.ndarray], np.ndarray]]] = {
    "onnx": [by_onnxruntime, by_opencv, by_openvino],
    "openvino": [by_openvino],
}


def noise(name: str) -> Tensor:
    return torch.rand(2, MODELS[name].channels, 12, 18, generator=torch.Generator().manual_seed(0))


def mirrored(name: str, scale: int) -> nn.Module:
    return Mirrored(load_model(name, scale), MODELS[name].overlap[scale], scale)


def truth(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = module.double()(x.double())
    return result


def distance(result: Any, exact: Tensor) -> float:
    """Root mean square."""
    assert result.shape == exact.shape
    return float((torch.as_tensor(result) - exact).square().mean().sqrt())


@pytest.mark.parametrize(("name", "scale"), SHIPPED)
@pytest.mark.parametrize("kind", RUNNERS)
def test_a_file_is_as_near_the_truth_as_plain_torch(kind: str, name: str, scale: int, tmp_path: Path) -> None:
    file = export_file(name, scale, kind, tmp_path)
    x = noise(name)
    exact = truth(mirrored(name, scale), x)
    tolerance = max(2 * distance(mirrored(name, scale)(x), exact), SMALLEST)
    for run in RUNNERS[kind]:
        assert distance(run(file, x.numpy()), exact) <= tolerance, run.__name__


@pytest.mark.parametrize(
    ("name", "scale"),
    [("srcnn", 3), ("fsrcnn", 2), ("lapsrn", 2), pytest.param("edsr-baseline", 2, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("kind", RUNNERS)
def test_in_float16_a_file_is_as_near_the_truth_as_torch_in_it(
    kind: str, name: str, scale: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX says that features are float16, so torch computes in it; OpenVINO's file only keeps its weights so.

    Those of the bicubic enlargement in front of a network, too.
    """
    file = export_file(name, scale, kind, tmp_path, precision="float16")
    x = noise(name)
    exact = truth(mirrored(name, scale), x)
    if kind == "onnx":
        overlap = MODELS[name].overlap[scale]
        shape = (2, MODELS[name].channels, 12 + 2 * min(8, overlap), 18 + 2 * min(8, overlap))
        module, device = load_model(name, scale), Device("cpu")
        half = open_backend("eager").compile(module, MODELS[name], shape, "float16", device)
        plain = Mirrored(half, overlap, scale)(x)
    else:
        cubic = import_module("vsr_plugin.kernels.reference.cubic")
        kernel = cubic._phase_kernel
        monkeypatch.setattr(cubic, "_phase_kernel", lambda *about: kernel(*about).half().float())
        plain = mirrored(name, scale).half().float()(x)
        monkeypatch.undo()
    tolerance = max(2 * distance(plain, exact), SMALLEST)
    for run in RUNNERS[kind]:
        assert distance(run(file, x.numpy()), exact) <= tolerance, run.__name__


@pytest.mark.parametrize(("kind", "suffix"), [("onnx", ".onnx"), ("openvino", ".bin")])
def test_float16_halves_the_file(kind: str, suffix: str, tmp_path: Path) -> None:
    full = export_file("srcnn", 2, kind, tmp_path).with_suffix(suffix).stat().st_size
    half = (
        export_file("srcnn", 2, kind, tmp_path, precision="float16", overwrite=True).with_suffix(suffix).stat().st_size
    )
    assert 0.45 * full < half < 0.55 * full


@pytest.mark.parametrize(("name", "scale"), DEEP)
def test_deep_networks_are_as_near_the_truth_with_fewer_layers_and_any_weights(
    name: str, scale: int, tmp_path: Path
) -> None:
    spec = small(name, scale)
    x = noise(name)
    exact = truth(Mirrored(seeded(spec, scale), spec.overlap[scale], scale), x)
    tolerance = max(2 * distance(Mirrored(seeded(spec, scale), spec.overlap[scale], scale)(x), exact), SMALLEST)
    for kind, runners in RUNNERS.items():
        written = import_module(f"vsr_plugin.export.{kind}").write(
            Exported(spec, seeded(spec, scale), scale, tuned_for=None)
        )
        for suffix, content in written.items():
            (tmp_path / f"network{suffix}").write_bytes(content)
        for run in runners:
            file = tmp_path / f"network{KINDS[kind].suffixes[0]}"
            assert distance(run(file, x.numpy()), exact) <= tolerance, (kind, run.__name__)


def onnx_facts(file: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(file).metadata_props}


def openvino_facts(file: Path) -> dict[str, str]:
    model = core().read_model(str(file))
    names = onnx_facts(export_file("espcn", 2, "onnx", file.parent))  # which are the same
    return {name: str(model.get_rt_info(["vsr_plugin", name]).value) for name in names}


READERS = {"onnx": onnx_facts, "openvino": openvino_facts}


@pytest.mark.parametrize(("name", "color"), [("espcn", "luma"), ("edsr-baseline", "RGB")])
@pytest.mark.parametrize("kind", READERS)
def test_a_file_says_what_it_is(kind: str, name: str, color: str, tmp_path: Path) -> None:
    facts = READERS[kind](export_file(name, 2, kind, tmp_path))
    assert (facts["model"], facts["scale"], facts["color"], facts["precision"]) == (name, "2", color, "float32")
    assert facts["range"].startswith(f"{color} from 0 to 1")
    assert facts["overlap"] == str(MODELS[name].overlap[2])
    assert facts["license"] == f"MIT. {manifest()[f'{name}_x2']['notice']}"
    assert len(facts["weights_sha256"]) == 64


def test_weights_of_ones_own_have_a_digest_of_their_own_and_no_license_of_ours(tmp_path: Path) -> None:
    shipped = onnx_facts(export_file("espcn", 2, "onnx", tmp_path))
    weights = tmp_path / "own.npz"
    state = {name: value.numpy() for name, value in load_model("espcn", 2).state_dict().items()}
    first = next(iter(state))
    np.savez(weights, **{**state, first: state[first] + 1})
    facts = onnx_facts(export_file("espcn", 2, "onnx", tmp_path / "own.onnx", weights=weights))
    assert facts["weights_sha256"] != shipped["weights_sha256"]
    assert facts["license"] == "that of the weights, which are not vsr_plugin's"


def lengths(value: Any) -> list[Any]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_batch_height_and_width_are_open_and_have_names(tmp_path: Path) -> None:
    graph = onnx.load(export_file("srcnn", 3, "onnx", tmp_path)).graph
    assert lengths(graph.input[0]) == ["batch", 1, "height", "width"]
    assert lengths(graph.output[0]) == ["batch", 1, "height_x3", "width_x3"]
    model = core().read_model(str(export_file("srcnn", 3, "openvino", tmp_path)))
    assert [dim.is_dynamic for dim in model.input(INPUT).partial_shape] == [True, False, True, True]


def test_a_size_makes_a_file_for_frames_of_that_size_only(tmp_path: Path) -> None:
    graph = onnx.load(export_file("srcnn", 3, "onnx", tmp_path, size=(24, 14))).graph
    assert lengths(graph.input[0]) == [1, 1, 14, 24]
    assert lengths(graph.output[0]) == [1, 1, 42, 72]
    model = core().read_model(str(export_file("srcnn", 3, "openvino", tmp_path, size=(24, 14))))
    assert list(model.input(INPUT).shape) == [1, 1, 14, 24]
    assert list(model.output(OUTPUT).shape) == [1, 1, 42, 72]


def test_graphs_hold_what_many_programs_read(tmp_path: Path) -> None:
    """SRCNN has the enlargement in front: no cubic resize, which programs differ in, and no shape worked out inside."""
    model = onnx.load(export_file("srcnn", 2, "onnx", tmp_path))
    assert {node.op_type for node in model.graph.node} == {"Slice", "Concat", "Pad", "Conv", "Relu", "DepthToSpace"}
    assert (model.ir_version, [entry.version for entry in model.opset_import]) == (8, [18])


@pytest.mark.parametrize("name", ["srcnn", "espcn", "fsrcnn"])  # whose last layers make 1, 9 and 9 channels
def test_float16_is_inside_only(name: str, tmp_path: Path) -> None:
    """Every program gives and takes float32."""
    file = export_file(name, 3, "onnx", tmp_path, precision="float16")
    graph = onnx.load(file).graph
    ends = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert ends == {onnx.TensorProto.FLOAT}
    assert {tensor.data_type for tensor in graph.initializer} >= {onnx.TensorProto.FLOAT16}
    for run in RUNNERS["onnx"]:
        assert run(file, noise(name).numpy()).dtype == np.float32


def test_the_readmes_script_enlarges_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = README.read_text(encoding="utf-8").split("```python\n")[1:]
    [script] = [code for code in (block.partition("```")[0] for block in blocks) if "espcn_x2.onnx" in code]
    monkeypatch.chdir(tmp_path)
    export_file("espcn", 2, "onnx")
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8), (5, 5), 0)
    cv2.imwrite("in.png", image)
    exec(script, {})
    with Upscaler("espcn", 2, Execution(backend="eager", device="cpu")) as upscaler:
        ours = upscaler(image[..., ::-1].copy())[..., ::-1]
    assert np.abs(cv2.imread("out.png").astype(int) - ours).mean() < 1  # OpenCV rounds colors on the way


def test_the_same_network_makes_the_same_bytes(tmp_path: Path) -> None:
    files = [export_file("fsrcnn-s", 2, "onnx", tmp_path / f"{name}.onnx") for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_every_kind_of_file_is_asked() -> None:
    assert RUNNERS.keys() == {name for name, kind in KINDS.items() if kind.whole}
