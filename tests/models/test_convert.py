"""Other people's weights in our modules give their images and their figures."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests import networks
from vsr_plugin.errors import UsageError, WeightsError
from vsr_plugin.evaluation import evaluate
from vsr_plugin.images import read_images
from vsr_plugin.models import MODELS, build_model, load_model, read_model
from vsr_plugin.models.convert import WeightsFile, convert, convert_file
from vsr_plugin.models.convert.files import Entry, Tensors
from vsr_plugin.models.cost import Undrawn
from vsr_plugin.models.layers import BicubicUpsample

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

# Published figures are given to two decimals, and reproduced within 0.02 dB.
TOLERANCE = 0.025


@dataclass(frozen=True)
class Reference:
    """A file of somebody else's, an image that it made of another, and its PSNR on Set5 in dB."""

    model: str
    scale: int
    file: str
    golden: str
    psnr: float

    def __str__(self) -> str:
        return self.golden


REFERENCES = [
    Reference("srcnn-915", 2, "srcnn/hvrr/model_100.ckpt.npz", "srcnn_hvrr_9_1_5_x2", 33.85),
    Reference("espcn", 2, "espcn/hvrr/model_100.ckpt.npz", "espcn_hvrr_tanh_tanh_sigmoid_x2", 34.82),
    *(
        Reference("espcn", s, f"espcn/fannymonori/ESPCN_x{s}.npz", f"espcn_fannymonori_relu_relu_tanh_out_x{s}", psnr)
        for s, psnr in ((2, 34.69), (3, 30.47), (4, 28.35))
    ),
    *(
        Reference("fsrcnn", s, f"fsrcnn/yjn870/fsrcnn_x{s}.pth", f"fsrcnn_yjn870_56_12_4_x{s}", psnr)
        for s, psnr in ((2, 37.10), (3, 32.58), (4, 30.50))
    ),
    *(
        Reference("vdsr", s, "vdsr/twtygqyy/model_epoch_50.npz", f"vdsr_twtygqyy_x{s}", psnr)
        for s, psnr in ((2, 37.57), (3, 33.74), (4, 31.44))
    ),
    Reference("drcn", 2, "drcn/jiny2001/model_F96_D9_LR0.001000.ckpt.npz", "drcn_jiny2001_F96_D9_x2", 37.33),
    *(
        Reference("drrn", s, "drrn/srzoo_jt827859032/DRRN-B1U25-0000.npz", f"drrn_jt827859032_B1U25_x{s}", psnr)
        for s, psnr in ((2, 37.61), (3, 33.99), (4, 31.67))
    ),
    Reference("lapsrn", 4, "lapsrn/twtygqyy/model_epoch_100.npz", "lapsrn_twtygqyy_x4", 31.62),
    Reference(
        "srresnet",
        4,
        "srgan/srzoo_srresnet_pytorch/SRResNet_4x-0000.npz",
        "srresnet_pytorch_tutorial_RGB_0_1_x4",
        31.86,
    ),
    Reference("edsr-baseline", 2, "edsr/srzoo_krasserm/EDSR-8-x2-0000.npz", "edsr_krasserm_EDSR_8_RGB_0_1_x2", 37.73),
]
SLOW = ("vdsr", "drcn", "drrn")
MEASURED = [
    pytest.param(each, id=str(each), marks=[pytest.mark.slow] if each.model in SLOW else []) for each in REFERENCES
]


@pytest.mark.parametrize("reference", REFERENCES, ids=str)
def test_a_file_makes_its_authors_image(shared: Path, reference: Reference) -> None:
    """Within twice the rounding of plain torch: both are float32, and the sums are in another order."""
    module = load_model(reference.model, reference.scale, shared / "reference_weights" / reference.file)
    if isinstance(getattr(module, "upsample", None), BicubicUpsample):
        module.upsample = nn.Identity()  # these images are enlarged already
    with np.load(shared / "reference_weights" / "golden" / f"{reference.golden}.npz") as arrays:
        x, expected = torch.from_numpy(arrays["input"]), torch.from_numpy(arrays["output"])
    rounded = module(x)
    truth = module.double()(x.double())
    assert (expected - truth).abs().max() <= 2 * (rounded - truth).abs().max()


