"""The catalogue: one row per model, known before any weight is read, and `load_model`, which builds one.

Adding a model is one file beside this one and one row in `MODELS`. Nothing here imports torch before a model is loaded,
so that front ends can list and check names at once.
"""

from __future__ import annotations

import difflib
import logging
import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

_log = logging.getLogger(__name__)

_STEPS = 300_000  # of a paper's training (Lim, CVPRW 2017); fewer lose tenths of a dB


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """What must be known of a network to run it.

    Attributes:
        overlap: Receptive-field radius in input pixels, per scale: what a tile must see around itself to be exact.
        channels: 1 for a network of luma, 3 for a network of RGB.
        multiple_of: Input height and width must be multiples of this.
        name: What messages and reports call it.

    Raises:
        UsageError: no scale, an overlap below 0, channels other than 1 and 3, or a multiple below 1.
    """

    overlap: Mapping[int, int]
    channels: int = 1
    multiple_of: int = 1
    name: str = "own network"

    def __post_init__(self) -> None:
        if not self.overlap or any(scale < 1 or radius < 0 for scale, radius in self.overlap.items()):
            raise UsageError(f"Expected an overlap of 0 or more input pixels for every scale, got {dict(self.overlap)}")
        if self.channels not in (1, 3):
            raise UsageError(f"Expected 1 channel (luma) or 3 (RGB), got {self.channels}")
        if self.multiple_of < 1:
            raise UsageError(f"Expected an input size that is a multiple of 1 or more, got {self.multiple_of}")

    @property
    def scales(self) -> tuple[int, ...]:
        """The scales the network has."""
        return tuple(self.overlap)


@dataclass(frozen=True, slots=True)
class ModelSpec(NetworkSpec):
    """A row of the catalogue: what must be known of a model before its weights are read.

    Attributes:
        name: What the user types.
        paper: First author, venue and year.
        architecture: ``module:class`` inside this package.
        shared: Whether one set of weights serves all scales.
        options: Further arguments of the class.
    """

    name: str
    paper: str
    architecture: str
    shared: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def weights(self, scale: int) -> str | None:
        """File name of the shipped weights for ``scale``, or None if none are shipped."""
        key = f"{self.name}_x{scale}"
        row = manifest().get(key)
        return None if row is None else str(row.get("file", f"{key}.safetensors"))


_SRCNN = "srcnn:SRCNN"
_FSRCNN = "fsrcnn:FSRCNN"
_SRDENSENET = "srdensenet:SRDenseNet"
_SRRESNET = "srresnet:SRResNet"
_EDSR = "edsr:EDSR"
_MDSR = "mdsr:MDSR"
_FULL_EDSR = {"blocks": 32, "features": 256, "residual_scale": 0.1}

MODELS: Mapping[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec("srcnn", "Dong, TPAMI 2016 (9-5-5)", _SRCNN, overlap={2: 6, 3: 4, 4: 4}),
        ModelSpec("srcnn-915", "Dong, ECCV 2014 (9-1-5)", _SRCNN, overlap={2: 5, 3: 4, 4: 3}, options={"middle": 1}),
        ModelSpec("fsrcnn", "Dong, ECCV 2016 (56, 12, 4)", _FSRCNN, overlap={2: 8, 3: 7, 4: 7}),
        ModelSpec(
            "fsrcnn-s",
            "Dong, ECCV 2016 (32, 5, 1)",
            _FSRCNN,
            overlap={2: 5, 3: 4, 4: 4},
            options={"d": 32, "s": 5, "m": 1},
        ),
        ModelSpec("espcn", "Shi, CVPR 2016", "espcn:ESPCN", overlap={2: 4, 3: 4, 4: 4}),
        ModelSpec("vdsr", "Kim, CVPR 2016", "vdsr:VDSR", overlap={2: 12, 3: 8, 4: 7}, shared=True),
        ModelSpec("drcn", "Kim, CVPR 2016 (16 recursions)", "drcn:DRCN", overlap={2: 12, 3: 8, 4: 7}, shared=True),
        ModelSpec("red30", "Mao, NIPS 2016 (128 filters)", "red:RED", overlap={2: 17, 3: 12, 4: 9}, shared=True),
        ModelSpec("drrn", "Tai, CVPR 2017 (B1U25)", "drrn:DRRN", overlap={2: 28, 3: 19, 4: 15}, shared=True),
        ModelSpec(
            "drrn-b1u9",
            "Tai, CVPR 2017 (B1U9)",
            "drrn:DRRN",
            overlap={2: 12, 3: 8, 4: 7},
            shared=True,
            options={"units": 9},
        ),
        ModelSpec("lapsrn", "Lai, CVPR 2017", "lapsrn:LapSRN", overlap={2: 12, 4: 17, 8: 11}),
        ModelSpec("srdensenet", "Tong, ICCV 2017 (All)", _SRDENSENET, overlap={2: 66, 4: 66}),
        ModelSpec(
            "srdensenet-hl", "Tong, ICCV 2017 (HL)", _SRDENSENET, overlap={2: 66, 4: 66}, options={"skip": "low"}
        ),
        ModelSpec("srdensenet-h", "Tong, ICCV 2017 (H)", _SRDENSENET, overlap={2: 66, 4: 66}, options={"skip": "high"}),
        ModelSpec("srresnet", "Ledig, CVPR 2017", _SRRESNET, overlap={2: 40, 4: 40}, channels=3),
        ModelSpec("srgan", "Ledig, CVPR 2017 (adversarial)", _SRRESNET, overlap={2: 40, 4: 40}, channels=3),
        ModelSpec("edsr-baseline", "Lim, CVPRW 2017 (16 × 64)", _EDSR, overlap={2: 36, 3: 36, 4: 36}, channels=3),
        ModelSpec(
            "edsr", "Lim, CVPRW 2017 (32 × 256)", _EDSR, overlap={2: 68, 3: 68, 4: 68}, channels=3, options=_FULL_EDSR
        ),
        ModelSpec(
            "mdsr-baseline", "Lim, CVPRW 2017 (16 × 64)", _MDSR, overlap={2: 44, 3: 44, 4: 44}, channels=3, shared=True
        ),
        ModelSpec(
            "mdsr",
            "Lim, CVPRW 2017 (80 × 64)",
            _MDSR,
            overlap={2: 172, 3: 172, 4: 172},
            channels=3,
            shared=True,
            options={"blocks": 80},
        ),
    )
}


