"""Every Triton kernel against its plain twin: interpreted on the CPU, or on the device where there is one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

from .judging import judge

pytest.importorskip("triton")

HERE = (
    10 * torch.cuda.get_device_capability()[0] + torch.cuda.get_device_capability()[1]
    if torch.cuda.is_available()
    else 0
)
CASES: Any = [
    case for case in import_module("vsr_plugin.kernels.cases").CASES if case.runs_on(HERE, torch.float16)
]  # what is for one architecture has no interpreter
TRITON_ERROR: Any = import_module("triton.errors").TritonError
LAUNCH: Any = import_module("vsr_plugin.kernels.launch")
STRIP: Any = import_module("vsr_plugin.kernels.strip")
SAMPLING: Any = import_module("vsr_plugin.kernels.sampling")
COLOR: Any = import_module("vsr_plugin.kernels.color")
CONVOLUTION: Any = import_module("vsr_plugin.kernels.convolution")
REFERENCE: Any = import_module("vsr_plugin.kernels.reference")
ESPCN: Any = import_module("vsr_plugin.kernels.espcn")
FSRCNN: Any = import_module("vsr_plugin.kernels.fsrcnn")
EXAMPLES: Any = import_module("vsr_plugin.kernels.examples")

DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device checks them")),
    pytest.param(
        "cuda",
        marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
    ),
]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


SIZES = {torch.float16: [(1, 1, 1), (2, 3, 5), (1, 9, 37)], torch.bfloat16: [(2, 3, 5)], torch.float32: [(2, 3, 5)]}


def takes_long(case: Any) -> bool:
    """FSRCNN as its paper has it is interpreted for seconds."""
    return case.kernel == "fsrcnn" and case.name in ("×3, 8 bits", "×2, float32") and not torch.cuda.is_available()


def _asked() -> Iterator[Any]:
    """Every case in every precision."""
    for case in CASES:
        for dtype in DTYPES:
            slow = takes_long(case) and (case.name, dtype) != ("×3, 8 bits", torch.bfloat16)
            marks = [pytest.mark.slow] if slow else []
            yield pytest.param(case, dtype, id=f"{case.kernel}: {case.name}-{dtype}", marks=marks)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("case", "dtype"), list(_asked()))
def test_a_kernel_is_as_near_the_truth_as_plain_torch(case: Any, dtype: torch.dtype, device: torch.device) -> None:
    if not case.runs_on(HERE, dtype):
        pytest.skip("for 16 bits")
    for n, height, width in SIZES[dtype]:
        work = case.prepare(n, height, width, dtype, device)
        found, plain, truth = work.kernel(), work.plain(dtype)(), work.plain(torch.float64)()
        if isinstance(found, Tensor):
            found, plain, truth = (found,), (plain,), (truth,)
        for result, expected, exact in zip(found, plain, truth, strict=True):
            judge(result, expected, exact, samples=work.samples, dtype=dtype)


WITH_OUT = [
    pytest.param(case, id=f"{case.kernel}: {case.name}", marks=pytest.mark.slow if takes_long(case) else [])
    for case in CASES
    if case.prepare(1, 2, 2, torch.float16, torch.device("cpu")).result is not None
]


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("case", WITH_OUT)
def test_a_plane_with_a_pitch_is_written_and_nothing_around_it(case: Any, device: torch.device) -> None:
    work = case.prepare(2, 3, 7, torch.float16, device)
    expected = work.kernel()
    n, c, h, w = expected.shape
    around = torch.empty((n, c, h + 2, w + 5), dtype=expected.dtype, device=device)
    before = around.clone()
    out = around[:, :, 1:-1, 2:-3]
    assert work.kernel(out=out) is out
    assert torch.equal(out, expected)
    out.copy_(before[:, :, 1:-1, 2:-3])
    assert torch.equal(around.view(torch.uint8), before.view(torch.uint8))


@pytest.mark.parametrize("depth", [8, 9, 10, 12, 16])
def test_samples_are_rounded_as_torch_rounds_them(depth: int, device: torch.device) -> None:
    peak = (1 << depth) - 1
    x = (torch.arange(-3, 4 * peak, max(1, peak // 97), device=device) / 2 / peak)[None, None, None]
    target = REFERENCE.SampleFormat(peak, depth)
    found = SAMPLING.shuffle_to_samples(x, 1, target)
    assert torch.equal(found.int(), REFERENCE.shuffle_to_samples(x, 1, target).int())


def test_any_strides_are_read(device: torch.device) -> None:
    x = torch.rand(1, 8, 6, 5, device=device)
    expected = SAMPLING.pixel_shuffle(x, 2)
    assert torch.equal(expected, REFERENCE.pixel_shuffle(x, 2))
    for other in (x.to(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        assert torch.equal(SAMPLING.pixel_shuffle(other, 2), expected)
    packed = CONVOLUTION.pack(EXAMPLES.random_layer(16, 8, 3), torch.float32, device)
    expected = CONVOLUTION.convolution(x, packed)
    for other in (x.to(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        assert torch.equal(CONVOLUTION.convolution(other, packed), expected)


@pytest.mark.usefixtures("poisoned")
def test_more_than_one_tile_each_way(device: torch.device) -> None:
    layers = EXAMPLES.espcn_layers(2, 16, 16)
    packed = tuple(CONVOLUTION.pack(layer, torch.float32, device) for layer in layers)
    x = torch.rand(1, 1, 9, 65, device=device)
    truth = REFERENCE.chain(x.double(), tuple(EXAMPLES.in_dtype(layer, torch.float64, device) for layer in layers))
    found = ESPCN.KERNEL.run(x, ESPCN.KERNEL.pack(packed))
    assert torch.allclose(found.double(), truth, rtol=0, atol=1e-5)
    h = x
    for layer in packed:
        h = CONVOLUTION.convolution(h, layer)
    assert torch.allclose(h.double(), truth, rtol=0, atol=1e-5)


def wide_espcn(size: int) -> tuple[Any, ...]:
    first, _, last = EXAMPLES.espcn_layers(2, 16, 16)
    return first, EXAMPLES.random_layer(16, 16, size, activation="tanh"), last


def first_of(size: int, layers: tuple[Any, ...]) -> tuple[Any, ...]:
    first = layers[0]
    other = EXAMPLES.random_layer(len(first.weight), 1, size, activation=first.activation)
    return other, *layers[1:]


def before_nan(packed: Any) -> Any:
    """A layer whose weights lie before numbers that no sum survives, for a kernel that reads too far."""
    weight = packed.weight
    memory = torch.full((4 * weight.numel(),), torch.nan, dtype=weight.dtype, device=weight.device)
    memory[: weight.numel()] = weight.flatten()
    return replace(packed, weight=memory[: weight.numel()].view(weight.shape))


@pytest.mark.parametrize(
    ("whole", "layers", "fits"),
    [
        *((FSRCNN.KERNEL, EXAMPLES.fsrcnn_layers(2, d, 12, 1), True) for d in (20, 49)),
        *((FSRCNN.KERNEL, EXAMPLES.fsrcnn_layers(2, d, 12, 1), False) for d in (16, 40, 48, 65)),
        (ESPCN.KERNEL, wide_espcn(9), True),
        (ESPCN.KERNEL, wide_espcn(31), False),
        *((ESPCN.KERNEL, first_of(size, EXAMPLES.espcn_layers(2, 16, 16)), True) for size in (1, 3, 7)),
        *((FSRCNN.KERNEL, first_of(size, EXAMPLES.fsrcnn_layers(2, 20, 12, 1)), True) for size in (1, 3, 7)),
    ],
)
def test_a_network_that_is_said_to_fit_is_computed(whole: Any, layers: Any, fits: bool, device: torch.device) -> None:
    packed = tuple(before_nan(CONVOLUTION.pack(layer, torch.float32, device)) for layer in layers)
    assert whole.fits([one.form for one in packed]) is fits
    if fits:
        x = torch.rand(1, 1, 3, 5, device=device)
        found = whole.run(x, whole.pack(packed))
        exact = tuple(EXAMPLES.in_dtype(layer, torch.float64, device) for layer in layers)
        assert torch.allclose(found.double(), REFERENCE.chain(x.double(), exact), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("strips", "height", "extra", "segments"),
    [
        (18, 1080, 4, 14),  # one frame: 252 programs for 264 places
        (256, 1080, 4, 1),  # eight frames are enough strips
        (300, 1080, 4, 7),  # 2,100 programs in eight rounds, for two rounds of 1,080 rows would be half idle
        (300, 1080, 12, 7),
        (1, 33, 4, 1),  # too few rows for more
        (1, 1, 4, 1),
    ],
)
def test_a_frame_is_cut_so_that_no_processor_waits_long(strips: int, height: int, extra: int, segments: int) -> None:
    rows = STRIP.segment_rows(strips, height, extra, 132)
    assert -(-height // rows) == segments


def test_the_choices_of_autotune_are_few_and_have_no_size_in_their_key() -> None:
    for channels in (16, 32, 48, 64, 128, 192, 256, 576):
        for dtype in DTYPES:
            choices = CONVOLUTION.configs(channels, dtype)
            assert 1 <= len(choices) <= 3
            assert all(channels % choice["BLOCK_N"] == 0 for choice in choices)
    assert len(STRIP.CONFIGS) <= 3
    for name in ("convolution", "sampling", "color", "espcn", "fsrcnn"):
        module = import_module(f"vsr_plugin.kernels.{name}")
        tuned = [value for key, value in vars(module).items() if key.endswith("tuned")]
        assert tuned
        for one in tuned:
            assert not {"height", "width", "out_height", "out_width", "frames"} & set(one._key)


class Launches:
    """Stands for an autotuned kernel: says whether two threads were ever in it at once."""

    def __init__(self) -> None:
        self.inside, self.most, self.both = 0, 0, threading.Event()

    def __getitem__(self, _: Any) -> Any:
        return self

    def __call__(self, *_: Any, **__: Any) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        if self.inside == 2:
            self.both.set()
        self.both.wait(0.2)
        self.inside -= 1


def tuned(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(LAUNCH, "INTERPRETED", False)
    return LAUNCH.Tuned(kernel, key=())


def test_kernels_are_started_by_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    launches, x = Launches(), torch.empty(1)
    one, other = (tuned(launches, monkeypatch) for _ in range(2))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda start: start(lambda _: (1,), [{}], x), (one, other)))
    assert launches.most == 1


CHEAP = {"espcn", "convolution", "pixel_shuffle", "shuffle_to_samples", "enlarge"}  # interpreted, the others take long


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("choice", range(3))
def test_every_choice_of_autotune_computes_the_same(
    choice: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = LAUNCH.Tuned.__call__

    def start_one(self: Any, grid: Any, choices: Any, *args: Any, **kwargs: Any) -> None:
        start(self, grid, [choices[choice % len(choices)]], *args, **kwargs)

    monkeypatch.setattr(LAUNCH.Tuned, "__call__", start_one)
    interpreted = device.type == "cpu"
    seen: set[str] = set()
    for case in CASES:
        if interpreted and (case.kernel in seen or case.kernel not in CHEAP):
            continue
        seen.add(case.kernel)
        # On a device many programs run at once, and strips have many segments.
        work = case.prepare(*((1, 5, 37) if interpreted else (2, 67, 261)), torch.float16, device)
        found, plain, truth = work.kernel(), work.plain(torch.float16)(), work.plain(torch.float64)()
        if isinstance(found, Tensor):
            found, plain, truth = (found,), (plain,), (truth,)
        for result, expected, exact in zip(found, plain, truth, strict=True):
            judge(result, expected, exact, samples=work.samples, dtype=torch.float16)


def test_errors_of_triton_are_errors_of_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise TRITON_ERROR("no such instruction")

    with pytest.raises(RuntimeError, match="TritonError: no such instruction"):
        tuned({(1,): fail}, monkeypatch)((1,), [{}], torch.empty(1))


def test_a_layer_that_is_padded_is_read_without_its_padding(device: torch.device) -> None:
    x = CONVOLUTION.empty((1, 12, 4, 5), torch.float16, device)
    assert x.stride() == (16 * 20, 1, 16 * 5, 16)
    x.untyped_storage().fill_(0xFF)  # NaN, where no channel is
    x.copy_(torch.rand(1, 12, 4, 5))
    packed = CONVOLUTION.pack(EXAMPLES.random_layer(16, 12, 3), torch.float16, device)
    assert bool(CONVOLUTION.convolution(x, packed).isfinite().all())


def test_frames_beyond_what_kernels_count_are_refused() -> None:
    LAUNCH.check_offsets(torch.empty((2, 1, 1 << 16, 1 << 15), device="meta"))  # the last of 2³¹ is 2³¹ − 1 behind
    large = torch.empty((2, 1, (1 << 16) + 1, 1 << 15), dtype=torch.uint8, device="meta")
    for kernel in (SAMPLING.pixel_shuffle, COLOR.enlarge):
        with pytest.raises(RuntimeError, match="expected a frame of at most 2³¹ samples, got 2147516416: use tiles"):
            kernel(large, 1)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.skipif(shutil.which("compute-sanitizer") is None, reason="no compute-sanitizer")
def test_no_kernel_touches_memory_that_is_not_its_own() -> None:
    tests = [sys.executable, "-m", "pytest", "-m", "cuda", __file__, "-k", "truth and float16 or pitch"]
    watched = ["compute-sanitizer", "--error-exitcode", "9", "--kernel-regex", "kns=_kernel", *tests]
    done = subprocess.run(watched, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