@pytest.mark.parametrize("reference", MEASURED)
def test_a_file_reaches_its_figure(shared: Path, tmp_path: Path, reference: Reference) -> None:
    source, target = shared / "reference_weights" / reference.file, tmp_path / "ours.safetensors"
    convert_file(source, target, reference.model, reference.scale)
    spec, module = read_model(reference.model, reference.scale, target)
    images = read_images(shared / "Set5" / "HR", spec.channels)
    found = evaluate(module, reference.scale, images, spec.channels).psnr
    assert found == pytest.approx(reference.psnr, abs=TOLERANCE)


@pytest.mark.parametrize("reference", REFERENCES, ids=str)
def test_a_converted_file_is_of_the_same_form(shared: Path, tmp_path: Path, reference: Reference) -> None:
    source, target = shared / "reference_weights" / reference.file, tmp_path / "ours.safetensors"
    convert_file(source, target, reference.model, reference.scale)
    spec, module = read_model(reference.model, reference.scale, source)
    again_spec, again = read_model(reference.model, reference.scale, target)
    assert again_spec == spec
    state = module.state_dict()
    assert all(torch.equal(state[name], value) for name, value in again.state_dict().items())


def test_a_pyramid_gives_its_smaller_scales(shared: Path) -> None:
    file = shared / "reference_weights" / "lapsrn/twtygqyy/model_epoch_100.npz"
    x = torch.rand(1, 1, 12, 14)
    pyramid = load_model("lapsrn", 4, file).pyramid(x)  # type: ignore[operator]
    torch.testing.assert_close(load_model("lapsrn", 2, file)(x), pyramid[0], rtol=0, atol=0)


def test_another_form_has_its_own_overlap(shared: Path) -> None:
    folder = shared / "reference_weights"
    spec, _ = read_model("edsr-baseline", 2, folder / "edsr/srzoo_krasserm/EDSR-8-x2-0000.npz")
    assert (spec.options["blocks"], spec.overlap) == (8, {2: 20})
    spec, _ = read_model("drcn", 2, folder / "drcn/jiny2001/model_F96_D9_LR0.001000.ckpt.npz")
    assert (spec.options["recursions"], spec.overlap) == (9, {2: 8})
    assert MODELS["drcn"].overlap[2] == 12


def test_a_deeper_network_is_not_taken_for_the_papers(tmp_path: Path) -> None:
    deeper = replace(MODELS["edsr-baseline"], options={"blocks": 17})
    torch.save(build_model(deeper, 2).state_dict(), tmp_path / "deeper.pth")
    spec, _ = read_model("edsr-baseline", 2, tmp_path / "deeper.pth")
    assert (spec.options["blocks"], spec.overlap) == (17, {2: 38})


