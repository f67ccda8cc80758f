"""The triton backend: any network, layer by layer on kernels that are interpreted here, and run on CUDA elsewhere."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import distance
from tests.networks import CHOSEN, seeded, small
from vsr_plugin.backends import Device, SamplesNetwork, open_backend, triton
from vsr_plugin.device import default_backend
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import BackendError
from vsr_plugin.execution import Execution
from vsr_plugin.frames import ColorSpec, Frame, Matrix, Range
from vsr_plugin.kernels import load_ops
from vsr_plugin.models import MODELS, NetworkSpec
from vsr_plugin.samples import SampleFormat

if TYPE_CHECKING:
    from vsr_plugin.backends.triton import TritonNetwork

pytest.importorskip("triton")

DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device runs them")),
    pytest.param(
        "cuda",
        marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
    ),
]
LARGEST = {2: 4, 3: 3, 4: 2, 8: 1}  # rows of the small frame, so that the large one stays small


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Device:
    return Device(request.param)


def with_statistics(module: nn.Module) -> nn.Module:
    """Batch normalisation that does something."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return module


def compiled(module: nn.Module, spec: NetworkSpec, x: Tensor, precision: Any, device: Device) -> TritonNetwork:
    network = open_backend("triton").compile(module, spec, cast("Any", tuple(x.shape)), precision, device)
    return cast("TritonNetwork", network)


@pytest.mark.parametrize(("name", "scale"), CHOSEN)
def test_a_network_is_as_near_the_truth_as_plain_torch(name: str, scale: int, device: Device) -> None:
    spec = small(name, scale)
    module = with_statistics(seeded(spec, scale))
    rows = LARGEST[scale] * spec.multiple_of
    x = torch.rand(1, spec.channels, rows, rows + spec.multiple_of)
    truth = module.double()(x.double())
    plain = module.half()(x.half()).double()
    network = compiled(module.float(), spec, x, "float16", device)
    result = network(x.to(device)).cpu()
    assert result.dtype == torch.float32
    assert result.shape == truth.shape
    # Where plain torch has luck, a unit of float16 at 1 is nobody's fault.
    tolerance = max(2 * float((plain - truth).abs().max()), 2**-10)
    assert float((result - truth).abs().max()) <= tolerance
    if spec.channels == 1:
        samples = (x * 255).round().to(torch.uint8)
        found = network.upscale_samples(samples.to(device), SampleFormat(255, 8)).cpu()
        expected = (module(samples.float() / 255).clamp(0, 1) * 255).round()
        assert found.dtype == torch.uint8
        assert int((found.int() - expected.int()).abs().max()) <= 1
    network.close()


@pytest.mark.parametrize(("name", "scale"), CHOSEN)
def test_every_convolution_runs_on_a_kernel(name: str, scale: int) -> None:
    spec = small(name, scale)
    x = torch.empty(1, spec.channels, 4 * spec.multiple_of, 4 * spec.multiple_of)
    steps = compiled(seeded(spec, scale), spec, x, "float16", Device("cpu")).steps
    torch_runs = {covers for runs, _, covers in steps if runs == "torch"}
    assert not torch_runs & {"conv2d", "conv_transpose2d", "batch_norm", "pixel_shuffle"}


@pytest.mark.parametrize(
    ("name", "scale", "kernel"), [("espcn", 3, "espcn"), ("fsrcnn", 2, "fsrcnn"), ("fsrcnn-s", 4, "fsrcnn")]
)
def test_small_networks_run_whole(name: str, scale: int, kernel: str) -> None:
    spec, x = MODELS[name], torch.empty(1, 1, 4, 4)
    steps = compiled(seeded(spec, scale), spec, x, "float16", Device("cpu")).steps
    assert {runs for runs, _, _ in steps} == {f"kernel: {kernel}"}


class Odd(nn.Module):
    """What a network of the caller's own may hold that no kernel has, and a little that one has."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(1, 4, 3, padding=1, groups=1)
        self.halves = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.normalised = nn.BatchNorm2d(4)
        self.transposed = nn.ConvTranspose2d(4, 2, 2, 2)
        self.last = nn.Conv2d(6, 1, (1, 3), padding=(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = F.elu(self.grouped(x))
        h = self.normalised(F.gelu(self.halves(h)))
        joined = torch.cat([self.transposed(h), F.interpolate(h, scale_factor=2.0)], 1)
        result: Tensor = 0.5 + 0.25 * self.last(joined.clamp(-1, 1))
        return result


def test_a_network_with_things_that_have_no_kernel_runs_all_the_same(device: Device) -> None:
    torch.manual_seed(5)
    module = with_statistics(Odd().eval().requires_grad_(requires_grad=False))
    x = torch.rand(2, 1, 5, 6)
    network = compiled(module, NetworkSpec(name="odd", overlap={2: 9}), x, "float32", device)
    assert torch.allclose(network(x.to(device)).cpu(), module(x), rtol=0, atol=1e-6)
    assert "torch" in {runs for runs, _, _ in network.steps}


class Broken(nn.Module):
    """Stands for a kernel that does not compile."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("the first line\nFailed to find C compiler")


