"""The geometric self-ensemble: the mean of eight runs, whatever runs them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests import distance
from tests.networks import Mirrored, seeded, small
from vsr_plugin.backends import Device, open_backend
from vsr_plugin.backends.ensemble import SelfEnsemble, mean_of_eight
from vsr_plugin.engine import Upscaler
from vsr_plugin.execution import Execution, Tile
from vsr_plugin.frames import ColorSpec, Frame, Matrix, Range

if TYPE_CHECKING:
    from torch import Tensor

CPU = Device("cpu")


def the_eight(x: Tensor) -> list[Tensor]:
    """The group written out: four quarter turns of the frame, and of its mirror image."""
    return [torch.rot90(side, quarter, (2, 3)) for side in (x, x.flip(3)) for quarter in range(4)]


def back(results: list[Tensor]) -> list[Tensor]:
    turned = [torch.rot90(result, -(index % 4), (2, 3)) for index, result in enumerate(results)]
    return [result if index < 4 else result.flip(3) for index, result in enumerate(turned)]


@pytest.mark.parametrize("backend", ["eager", "openvino"])
@pytest.mark.parametrize(("name", "scale"), [("espcn", 3), ("lapsrn", 2), ("edsr-baseline", 2), ("mdsr-baseline", 3)])
def test_it_is_the_mean_of_the_eight_runs(backend: str, name: str, scale: int) -> None:
    spec = small(name, scale)
    module = seeded(spec, scale)
    x = torch.rand(2, spec.channels, 14, 23)
    shape = (2, spec.channels, 14, 23)
    lying = (2, spec.channels, 23, 14)
    compiled = [open_backend(backend).compile(module, spec, size, "float32", CPU) for size in (shape, lying)]
    result = SelfEnsemble(*compiled)(x)
    explicit = torch.stack(back([module(way) for way in the_eight(x)]))
    torch.testing.assert_close(result, explicit.mean(0), atol=1e-5, rtol=0)
    assert float((explicit[1] - explicit[0]).abs().max()) > 1e-3  # no network treats all eight alike


def test_what_is_symmetric_stays_as_it_is() -> None:
    x = torch.rand(1, 1, 5, 8)
    torch.testing.assert_close(mean_of_eight(x, lambda y: y, lambda y: y), x)


def frame_of(height: int, width: int, matrix: Matrix) -> Frame:
    planes = np.random.default_rng(5).integers(0, 256, (3, height, width), np.uint8)
    return Frame(tuple(planes), 0, Fraction(1, 25), color=ColorSpec(matrix, Range.FULL))


@pytest.mark.parametrize("backend", ["eager", "openvino"])
@pytest.mark.parametrize(("name", "scale"), [("fsrcnn", 2), ("edsr-baseline", 2), ("vdsr", 3)])
def test_the_upscaler_gives_the_mean_whole_and_in_tiles(backend: str, name: str, scale: int) -> None:
    spec = small(name, scale)
    module, frame = seeded(spec, scale), frame_of(47, 62, Matrix.RGB if name.startswith("edsr") else Matrix.BT709)
    execution = Execution(backend=backend, device="cpu", precision="float32")
    results = {}
    tiles: tuple[tuple[Tile, bool], ...] = (("off", False), ("off", True), (32, True))
    for tile, ensemble in tiles:
        how = replace(execution, tile=tile, self_ensemble=ensemble)
        with Upscaler.from_module(module, spec, scale, how) as upscaler:
            assert upscaler.self_ensemble is ensemble
            results[tile, ensemble] = np.stack(upscaler.upscale([frame])[0].planes)
    whole, tiled = results["off", True], results[32, True]
    assert distance(whole, tiled) <= 1
    assert (whole == tiled).mean() > 0.999
    assert not np.array_equal(whole, results["off", False])
    low = torch.from_numpy(np.stack(frame.planes[: spec.channels]))[None].float() / 255
    network = Mirrored(module, spec.overlap[scale], scale)
    expected = torch.stack(back([network(way) for way in the_eight(low)])).mean(0)[0] * 255
    assert distance(whole[: len(expected)], expected.clamp(0, 255)) <= 0.51


def test_closing_it_frees_both() -> None:
    closed = []

    class Network:
        def __call__(self, x: Tensor) -> Tensor:
            return x

        def close(self) -> None:
            closed.append(self)

    upright, lying = Network(), Network()
    SelfEnsemble(upright, lying).close()
    SelfEnsemble(upright, upright).close()
    assert closed == [upright, lying, upright]