def test_what_is_not_the_same_is_said(shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = shared / "reference_weights" / "espcn/fannymonori/ESPCN_x3.npz"
    assert "full-range luma" in str(convert_file(source, tmp_path / "ours.safetensors", "espcn", 3))
    load_model("espcn", 3, source)
    assert "ESPCN_x3.npz: These weights were trained on full-range luma" in caplog.text


def convolve(x: Tensor, tensors: dict[str, Tensor], name: str) -> Tensor:
    weight = tensors[f"{name}.weight"]
    return nn.functional.conv2d(x, weight, tensors[f"{name}.bias"], padding=weight.shape[-1] // 2)


def block(x: Tensor, tensors: dict[str, Tensor], name: str, residual_scale: float) -> Tensor:
    inside = convolve(torch.relu(convolve(x, tensors, f"{name}.body.0")), tensors, f"{name}.body.2")
    return x + residual_scale * inside


def layers(names: dict[str, tuple[int, int, int]], seed: int = 0) -> dict[str, Tensor]:
    """Random layers of (in, out, kernel); as large as in a network of samples in [0, 255]."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (inside, outside, kernel) in names.items():
        spread = (inside * kernel * kernel) ** -0.5
        tensors[f"{name}.weight"] = spread * torch.randn(outside, inside, kernel, kernel, generator=generator)
        tensors[f"{name}.bias"] = 10 * torch.randn(outside, generator=generator)
    mean = 255 * torch.tensor([0.4488, 0.4371, 0.4040])
    for name, sign in (("sub_mean", -1), ("add_mean", 1)):
        tensors |= {f"{name}.weight": torch.eye(3)[..., None, None], f"{name}.bias": sign * mean}
    return tensors


@pytest.mark.parametrize(
    ("scale", "features", "residual_scale"), [(2, 16, 1.0), (3, 16, 1.0), (4, 16, 1.0), (2, 256, 0.1)]
)
def test_edsr_of_sanghyun_son(tmp_path: Path, scale: int, features: int, residual_scale: float) -> None:
    """Samples in [0, 255], three blocks, and the residual scale of the authors' two sizes."""
    n, r = features, 3 if scale == 3 else 2
    inside = {f"body.{b}.body.{layer}": (n, n, 3) for b in range(3) for layer in (0, 2)}
    stages = {f"tail.0.{2 * stage}": (n, n * r * r, 3) for stage in range(2 if scale == 4 else 1)}
    tensors = layers({"head.0": (3, n, 3), **inside, "body.3": (n, n, 3), **stages, "tail.1": (n, 3, 3)})
    x = torch.rand(1, 3, 7, 9)
    first = h = convolve(255 * x + tensors["sub_mean.bias"][:, None, None], tensors, "head.0")
    for index in range(3):
        h = block(h, tensors, f"body.{index}", residual_scale)
    h = first + convolve(h, tensors, "body.3")
    for stage in stages:
        h = nn.functional.pixel_shuffle(convolve(h, tensors, stage), r)
    expected = (convolve(h, tensors, "tail.1") + tensors["add_mean.bias"][:, None, None]) / 255
    torch.save(tensors, tmp_path / "theirs.pt")
    module = load_model("edsr" if n == 256 else "edsr-baseline", scale, tmp_path / "theirs.pt")
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_mdsr_of_sanghyun_son(tmp_path: Path, scale: int) -> None:
    n = 8
    names = {"head.0": (3, n, 3), "tail.0": (n, 3, 3), "body.2": (n, n, 3)}
    names |= {f"body.{b}.body.{layer}": (n, n, 3) for b in range(2) for layer in (0, 2)}
    names |= {f"pre_process.{s}.{b}.body.{layer}": (n, n, 5) for s in range(3) for b in (0, 1) for layer in (0, 2)}
    names |= {"upsample.0.0": (n, 4 * n, 3), "upsample.1.0": (n, 9 * n, 3)}
    names |= {"upsample.2.0": (n, 4 * n, 3), "upsample.2.2": (n, 4 * n, 3)}
    tensors = layers(names)
    x, index = torch.rand(1, 3, 7, 9), scale - 2
    h = convolve(255 * x + tensors["sub_mean.bias"][:, None, None], tensors, "head.0")
    for each in (0, 1):
        h = block(h, tensors, f"pre_process.{index}.{each}", 1.0)
    first = h
    for each in (0, 1):
        h = block(h, tensors, f"body.{each}", 1.0)
    h = first + convolve(h, tensors, "body.2")
    for stage in (0, 2) if scale == 4 else (0,):
        h = convolve(h, tensors, f"upsample.{index}.{stage}")
        h = nn.functional.pixel_shuffle(h, 3 if scale == 3 else 2)
    expected = (convolve(h, tensors, "tail.0") + tensors["add_mean.bias"][:, None, None]) / 255
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}}, tmp_path / "theirs.pth")
    module = load_model("mdsr", scale, tmp_path / "theirs.pth")
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)


def test_an_edsr_of_another_mean_is_refused(tmp_path: Path) -> None:
    names = {"head.0": (3, 8, 3), "body.0.body.0": (8, 8, 3), "body.0.body.2": (8, 8, 3), "body.1": (8, 8, 3)}
    tensors = layers({**names, "tail.0.0": (8, 32, 3), "tail.1": (8, 3, 3)})
    tensors["sub_mean.bias"] = torch.tensor([-10.0, -20.0, -30.0])
    torch.save(tensors, tmp_path / "theirs.pt")
    with pytest.raises(WeightsError, match=r"sub_mean\.bias: expected the mean color of DIV2K"):
        load_model("edsr-baseline", 2, tmp_path / "theirs.pt")