def test_what_does_not_compile_is_one_line_that_says_what_does() -> None:
    with pytest.raises(BackendError) as caught:
        compiled(Broken(), MODELS["espcn"], torch.empty(1, 1, 4, 4), "float16", Device("cpu"))
    message = str(caught.value)
    assert message.startswith("triton: compiling espcn failed: ")
    assert message.endswith(": use backend='eager'")
    assert "\n" not in message


def test_bfloat16_is_refused_where_the_gpu_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU of Turing")
    with pytest.raises(BackendError, match=r"8\.0 and newer, and a GPU of Turing is older: use float16"):
        compiled(Broken(), MODELS["espcn"], torch.empty(1, 1, 4, 4), "bfloat16", Device("cuda"))


class Graph:
    """Stands for a CUDA graph."""

    room = True

    def __init__(self, program: Any, x: Tensor) -> None:
        if not self.room:
            raise torch.OutOfMemoryError
        self.program = program

    def __call__(self, x: Tensor) -> Tensor:
        return 2 * x


@pytest.mark.parametrize("room", [True, False])
def test_a_network_of_many_launches_is_recorded_when_it_has_run_often_enough(
    room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[float] = []

    def double(x: Tensor) -> Tensor:
        computed.append(float(x))
        return 2 * x

    monkeypatch.setattr(Graph, "room", room)
    monkeypatch.setattr(triton, "_Recorded", Graph)
    run = triton._Recording(double)
    often: int = load_ops().patience()
    for index in range(often + 2):
        assert run(torch.tensor(float(index))) == 2 * index
    # Each batch is computed once; what a graph replays is not computed here.
    assert computed == list(range(often if room else often + 2))


class Shared(nn.Module):
    """Values that are used twice, residuals both ways, constants on both sides of an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.Sequential(nn.Conv2d(8, 32, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(8))
        self.last = nn.Conv2d(8, 1, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x) * 2 + 0.25
        h = torch.tanh(first)
        h = 0.1 * F.leaky_relu(self.two(h), 0.3) + h
        h = F.relu(self.two(h) + self.two(first))
        result: Tensor = self.last(self.up(h + first)) * 0.5 + 0.5
        return result


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_what_is_fused_keeps_its_order(precision: str, device: Device) -> None:
    torch.manual_seed(6)
    module = Shared().eval().requires_grad_(requires_grad=False)
    nn.init.uniform_(cast("nn.PReLU", module.up[2]).weight, 0.1, 0.9)
    x = torch.rand(1, 1, 4, 5)
    network = compiled(module, NetworkSpec(name="shared", overlap={2: 9}), x, precision, device)
    tolerance = {"float32": 1e-6, "float16": 2e-3, "bfloat16": 2e-2}[precision]
    assert float((network(x.to(device)).cpu() - module(x)).abs().max()) <= tolerance
    assert [runs for runs, _, _ in network.steps].count("kernel: convolution") == 6


def frames(depth: int, count: int) -> list[Frame]:
    generator = np.random.default_rng(depth)
    sizes = ((4, 47), (2, 24), (2, 24))  # wide enough for two tiles of 32
    color = ColorSpec(Matrix.BT709, Range.LIMITED, depth, (1, 1))
    made = []
    for pts in range(count):
        planes = tuple(generator.integers(0, 1 << depth, size, color.dtype) for size in sizes)
        made.append(Frame(planes, pts, Fraction(1, 25), color=color))
    return made


@pytest.mark.parametrize(
    ("name", "depth"), [("espcn", 8), ("espcn", 10), pytest.param("fsrcnn", 8, marks=pytest.mark.slow)]
)
def test_frames_come_out_as_through_eager_whole_and_tiled(name: str, depth: int, device: Device) -> None:
    module, spec = seeded(MODELS[name], 2), MODELS[name]
    made = frames(depth, 3)
    found = []
    for backend, tile in (("eager", "off"), ("triton", "off"), ("triton", 32)):
        how: Any = {"backend": backend, "tile": tile, "batch": 2, "precision": "float16", "device": device.type}
        if backend == "eager":
            how["precision"] = "float32"
        with Upscaler.from_module(module, spec, 2, Execution(**how)) as upscaler:
            found.append(upscaler.upscale(made))
    eager, whole, tiled = found
    for index in range(3):
        for plane in range(3):
            expected, one, other = (result[index].planes[plane] for result in (eager, whole, tiled))
            # Where a row lies in a tile decides in what order some matrix products sum; half precision may show it.
            assert distance(one, other) <= (0 if depth == 8 else 1)
            assert distance(one, expected) <= 1 << max(0, depth - 9)


def test_networks_of_the_backend_take_samples() -> None:
    network = compiled(seeded(MODELS["espcn"], 2), MODELS["espcn"], torch.empty(1, 1, 4, 4), "float16", Device("cpu"))
    assert isinstance(network, SamplesNetwork)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.cuda
def test_it_is_what_runs_where_cuda_is() -> None:
    assert default_backend(Device("cuda")) == "triton"


def test_without_triton_cuda_runs_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr("vsr_plugin.kernels.usable", lambda _: False)
    assert default_backend(Device("cuda")) == "eager"
    assert default_backend(Device("cpu")) == "openvino"
    monkeypatch.setattr("vsr_plugin.kernels.usable", lambda _: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert default_backend(Device("cuda")) == "eager"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert default_backend(Device("cuda")) == "triton"