def find_model(name: str, scale: int | None = None) -> ModelSpec:
    """Look up a model that has this scale; with any scales for None.

    Raises:
        UsageError: an unknown name (the message lists the known ones) or a scale the model lacks.
    """
    if name not in MODELS:
        close = difflib.get_close_matches(name, MODELS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"Unknown model {name!r}.{hint} Known models: {', '.join(sorted(MODELS))}")
    spec = MODELS[name]
    if scale is not None and scale not in spec.scales:
        raise UsageError(f"Model {name!r} has no scale {scale}. Its scales: {', '.join(map(str, spec.scales))}")
    return spec


@cache
def manifest() -> Mapping[str, Mapping[str, Any]]:
    """The rows of weights/manifest.toml: ``espcn_x3`` → sha256, training, measured PSNR; file, if it serves several."""
    path = resources.files("vsr_plugin.weights") / "manifest.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def build_model(spec: ModelSpec, scale: int) -> nn.Module:
    """The architecture with fresh weights, as a module in [0, 1], (N, C, H, W) → (N, C, H·scale, W·scale)."""
    return architecture(spec)(scale, **spec.options)


def architecture(spec: ModelSpec) -> type[nn.Module]:
    """The class of a model's network; its first argument is the scale, the others are options."""
    module_name, class_name = spec.architecture.split(":")
    found: type[nn.Module] = getattr(import_module(f".{module_name}", __name__), class_name)
    return found


def set_scale(module: nn.Module, scale: int) -> None:
    """Make a module whose weights serve all scales (`ModelSpec.shared`) enlarge by another."""
    for part in module.modules():
        if hasattr(part, "scale"):  # the enlargement in front, or a network that has a branch for each
            part.scale = scale  # type: ignore[assignment]


def load_model(name: str, scale: int, weights: str | Path | None = None) -> nn.Module:
    """Build a model and read its weights: the shipped ones, or a file of the user's own.

    Args:
        name: A name out of `MODELS`.
        scale: One that the model has.
        weights: .safetensors, .pth, .pt or .npz, of ours or in a layout of somebody else's that is known (nothing in it
            is executed); the network is then of the form that the weights are of.

    Returns:
        The network in float32 on the CPU, in evaluation mode.

    Raises:
        UsageError: an unknown model or scale.
        WeightsError: no weights are shipped, or the file is missing, corrupt or of another architecture.
    """
    return read_model(name, scale, weights)[1]


def _training_step(spec: ModelSpec, scale: int) -> float:
    """FLOP of one step on 16 patches of 48 × 48 input pixels (Lim, CVPRW 2017): forward, and backward twice that."""
    from .cost import Undrawn, macs

    with Undrawn():
        return 6.0 * macs(build_model(spec, scale)) * 16 * 48 * 48


def read_model(name: str, scale: int, weights: str | Path | None = None) -> tuple[ModelSpec, nn.Module]:
    """`load_model`, and what is known of the network: its overlap is not the catalogue's, if it is of another form."""
    from .convert import convert, read_weights

    spec = find_model(name, scale)
    if weights is None:
        shipped = spec.weights(scale)
        if shipped is None:
            one_for_all = "" if spec.shared else f" -x {scale}"
            raise WeightsError(
                f"No weights are shipped for {name} ×{scale}: give your own with --weights FILE, "
                f"or train them with `vsr train {name}{one_for_all} --data FOLDER`, in some {_STEPS:,} steps of "
                f"{_training_step(spec, scale) / 1e12:.1g} TFLOP each"
            )
        weights = str(resources.files("vsr_plugin.weights") / shipped)
    converted = convert(read_weights(Path(weights)), spec, scale)
    if converted.note:
        _log.warning("%s: %s", Path(weights).name, converted.note)
    module = build_model(converted.spec, scale)
    module.load_state_dict(converted.state)
    return converted.spec, module.eval().requires_grad_(requires_grad=False)