# Of networks that are the same but for the names, ours → theirs: yjn870's twice, and BasicSR's.
RENAMED = {
    "espcn": (("conv1", "first_part.0"), ("conv2", "first_part.2"), ("conv3", "last_part.0")),
    "srdensenet": (
        (r"input\.0", "conv.conv"),
        (r"blocks\.(\d+)\.layers\.(\d+)\.0", r"dense_blocks.\1.block.\2.conv"),
        ("enlarge", "deconv"),
        ("output", "reconstruction"),
    ),
    "edsr-baseline": (
        ("head", "conv_first"),
        (r"body\.", "conv_after_body."),
        ("tail", "conv_last"),
        ("blocks", "body"),
    ),
}


@pytest.mark.parametrize("name", RENAMED)
def test_networks_that_only_have_other_names(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    state = build(name, 4).state_dict()
    peak = 255 if name == "edsr-baseline" else 1  # of the samples in BasicSR
    theirs = {}
    for key, tensor in state.items():
        other = key
        for pattern, target in RENAMED[name]:
            if re.match(pattern, key):
                other = re.sub(rf"^{pattern}", target, key)
                break
        theirs[other] = tensor * peak if key.endswith("bias") else tensor
    torch.save({"params": theirs}, tmp_path / "theirs.pth")
    loaded = load_model(name, 4, tmp_path / "theirs.pth").state_dict()
    for key, tensor in state.items():
        torch.testing.assert_close(loaded[key], tensor)


def build(name: str, scale: int) -> nn.Module:
    return build_model(MODELS[name], scale)


@pytest.mark.parametrize(("name", "note"), [("srcnn", "repeat the edge"), ("drrn", "rectified features")])
def test_others_with_our_names_are_told_from_ours_by_what_a_file_says(tmp_path: Path, name: str, note: str) -> None:
    """yjn870's SRCNN and jt827859032's DRRN; what `convert_file` writes is ours, and is not asked again."""
    torch.save(build(name, 2).state_dict(), tmp_path / "theirs.pth")
    assert note in str(convert_file(tmp_path / "theirs.pth", tmp_path / "ours.safetensors", name, 2))
    assert convert_file(tmp_path / "ours.safetensors", tmp_path / "again.safetensors", name, 2) is None
    spec, _ = read_model(name, 2, tmp_path / "again.safetensors")
    assert spec is MODELS[name]


def test_weights_for_another_scale_are_refused(tmp_path: Path) -> None:
    """No shape of an FSRCNN tells its scale."""
    torch.save(build("fsrcnn", 2).state_dict(), tmp_path / "ours.pth")
    convert_file(tmp_path / "ours.pth", tmp_path / "ours.safetensors", "fsrcnn", 2)
    with pytest.raises(WeightsError, match=r"ours\.safetensors does not fit fsrcnn ×3: .*×2"):
        load_model("fsrcnn", 3, tmp_path / "ours.safetensors")


def test_options_of_a_file_are_those_of_the_network(tmp_path: Path) -> None:
    state = build("espcn", 2).state_dict()
    save_file(state, tmp_path / "a.safetensors", {"options": json.dumps({"activation": "relu"})})
    x = torch.rand(1, 1, 8, 8)
    module = load_model("espcn", 2, tmp_path / "a.safetensors")
    hidden = torch.relu(module.conv2(torch.relu(module.conv1(x))))  # type: ignore[operator]
    torch.testing.assert_close(module(x), nn.functional.pixel_shuffle(module.conv3(hidden), 2))  # type: ignore[operator]
    for wrong in ("no json", json.dumps({"color": "red"}), json.dumps({"activation": "swish"})):
        save_file(state, tmp_path / "a.safetensors", {"options": wrong})
        with pytest.raises(WeightsError, match="xpected options"):
            load_model("espcn", 2, tmp_path / "a.safetensors")


def test_our_own_weights_pass_unchanged(tmp_path: Path) -> None:
    module = build("fsrcnn-s", 3)
    torch.save(module.state_dict(), tmp_path / "ours.pth")
    assert convert_file(tmp_path / "ours.pth", tmp_path / "ours.safetensors", "fsrcnn-s", 3) is None
    spec, again = read_model("fsrcnn-s", 3, tmp_path / "ours.safetensors")
    assert spec is MODELS["fsrcnn-s"]
    assert all(torch.equal(again.state_dict()[name], value) for name, value in module.state_dict().items())


def test_what_does_not_fit_says_which_tensor_and_why(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", f1=np.zeros((5, 5, 1, 64), np.float32))
    with pytest.raises(WeightsError, match=r"a\.npz does not fit espcn ×3: conv1\.bias: expected \(64,\), got none"):
        convert_file(tmp_path / "a.npz", tmp_path / "b.safetensors", "espcn", 3)
    torch.save(build("espcn", 3).state_dict(), tmp_path / "c.pth")
    with pytest.raises(
        WeightsError, match=r"c\.pth does not fit red30 ×2: expected convolutions\.0\.weight and so on, got c"
    ):
        load_model("red30", 2, tmp_path / "c.pth")
    with pytest.raises(WeightsError, match=r"c\.pth does not fit espcn ×2: conv3\.bias: expected \(4,\), got \(9,\)"):
        load_model("espcn", 2, tmp_path / "c.pth")
    with pytest.raises(UsageError, match="Unknown model"):
        convert_file(tmp_path / "a.npz", tmp_path / "b.safetensors", "waifu", 3)


def test_weights_of_another_model_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_file(build_model(MODELS["vdsr"], 2).state_dict(), file, {"model": "vdsr", "options": '{"layers": 20}'})
    with pytest.raises(WeightsError, match=r"of espcn, got a\.safetensors of vdsr: choose the model vdsr"):
        load_model("espcn", 2, file)


@pytest.mark.parametrize(
    ("asked", "theirs"),
    [
        ("srdensenet", "srdensenet-hl"),
        ("srdensenet-h", "srdensenet"),
        ("srcnn", "srcnn-915"),
        ("fsrcnn", "fsrcnn-s"),
        ("mdsr-baseline", "mdsr"),
        ("edsr-baseline", "edsr"),
    ],
)
def test_the_form_of_another_model_is_named(tmp_path: Path, asked: str, theirs: str) -> None:
    """Without metadata, shapes tell it."""
    with Undrawn():
        state = build(theirs, 2).state_dict()
    if theirs == "edsr":  # 160 MB of numbers that are not looked at
        state = {name: torch.empty(()).expand(tensor.shape) for name, tensor in state.items()}
        file = WeightsFile("a.pth", Tensors("a.pth", {n: Entry(t.to("meta"), t.clone) for n, t in state.items()}))
        with pytest.raises(WeightsError, match=rf"of {asked}, got a\.pth of {theirs}: choose the model {theirs}"):
            convert(file, MODELS[asked], 2)
        return
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=rf"of {asked}, got a\.pth of {theirs}: choose the model {theirs}"):
        load_model(asked, 2, tmp_path / "a.pth")


@pytest.mark.parametrize(("asked", "theirs"), [("drrn-b1u9", "drrn"), ("srresnet", "srgan"), ("srgan", "srresnet")])
def test_where_shapes_do_not_tell_a_model_its_name_does(tmp_path: Path, asked: str, theirs: str) -> None:
    file = tmp_path / "a.safetensors"
    save_file(networks.seeded(networks.small(theirs, 2), 2).state_dict(), file, {"model": theirs})
    with pytest.raises(WeightsError, match=rf"of {asked}, got a\.safetensors of {theirs}: choose the model {theirs}"):
        load_model(asked, 2, file)
    save_file(networks.seeded(networks.small(theirs, 2), 2).state_dict(), file, {"model": f"{theirs} {asked}"})
    load_model(asked, 2, file)


def test_one_file_of_the_catalogue_may_serve_models_of_other_depths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(build("drrn", 2).state_dict(), tmp_path / "drrn.safetensors", {"model": "drrn", "scale": "2 3 4"})
    file = tmp_path / "drrn.safetensors"
    row = {"file": file, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    monkeypatch.setattr("vsr_plugin.models.manifest", lambda: {"drrn-b1u9_x2": row})
    spec, module = read_model("drrn-b1u9", 2)
    assert spec is MODELS["drrn-b1u9"]
    assert module.units == 9


def test_a_drrn_of_another_author_is_not_taken_for_the_one_of_nine_units(tmp_path: Path) -> None:
    names = {"input.weight": "arg:learned_0", "output.weight": "arg:learned_3"}
    names |= {f"conv{index}.weight": f"arg:learned_{index}" for index in (1, 2)}
    arrays: dict[str, Any] = {names[key]: value.numpy() for key, value in build("drrn", 2).state_dict().items()}
    np.savez(tmp_path / "DRRN-B1U25-0000.npz", **arrays)
    with pytest.raises(WeightsError, match=r"of drrn-b1u9, got DRRN-B1U25-0000\.npz of drrn: choose"):
        load_model("drrn-b1u9", 2, tmp_path / "DRRN-B1U25-0000.npz")
    spec, _ = read_model("drrn", 2, tmp_path / "DRRN-B1U25-0000.npz")
    assert spec.options["rectified"]


def test_numbered_layers_and_matlabs_order_are_read(tmp_path: Path) -> None:
    state = build("vdsr", 2).state_dict()
    arrays: dict[str, Any] = {}
    for name, tensor in state.items():
        _, index, part = name.split(".")
        array = tensor.numpy()
        arrays[f"conv{int(index) // 2 + 1}.{part}"] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array[None]
    np.savez(tmp_path / "matlab.npz", **arrays)
    loaded = load_model("vdsr", 2, tmp_path / "matlab.npz").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_an_fsrcnn_may_repeat_its_edges(tmp_path: Path) -> None:
    module = build("fsrcnn-s", 2)
    torch.save(module.state_dict(), tmp_path / "theirs.pth")
    convert_file(tmp_path / "theirs.pth", tmp_path / "a.safetensors", "fsrcnn-s", 2, options={"edges": "repeat"})
    spec, repeating = read_model("fsrcnn-s", 2, tmp_path / "a.safetensors")
    assert spec.options["edges"] == "repeat"
    flat = torch.full((1, 1, 9, 9), 0.5)
    hidden = repeating.mapping(repeating.shrink(repeating.features(flat)))  # type: ignore[operator]
    torch.testing.assert_close(hidden, hidden[..., 4:5, 4:5].expand_as(hidden))
    wide = flat.new_full((1, 1, 19, 19), 0.5)
    inside = module.mapping(module.shrink(module.features(wide)))[..., 5:14, 5:14]  # type: ignore[operator]
    torch.testing.assert_close(hidden, inside)


@pytest.mark.parametrize(("name", "channels"), [("srcnn-915", "three channels"), ("edsr-baseline", "luma alone")])
def test_weights_for_other_channels_say_so(tmp_path: Path, name: str, channels: str) -> None:
    state = build(name, 2).state_dict()
    first = next(iter(key for key, value in state.items() if value.ndim == 4))
    state[first] = state[first][:, :1].repeat(1, 3 if channels == "three channels" else 1, 1, 1)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=rf"{first}: expected .* got .*: these weights are for {channels}"):
        load_model(name, 2, tmp_path / "a.pth")


def test_names_that_are_all_unknown_are_said_of_networks_with_batch_normalisation_too(tmp_path: Path) -> None:
    torch.save({"block1.0.weight": torch.zeros(64, 3, 9, 9)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"expected head\.0\.weight and so on, got block1\.0\.weight, …"):
        load_model("srresnet", 4, tmp_path / "a.pth")


@pytest.mark.parametrize(
    "options", ['{"m": 1000000}', '{"m": -1}', '{"m": true}', '{"m": "4"}', '{"padding": "x"}', 100_000 * "[", "[1]"]
)
def test_options_that_run_away_are_refused(tmp_path: Path, options: str) -> None:
    save_file(build("fsrcnn", 2).state_dict(), tmp_path / "a.safetensors", {"options": options})
    with pytest.raises(WeightsError, match="xpected options"):
        load_model("fsrcnn", 2, tmp_path / "a.safetensors")
