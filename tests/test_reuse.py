"""What did not change is not computed again, and nobody can tell from the frames."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vsr_plugin.rectangles
import vsr_plugin.reuse
from tests import networks
from tests.networks import seeded
from vsr_plugin.backends.processor import multiplies_bytes
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import UsageError
from vsr_plugin.execution import Execution
from vsr_plugin.frames import ColorSpec, Frame, Matrix, Range
from vsr_plugin.models import MODELS, NetworkSpec
from vsr_plugin.rectangles import Cover, changed_squares
from vsr_plugin.reuse import Reuse
from vsr_plugin.sizes import Size

HEIGHT, WIDTH = 70, 94
YUV420 = ColorSpec(subsampling=(1, 1))
RGB = ColorSpec(Matrix.RGB, Range.FULL)


REAL = vsr_plugin.rectangles._CALL, vsr_plugin.reuse._COMPILING, vsr_plugin.reuse._Networks.cost_of_trial


@pytest.fixture(autouse=True)
def eager_to_reuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rectangles pay in small frames, too, and at once."""
    monkeypatch.setattr(vsr_plugin.rectangles, "_CALL", 0)
    monkeypatch.setattr(vsr_plugin.reuse, "_COMPILING", 0)
    monkeypatch.setattr(vsr_plugin.reuse._Networks, "cost_of_trial", lambda *_: 0)


def frame(seed: int, color: ColorSpec = YUV420, count: int = 3, height: int = HEIGHT, width: int = WIDTH) -> Frame:
    """Noise."""
    generator = np.random.default_rng(seed)
    planes = []
    for index in range(count):
        shape = color.chroma_shape(height, width) if count > 2 and index in (1, 2) else (height, width)
        if color.floating:
            planes.append(generator.random(shape).astype(color.dtype))
        else:
            planes.append(generator.integers(0, color.peak + 1, shape, color.dtype))
    return Frame(tuple(planes), seed, Fraction(1, 25), color=color)


def patched(before: Frame, seed: int, plane: int, top: int, left: int, side: int = 12) -> Frame:
    """The same frame, but for noise in a square of one plane."""
    planes = [one.copy() for one in before.planes]
    noise = frame(seed, before.color, len(planes), before.height, before.width).planes[plane]
    planes[plane][top : top + side, left : left + side] = noise[top : top + side, left : left + side]
    return replace(before, planes=tuple(planes), pts=seed)


def sequence(color: ColorSpec = YUV420, count: int = 3) -> list[Frame]:
    """A patch that moves, repeats, noise in the corners, single samples, other planes, a fade, cuts, other sizes."""
    frames = [frame(0, color, count)]
    for step in range(6):
        frames.append(patched(frames[-1], 1 + step, 0, 8 * step, 13 * step))
    frames.append(frames[-1])
    for top, left in ((0, 0), (0, WIDTH - 3), (HEIGHT - 3, 0), (HEIGHT - 3, WIDTH - 3)):
        frames.append(patched(frames[-1], 10 + top + left, 0, top, left))
    frames.append(patched(frames[-1], 200, 0, 33, 51, 1))
    for plane in range(1, count):
        frames.append(patched(frames[-1], 210 + plane, plane, 4, 7))
    darker = [
        replace(frames[-1], planes=tuple((plane * weight).astype(plane.dtype) for plane in frames[-1].planes))
        for weight in (0.7, 0.4)
    ]
    frames += [*darker, darker[-1], frame(1, color, count), patched(frame(1, color, count), 300, 0, 40, 40)]
    other = frame(2, color, count, 64, 80)
    frames += [other, patched(other, 301, 0, 5, 5), frames[-1], frames[0], patched(frames[0], 302, 0, 60, 10)]
    full = replace(frames[-1], color=replace(color, range=Range.FULL)) if not color.floating else frames[-1]
    return [*frames, full, patched(full, 303, 0, 1, 1)]


def same(a: Frame, b: Frame) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.planes, b.planes, strict=True))


def check(upscaler: Upscaler, frames: list[Frame]) -> float:
    """Every frame of the stream is what it is by itself; gives the share that was not computed."""
    reuse = Reuse()
    for result, alone in zip(upscaler.stage(iter(frames), reuse), frames, strict=True):
        assert same(result, upscaler.upscale([alone])[0]), alone
    return reuse.share


