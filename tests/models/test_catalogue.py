"""The catalogue against the architectures, the published counts, and the shipped weights."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.networks import CHOSEN
from vsr_plugin.errors import UsageError, WeightsError
from vsr_plugin.evaluation import evaluate
from vsr_plugin.images import read_images
from vsr_plugin.models import CLEAN, MODELS, build_model, find_model, load_model, manifest
from vsr_plugin.models.cost import macs, parameters, radius
from vsr_plugin.models.specs import weights_key

if TYPE_CHECKING:
    from pathlib import Path

# name: scale → parameters without biases and slopes, as the papers count them; behind it what the paper, or a later
# table of the same network, says.
PUBLISHED = {
    "srcnn-915": dict.fromkeys((2, 3, 4), 8_032),  # 8,032
    "srcnn": dict.fromkeys((2, 3, 4), 57_184),  # 57 K
    "fsrcnn": dict.fromkeys((2, 3, 4), 12_464),  # 12,464
    "fsrcnn-s": dict.fromkeys((2, 3, 4), 3_937),  # 3,937
    "espcn": {2: 21_184, 3: 22_624, 4: 24_640},  # 20 to 25 K
    "vdsr": dict.fromkeys((2, 3, 4), 664_704),  # 665 K
    "drcn": dict.fromkeys((2, 3, 4), 1_774_080),  # 1,775 K
    "red30": dict.fromkeys((2, 3, 4), 4_131_072),  # 4,131 K
    "drrn": dict.fromkeys((2, 3, 4), 297_216),  # 297 K
    "drrn-b1u9": dict.fromkeys((2, 3, 4), 297_216),  # 297 K
    "lapsrn": {2: 406_672, 4: 812_768, 8: 665_904},  # ×4: 812 K
    "srdensenet": {2: 2_067_840, 4: 2_657_664},
    "srdensenet-hl": {2: 1_256_832, 4: 1_846_656},
    "srdensenet-h": {2: 961_920, 4: 1_551_744},
    "srresnet": {2: 1_395_072, 4: 1_542_528},  # ×4: 1.5 M
    "srgan": {2: 1_395_072, 4: 1_542_528},
    "edsr-baseline": {2: 1_367_424, 3: 1_551_744, 4: 1_514_880},  # 1.37, 1.55, 1.52 M
    "edsr": {2: 40_711_680, 3: 43_660_800, 4: 43_070_976},  # 40.7, 43.7, 43.1 M
    "mdsr-baseline": dict.fromkeys((2, 3, 4), 3_222_912),  # 3.23 M
    "mdsr": dict.fromkeys((2, 3, 4), 7_941_504),  # 7.95 M
}

# dB on Set5 that the shipped weights must have.
SET5 = {
    "srcnn": {2: 36.3, 3: 32.4, 4: 30.1},
    "fsrcnn": {2: 36.94, 3: 33.06, 4: 30.55},
    "espcn": {2: 36.65, 3: 32.70, 4: 30.35},
}

EVERY = [pytest.param(name, scale, id=f"{name}-x{scale}") for name, spec in MODELS.items() for scale in spec.scales]
KEYS = [(name, scale) for name, spec in MODELS.items() for scale in spec.scales]
PERTURBED = ("srcnn", "srcnn-915", "fsrcnn", "fsrcnn-s", "espcn", "lapsrn")  # one pixel does not drown in the others
SHIPPED = [pytest.param(key, id=key) for key in manifest()]


def test_every_model_is_in_the_table() -> None:
    assert set(PUBLISHED) == set(MODELS)


# Widths on which no receptive field depends: they only cost time.
NARROW = {
    "drcn": {"features": 4},
    "red30": {"features": 4},
    "drrn": {"features": 4},
    "drrn-b1u9": {"features": 4},
    "srdensenet": {"growth": 2},
    "srdensenet-hl": {"growth": 2},
    "srdensenet-h": {"growth": 2},
    "edsr": {"features": 4},
    "mdsr": {"features": 4},
}


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_size_and_work_are_what_the_catalogue_says(name: str, scale: int) -> None:
    spec = MODELS[name]
    module = build_model(spec, scale)
    weights = sum(parameter.numel() for parameter in module.parameters() if parameter.ndim == 4)
    assert name in PUBLISHED, "the paper's number of weights belongs there"
    assert weights == PUBLISHED[name][scale]
    assert (parameters(module), macs(module)) == spec.cost[scale]
    side = 2000  # the mirrored edges, which are not counted, are a few of its pixels
    with FlopCounterMode(display=False) as counted, torch.device("meta"):
        module.to("meta")(torch.zeros(1, spec.channels, side, side))
    assert counted.get_total_flops() / 2 / side**2 == pytest.approx(spec.cost[scale][1], rel=0.005)


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_output_is_scale_times_larger(name: str, scale: int) -> None:
    spec = MODELS[name]
    module = build_model(replace(spec, options={**spec.options, **NARROW.get(name, {})}), scale)
    output = module(torch.rand(2, spec.channels, 11, 14))
    assert output.shape == (2, spec.channels, 11 * scale, 14 * scale)


@pytest.mark.parametrize(("name", "scale"), CHOSEN)
def test_overlap_is_how_far_an_output_sample_sees(name: str, scale: int) -> None:
    spec = MODELS[name]
    module = build_model(replace(spec, options={**spec.options, **NARROW.get(name, {})}), scale)
    assert radius(module, scale, spec.channels) == spec.overlap[scale]


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name, scale in KEYS if name in PERTURBED])
def test_a_perturbed_pixel_is_seen_as_far_as_the_overlap_and_no_farther(name: str, scale: int) -> None:
    spec = MODELS[name]
    overlap = spec.overlap[scale]
    torch.manual_seed(0)
    module = build_model(spec, scale).double()
    for parameter in module.parameters():
        if parameter.ndim == 4:
            torch.nn.init.uniform_(parameter, 0.01, 0.02)  # nothing cancels, no ReLU closes
        else:
            torch.nn.init.constant_(parameter, 0.25)
    side = 2 * overlap + 5
    middle = side // 2
    x = torch.rand(1, spec.channels, side, side, dtype=torch.float64)
    perturbed = x.clone()
    perturbed[..., middle, middle] += 1
    with torch.no_grad():
        rows, columns = (module(x) - module(perturbed))[0, 0].nonzero().unbind(1)
    for seen in (rows, columns):  # the input pixel in which an output sample lies
        assert int((seen.div(scale, rounding_mode="floor") - middle).abs().max()) == overlap


def test_an_unknown_model_or_scale_says_what_is_known() -> None:
    with pytest.raises(
        UsageError, match=r"Unknown model 'espnc'\. Did you mean 'espcn'\? Known models: drrn, drrn-b1u9, edsr-base"
    ):
        find_model("espnc", 3)
    with pytest.raises(UsageError, match=r"Did you mean 'srcnn'\?.*srresnet, vdsr; without weights: drcn, "):
        find_model("srgn", 2)  # nearer to srgan, which has no weights
    with pytest.raises(UsageError, match=r"Unknown model 'realesrgan'\. Known models: "):  # not srgan
        find_model("realesrgan")
    with pytest.raises(UsageError, match=r"Unknown model 'ESPCN'\. Did you mean 'espcn'\?"):
        find_model("ESPCN")
    with pytest.raises(UsageError, match=r"'espcn' has no scale 5\. Its scales: 2, 3, 4"):
        find_model("espcn", 5)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "mine.safetensors"
    save_file({"conv1.weight": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match=r"mine\.safetensors does not fit espcn ×3: conv1\.bias"):
        load_model("espcn", 3, file)
    file.write_text("no tensors")
    with pytest.raises(WeightsError, match=r"Cannot read weights from 'mine\.safetensors'"):
        load_model("espcn", 3, file)
    with pytest.raises(WeightsError, match=r"No such file: .*absent\.safetensors"):
        load_model("espcn", 3, tmp_path / "absent.safetensors")


@pytest.mark.parametrize("key", SHIPPED)
def test_shipped_weights_load_and_are_the_files_of_the_manifest(key: str) -> None:
    row = manifest()[key]
    tuned_for = row.get("tuned_for", CLEAN)
    assert key == weights_key(row["model"], row["scale"], tuned_for)
    file = MODELS[row["model"]].weights(row["scale"], tuned_for)
    assert file is not None
    content = (resources.files("vsr_plugin.weights") / file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == row["sha256"]
    load_model(row["model"], row["scale"], tuned_for=tuned_for)
    assert not {"Set5", "Set14"} & {part for folder in row["trained_on"] for part in folder.split("/")}


def test_shipped_weights_that_are_not_as_they_were_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(manifest(), "espcn_x2", {**manifest()["espcn_x2"], "sha256": "0" * 64})
    with pytest.raises(WeightsError, match=r"espcn_x2\.safetensors is damaged"):
        load_model("espcn", 2)


def test_every_weight_file_is_in_the_manifest() -> None:
    files = {entry.name for entry in resources.files("vsr_plugin.weights").iterdir() if "safetensors" in entry.name}
    quantized = {row["int8"]["file"]: row["int8"]["sha256"] for row in manifest().values() if "int8" in row}
    assert files == {row.get("file", f"{key}.safetensors") for key, row in manifest().items()} | quantized.keys()
    for file, checksum in quantized.items():
        assert hashlib.sha256((resources.files("vsr_plugin.weights") / file).read_bytes()).hexdigest() == checksum


def test_a_file_that_serves_all_scales_is_named_in_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"vdsr_x2": {"file": "vsr.safetensors"}, "vdsr_x3": {"file": "vsr.safetensors"}, "espcn_x2": {}}
    monkeypatch.setattr("vsr_plugin.models.manifest", lambda: rows)
    assert [MODELS["vdsr"].weights(scale) for scale in (2, 3, 4)] == ["vsr.safetensors", "vsr.safetensors", None]
    assert MODELS["espcn"].weights(2) == "espcn_x2.safetensors"


def test_without_shipped_weights_the_cost_of_training_them_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsr_plugin.models.manifest", dict)
    with pytest.raises(WeightsError, match=r"fsrcnn-s ×3 \(to train them .* TFLOP\): use weights='FILE'"):
        load_model("fsrcnn-s", 3)
    with pytest.raises(WeightsError, match=r"edsr ×2 \(to train them takes about 300,000 steps of 9 TFLOP\)"):
        load_model("edsr", 2)


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name, scales in SET5.items() for scale in scales])
def test_shipped_weights_reach_the_papers(shared: Path, name: str, scale: int) -> None:
    scores = evaluate(load_model(name, scale), scale, read_images(shared / "Set5" / "HR"))
    assert scores.psnr >= SET5[name][scale]
    row = manifest()[f"{name}_x{scale}"]
    assert scores.psnr == pytest.approx(row["set5"]["psnr"], abs=0.005)
    assert scores.ssim == pytest.approx(row["set5"]["ssim"], abs=0.0005)
