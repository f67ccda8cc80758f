"""How others name, arrange and scale the weights of networks of RGB: one row of `LAYOUTS` for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import WeightsError
from ..layers import MeanShift
from .layout import Layout, in_unit_range, numbered, table

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

    from torch import Tensor

    from .layout import Tensors


def _edsr_layers(convolutions: int) -> list[str]:
    """×2 and ×3 have an even number of convolutions, ×4 has one more stage and an odd one."""
    stages = 1 + convolutions % 2
    blocks = (convolutions - 3 - stages) // 2
    inside = [f"blocks.{block}.conv{layer}" for block in range(blocks) for layer in (1, 2)]
    return ["head", *inside, "body", *(f"upsample.{2 * stage}" for stage in range(stages)), "tail"]


def _srresnet_layers(convolutions: int) -> list[str]:
    """×2 has an even number of convolutions, ×4 an odd one."""
    stages = 1 + convolutions % 2
    blocks = (convolutions - 3 - stages) // 2
    inside = [f"blocks.{block}.layers.{layer}" for block in range(blocks) for layer in (0, 3)]
    return ["head.0", *inside, "body.0", *(f"upsample.{3 * stage}" for stage in range(stages)), "tail"]


def _srresnet_norms(norms: int) -> list[str]:
    return [*(f"blocks.{index // 2}.layers.{1 + 3 * (index % 2)}" for index in range(norms - 1)), "body.1"]


def _srresnet_slopes(slopes: int) -> list[str]:
    """One in the head, one a block, and one a stage, of which there are two in the networks known here."""
    return ["head.1", *(f"blocks.{block}.layers.2" for block in range(slopes - 3)), "upsample.2", "upsample.5"]


def _edsr_of_sanghyun_son(tensors: Tensors, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The shift of the mean says which samples the network takes: usually those in [0, 255]."""
    if "sub_mean.bias" not in tensors:
        return in_unit_range(state, 255.0)
    shift, mean = -tensors["sub_mean.bias"].float(), MeanShift().mean.flatten()
    peak = float(shift.sum() / mean.sum())
    if shift.shape != mean.shape or (shift / peak - mean).abs().max() > 1e-3:
        raise WeightsError(f"sub_mean.bias: expected the mean color of DIV2K, {mean.tolist()}, got {shift.tolist()}")
    return in_unit_range(state, peak)


def _edsr_of_krasserm(_: Tensors, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Samples go in doubled and come out halved; TensorFlow's pixel shuffle has the phase before the channel."""
    factors = {"head.weight": 2.0, "tail.weight": 0.5, "tail.bias": 0.5}
    folded = {name: tensor * factors.get(name, 1.0) for name, tensor in state.items()}
    for name, tensor in folded.items():
        if name.startswith("upsample."):
            features = state["tail.weight"].shape[1]
            folded[name] = tensor.reshape(-1, features, *tensor.shape[1:]).transpose(0, 1).reshape(tensor.shape)
    return folded


def _scale_of(part: str) -> Callable[[re.Match[str], Tensors], str]:
    """MDSR's parts for the first, second and third of its scales."""
    return lambda found, _: found.expand(part.replace("{scale}", str(int(found[1]) + 2)))


def _layer_of_block(part: str) -> Callable[[re.Match[str], Tensors], str]:
    """A residual block as convolution 0, ReLU 1, convolution 2; the convolution is the last group but one."""
    return lambda found, tensors: _scale_of(part)(found, tensors).replace(
        "{layer}", str(1 + int(found[found.re.groups - 1]) // 2)
    )


_SHIFT = (r"(?:sub|add)_mean\.(?:weight|bias)", None)

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "SRResNet",
        r"arg:batchnorm0_gamma",
        numbered(convolution=_srresnet_layers, batchnorm=_srresnet_norms, leakyrelu=_srresnet_slopes),
    ),
    Layout("EDSR", r"arg:convolution0_weight", numbered(convolution=_edsr_layers), fold=_edsr_of_krasserm),
    Layout(  # of sanghyun-son
        "EDSR",
        r"body\.0\.body\.0\.weight",
        table(
            (r"head\.0\.(.+)", r"head.\1"),
            (r"body\.(\d+)\.body\.([02])\.(.+)", _layer_of_block(r"blocks.\1.conv{layer}.\3")),
            (r"body\.\d+\.(weight|bias)", r"body.\1"),
            (r"tail\.0\.(.+)", r"upsample.\1"),
            (r"tail\.1\.(.+)", r"tail.\1"),
            _SHIFT,
        ),
        fold=_edsr_of_sanghyun_son,
    ),
    Layout(  # of BasicSR
        "EDSR",
        r"conv_after_body\.weight",
        table(
            (r"conv_first\.(.+)", r"head.\1"),
            (r"body\.(\d+\.conv[12]\..+)", r"blocks.\1"),
            (r"conv_after_body\.(.+)", r"body.\1"),
            (r"conv_last\.(.+)", r"tail.\1"),
        ),
        fold=_edsr_of_sanghyun_son,
    ),
    Layout(  # of sanghyun-son
        "MDSR",
        r"pre_process\.0\.0\.body\.0\.weight",
        table(
            (r"head\.0\.(.+)", r"head.\1"),
            (r"pre_process\.(\d)\.(\d)\.body\.([02])\.(.+)", _layer_of_block(r"preprocess.x{scale}.\2.conv{layer}.\4")),
            (r"body\.(\d+)\.body\.([02])\.(.+)", _layer_of_block(r"blocks.\1.conv{layer}.\3")),
            (r"body\.\d+\.(weight|bias)", r"body.\1"),
            (r"upsample\.(\d)\.(.+)", _scale_of(r"upsample.x{scale}.\2")),
            (r"tail\.0\.(.+)", r"tail.\1"),
            _SHIFT,
        ),
        fold=_edsr_of_sanghyun_son,
    ),
)