def upscaler_of(name: str, scale: int, **how: Any) -> Upscaler:
    spec = networks.small(name, scale)
    return Upscaler.from_module(seeded(spec, scale), spec, scale, Execution(device="cpu", **how))


@pytest.mark.parametrize("name", MODELS)
def test_every_network_gives_the_same_bytes(name: str) -> None:
    with upscaler_of(name, MODELS[name].scales[0], backend="eager", precision="float32") as upscaler:
        check(upscaler, sequence()[::2])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["espcn", "fsrcnn", "srcnn", "lapsrn", "edsr-baseline"])
def test_openvino_gives_the_same_bytes(name: str, precision: Any) -> None:
    with upscaler_of(name, 2, backend="openvino", precision=precision) as upscaler:
        share = check(upscaler, sequence()[:14])
    assert share > 0.2 if MODELS[name].exact_in_windows else share < 0.1  # no more than frames that repeat


@pytest.mark.parametrize("name", ["espcn", "fsrcnn"])
def test_a_size_whose_results_differ_before_rounding_is_not_used(name: str) -> None:
    """In bfloat16, OpenVINO's results depend on the width of narrow frames; where all is flat, rounding hides it."""
    flat = Frame(
        tuple(np.full(shape, 90, np.uint8) for shape in ((180, 304), (90, 152), (90, 152))),
        0,
        Fraction(1, 25),
        color=YUV420,
    )
    planes = [plane.copy() for plane in flat.planes]
    planes[0][96:104, 160:168] += 1
    frames = [flat, replace(flat, planes=tuple(planes))]
    for step in range(12):
        frames.append(patched(frames[-1], step, 0, 96, 160, 8))
    with Upscaler(name, 2, Execution(backend="openvino", device="cpu", precision="bfloat16")) as upscaler:
        assert check(upscaler, frames) > 0.5  # by other sizes


@pytest.mark.skipif(not multiplies_bytes(), reason="no fast int8")
@pytest.mark.parametrize("scale", [2, 3])
def test_networks_in_8_bits_give_the_same_bytes(scale: int) -> None:
    with Upscaler("espcn", scale, Execution(backend="openvino", device="cpu", precision="int8")) as upscaler:
        assert upscaler.precision == "int8"
        assert check(upscaler, sequence()[:14]) > 0.2


@pytest.mark.parametrize(
    "how", [{"batch": 2}, {"batch": 5}, {"tile": 32}, {"tile": 33, "batch": 3}, {"self_ensemble": True}]
)
@pytest.mark.parametrize("name", ["espcn", "srresnet"])
def test_batches_and_tiles_do_not_matter(name: str, how: dict[str, Any]) -> None:
    with upscaler_of(name, 2, backend="eager", precision="float32", **how) as upscaler:
        check(upscaler, sequence()[::2])


def test_a_self_ensemble_on_openvino_gives_the_same_bytes() -> None:
    with upscaler_of("espcn", 2, backend="openvino", precision="float32", self_ensemble=True) as upscaler:
        assert check(upscaler, sequence()[:8]) > 0.1


@pytest.mark.parametrize(
    ("color", "count"),
    [
        (replace(YUV420, depth=10), 3),
        (replace(YUV420, depth=16), 4),
        (ColorSpec(subsampling=(0, 1)), 3),
        (ColorSpec(), 1),
        (ColorSpec(), 2),
        (RGB, 3),
        (replace(RGB, depth=16), 4),
        (ColorSpec(Matrix.RGB, Range.FULL, 32, floating=True), 3),
        (ColorSpec(depth=16, floating=True), 1),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["espcn", "edsr-baseline"])
def test_every_format_gives_the_same_bytes(name: str, color: ColorSpec, count: int) -> None:
    with upscaler_of(name, 2, backend="eager", precision="float32") as upscaler:
        check(upscaler, sequence(color, count))


def test_a_size_beyond_one_network_is_made_of_the_same_bytes() -> None:
    how = Execution(backend="eager", device="cpu", precision="float32")
    with Upscaler("espcn", Size(height=400), how) as upscaler:
        assert check(upscaler, sequence()[:12]) > 0.1
        assert len(upscaler.scales) == 2


class Counting(nn.Module):
    """Repeats samples, and knows how many it saw; adds ``bias`` times the height of its input."""

    fails = 0  # of all of them, as networks are copies

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        SEEN.append(x.shape[0] * x.shape[2] * x.shape[3])
        if Counting.fails and x.shape[2] != HEIGHT:
            Counting.fails -= 1
            raise torch.OutOfMemoryError("no room")
        return F.interpolate(x, scale_factor=2, mode="nearest") + self.bias * x.shape[2]


SEEN: list[int] = []


def counting(module: nn.Module, **how: Any) -> Upscaler:
    SEEN.clear()
    spec = NetworkSpec(name="counting", overlap={2: 0}, channels=1)
    return Upscaler.from_module(module, spec, 2, Execution(backend="eager", device="cpu", **how))


def still(count: int) -> list[Frame]:
    """Frames in which little changes, always there."""
    frames = [frame(0)]
    for seed in range(1, count):
        frames.append(patched(frames[-1], seed, 0, 30, 40, 6))
    return frames


def test_little_is_computed_where_little_changes() -> None:
    with counting(Counting()) as upscaler:
        reuse = Reuse()
        list(upscaler.stage(iter(still(12)), reuse))
    assert max(SEEN[-8:]) <= 24 * 24
    assert reuse.share > 0.7


@pytest.mark.parametrize("overlap", [0, 8, 36])
def test_trials_cost_no_more_than_they_save(monkeypatch: pytest.MonkeyPatch, overlap: int) -> None:
    monkeypatch.setattr(vsr_plugin.rectangles, "_CALL", REAL[0])
    monkeypatch.setattr(vsr_plugin.reuse, "_COMPILING", REAL[1])
    monkeypatch.setattr(vsr_plugin.reuse._Networks, "cost_of_trial", REAL[2])
    places = np.random.default_rng(0).integers(0, 100, (60, 3)).tolist()
    frames = [frame(0, height=270, width=480)]
    for seed, (top, left, side) in enumerate(places):
        frames.append(patched(frames[-1], seed, 0, 2 * top, 4 * left, 8 + side))
    SEEN.clear()
    spec = NetworkSpec(name="counting", overlap={2: overlap}, channels=1)
    with Upscaler.from_module(Counting(), spec, 2, Execution(backend="eager", device="cpu")) as upscaler:
        for count, _ in enumerate(upscaler.stage(iter(frames)), 1):
            assert sum(SEEN) <= (count + 4) * (270 + 2 * overlap) * (480 + 2 * overlap)
    assert sum(SEEN) < len(frames) * 270 * 480


def test_off_computes_every_frame() -> None:
    frames = still(4)
    with counting(Counting(), reuse="off") as upscaler:
        list(upscaler.stage(iter([*frames, frames[-1]])))
    assert SEEN == [HEIGHT * WIDTH] * 5
    with pytest.raises(UsageError, match="Expected reuse to be 'auto' or 'off', got 'on'"):
        Execution(reuse="on")  # type: ignore[arg-type]


def test_chroma_alone_leaves_the_network_out() -> None:
    with counting(Counting()) as upscaler:
        frames = [frame(0), patched(frame(0), 1, 1, 3, 3)]
        results = list(upscaler.stage(iter(frames)))
        assert SEEN == [HEIGHT * WIDTH]
        assert same(results[1], upscaler.upscale(frames[1:])[0])


def test_a_network_that_sees_the_size_of_its_input_is_found_out() -> None:
    with counting(Counting(bias=0.001)) as upscaler:
        assert check(upscaler, still(6)) == 0.0


def test_results_are_not_written_again() -> None:
    frames = still(6)
    with counting(Counting()) as upscaler:
        results = list(upscaler.stage(iter(frames)))
        assert all(same(result, upscaler.upscale([alone])[0]) for result, alone in zip(results, frames, strict=True))


@pytest.mark.parametrize("batch", [1, 2])
def test_after_a_lack_of_memory_nothing_is_mixed_up(batch: int) -> None:
    frames = still(9)
    with counting(Counting(), batch=batch) as upscaler:
        stage = upscaler.stage(iter(frames))
        results = [next(stage) for _ in range(4)]
        Counting.fails = 1
        results += stage
        assert Counting.fails == 0
        assert all(same(result, upscaler.upscale([alone])[0]) for result, alone in zip(results, frames, strict=True))


def test_two_streams_at_once_do_not_mix() -> None:
    first, second = still(8), [patched(one, 77, 0, 2, 2) for one in still(8)]
    with counting(Counting()) as upscaler:
        stages = upscaler.stage(iter(first)), upscaler.stage(iter(second))
        for both in zip(first, second, strict=True):
            for alone, stage in zip(both, stages, strict=True):
                assert same(next(stage), upscaler.upscale([alone])[0])


def test_where_all_changes_few_frames_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def listening(*args: Any) -> Any:
        compared.append(len(SEEN))
        return changed_squares(*args)

    monkeypatch.setattr(vsr_plugin.reuse, "changed_squares", listening)
    with counting(Counting()) as upscaler:
        list(upscaler.stage(frame(seed) for seed in range(60)))
        assert len(compared) <= 8
        list(upscaler.stage(iter(still(12))))
        assert len(compared) >= 16


# Squares and rectangles.


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("side", [8, 24])
def test_squares_differ_where_samples_do(dtype: Any, side: int) -> None:
    generator = np.random.default_rng(0)
    before = generator.integers(0, 255, (3, 45, 61)).astype(dtype)
    x = before.copy()
    expected = np.zeros((-(-45 // side), -(-61 // side)), bool)
    for channel, row, column in ((0, 0, 0), (1, 44, 60), (2, 20, 33), (0, 8, 59)):
        x[channel, row, column] += 1
        expected[row // side, column // side] = True
    assert np.array_equal(changed_squares(x, before, side), expected)
    assert not changed_squares(x, x.copy(), side).any()
    assert np.array_equal(changed_squares(torch.from_numpy(x), torch.from_numpy(before), side), expected)


@pytest.mark.parametrize(("shape", "overlap", "multiple_of"), [((70, 94), 0, 1), ((96, 64), 5, 1), ((48, 120), 4, 6)])
def test_rectangles_see_all_that_their_results_depend_on(
    shape: tuple[int, int], overlap: int, multiple_of: int
) -> None:
    generator = np.random.default_rng(1)
    cover = Cover(shape, overlap, multiple_of)
    across = -(-overlap // multiple_of) * multiple_of
    squares = tuple(-(-length // cover.side) for length in shape)
    some = [(2 * across + 2 * cover.side, 2 * across + cover.side), (shape[0], 2 * across + cover.side)]
    for density in (0.02, 0.2, 0.6):
        for prices, sizes in ((None, None), (cover.prices(some), some)):
            changed = generator.random(squares) < density
            samples = np.kron(changed, np.ones((cover.side, cover.side), bool))[: shape[0], : shape[1]]
            depends = np.zeros(shape, bool)
            for row, column in np.argwhere(samples):
                depends[max(row - overlap, 0) : row + overlap + 1, max(column - overlap, 0) : column + overlap + 1] = (
                    True
                )
            rectangles = cover.find(changed, prices)
            for one in rectangles:
                assert sizes is None or one.size in sizes
                for window, length, side in zip((one.rows, one.columns), shape, one.size, strict=True):
                    assert window.start % multiple_of == 0
                    assert 0 <= window.start <= length - side
                    assert window.start == window.first == 0 or window.first >= overlap
                    assert window.last <= side - overlap or window.start + side == length
                depends[one.placed(1)] = False
            assert not depends.any()
            assert bool(rectangles) == bool(changed.any())


def test_far_apart_changes_are_covered_apart() -> None:
    changed = np.zeros((40, 40), bool)
    changed[2, 3] = changed[35, 36] = changed[34, 36] = True
    cover = Cover((320, 320), 4)
    assert sorted(one.size for one in cover.find(changed)) == [(40, 40), (40, 40)]
    assert cover.cost(cover.find(changed)) < cover.whole / 20
