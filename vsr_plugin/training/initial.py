"""First weights: those of the papers, and a start from bicubic with awake nonlinearity.

A tiny network that starts from noise spends most of its training becoming a linear filter, and a tanh network stays one
for a very long time. From bicubic, a few channels carry the bicubic enlargement through the network from the first
step, and all other filters are random, without a mean, and scaled so that their response to real patches has a given
standard deviation. A deep network starts from bicubic by itself if its residual starts near zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..kernels import cubic, enlarge
from ..models.drcn import DRCN
from ..models.drrn import DRRN
from ..models.edsr import EDSR
from ..models.espcn import ESPCN
from ..models.fsrcnn import FSRCNN
from ..models.lapsrn import LapSRN
from ..models.layers import ResidualBlock
from ..models.mdsr import MDSR
from ..models.red import RED
from ..models.srcnn import SRCNN
from ..models.srdensenet import SRDenseNet
from ..models.srresnet import SRResNet
from ..models.vdsr import VDSR

_LAST = 1e-3  # standard deviation of the weights that add to the bicubic picture


@torch.no_grad()
def default(module: nn.Module, patches: Tensor, generator: torch.Generator) -> None:
    """What torch gives a new layer, from the generator's seed."""
    for layer in _layers(module):
        for parameter in layer.parameters(recurse=False):
            parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) / _fan_in(layer) ** 0.5)


@torch.no_grad()
def gaussian(module: nn.Module, patches: Tensor, generator: torch.Generator) -> None:
    """SRCNN's: weights of standard deviation 0.001, no bias (Dong et al., TPAMI 2016, section 3.3)."""
    for layer in _layers(module):
        _randomize_last(layer, generator)


@torch.no_grad()
def msra(module: nn.Module, patches: Tensor, generator: torch.Generator) -> None:
    """He et al. 2015, no bias; for FSRCNN's PReLU of slope 0.25, with a Gaussian of 0.001 for its deconvolution."""
    slope = 0.25 if isinstance(module, FSRCNN) else 0.0
    for layer in _layers(module):
        _randomize_last(layer, generator)
        if layer.in_channels == layer.out_channels == 1:
            _bilinear(layer)
        elif not (isinstance(module, FSRCNN) and isinstance(layer, nn.ConvTranspose2d)):
            layer.weight.mul_((2.0 / (1.0 + slope**2) / _fan_in(layer)) ** 0.5 / _LAST)


@torch.no_grad()
def start_from_bicubic(module: nn.Module, patches: Tensor, generator: torch.Generator) -> None:
    """Ours: a few channels carry the bicubic picture, the others respond to the patches from the first step.

    Args:
        module: One of the networks in `_FROM_BICUBIC`.
        patches: (N, C, H, W) small patches in [0, 1] of the training pictures, on the module's device.
        generator: On the CPU.

    Raises:
        UsageError: another network.
    """
    start = _FROM_BICUBIC.get(type(module))
    if start is None:
        raise UsageError(f"{type(module).__name__} has no start from bicubic: choose another for its recipe")
    start(module, patches, generator)


def _layers(module: nn.Module) -> Iterator[nn.Conv2d | nn.ConvTranspose2d]:
    return (layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d))


def _randomize(
    layer: nn.Conv2d, kept: int, x: Tensor, gain: float, generator: torch.Generator, spread: float = 0.0
) -> None:
    """Make all filters random, of zero mean, and of response ``gain`` to ``x``; the first ``kept`` all zero.

    The random filters do not see the first ``kept`` channels of a hidden layer's input. With a ``spread`` their
    responses are centred, and then moved apart by random biases of this standard deviation.
    """
    weight = torch.randn(layer.weight.shape, generator=generator).to(layer.weight)
    if layer.in_channels == 1:
        weight -= weight.mean((2, 3), keepdim=True)
    else:
        weight[:, :kept] = 0
    weight[:kept] = 0
    layer.weight.copy_(weight)
    assert layer.bias is not None
    layer.bias.zero_()
    deviation, mean = torch.std_mean(layer(x), (0, 2, 3))
    factor = gain / deviation[kept:]
    layer.weight[kept:] *= factor[:, None, None, None]
    if spread:
        random = torch.randn(len(factor), generator=generator).to(factor)
        layer.bias[kept:] = spread * random - factor * mean[kept:]


def _pass_through(layer: nn.Conv2d, channels: int, weight: float = 1.0) -> None:
    middle = layer.kernel_size[0] // 2
    for channel in range(channels):
        layer.weight[channel, channel, middle, middle] = weight


def _randomize_last(layer: nn.Conv2d | nn.ConvTranspose2d, generator: torch.Generator) -> None:
    layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * _LAST)
    if layer.bias is not None:
        layer.bias.zero_()


def _fan_in(layer: nn.Conv2d | nn.ConvTranspose2d) -> float:
    """Products that are summed in one output sample."""
    taps = layer.kernel_size[0] * layer.kernel_size[1] / (layer.stride[0] * layer.stride[1])
    return layer.in_channels * (taps if isinstance(layer, nn.ConvTranspose2d) else layer.weight[0, 0].numel())


def _bilinear(layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """A 4 × 4 deconvolution of stride 2 and one channel as bilinear enlargement."""
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    layer.weight[0, 0] = torch.outer(line, line)


def _bilinear_subpixels(layer: nn.Conv2d, channels: int) -> None:
    """The first channels of a 3 × 3 sub-pixel convolution as bilinear enlargement."""
    r = round((layer.out_channels / layer.in_channels) ** 0.5)
    offset = ((torch.arange(r) + 0.5) / r - 0.5)[:, None] - torch.tensor([-1.0, 0.0, 1.0])
    taps = (1 - offset.abs()).clamp(min=0)  # (r, 3)
    kernels = torch.einsum("iy,jx->ijyx", taps, taps).reshape(r * r, 3, 3).to(layer.weight)
    for channel in range(channels):
        phases = slice(channel * r * r, (channel + 1) * r * r)
        layer.weight[phases] = 0
        layer.weight[phases, channel] = kernels


def _espcn(module: nn.Module, x: Tensor, generator: torch.Generator) -> None:
    """The scale² phases of the bicubic kernel fit in the 5 × 5 filters; made small, tanh leaves them alone.

    The others must bend it from the start: where they begin small, training leaves them small, and the network linear.
    """
    assert isinstance(module, ESPCN)
    scale = module.shuffle.upscale_factor
    phases = scale * scale
    _randomize(module.conv1, phases, x, 1.0, generator, 0.5)
    middle = slice(2 * scale, 3 * scale)
    unit = torch.eye(25).reshape(25, 1, 5, 5)
    kernels = enlarge(unit, scale)[:, 0, middle, middle]  # (25, s, s)
    module.conv1.weight[:phases] = 0.2 * kernels.permute(1, 2, 0).reshape(phases, 1, 5, 5).to(x)
    assert module.conv1.bias is not None
    module.conv1.bias[:phases] = -0.1
    h = torch.tanh(module.conv1(x))
    _randomize(module.conv2, phases, h, 1.0, generator, 0.5)
    _pass_through(module.conv2, phases)
    _randomize_last(module.conv3, generator)
    _pass_through(module.conv3, phases, 5.0)
    assert module.conv3.bias is not None
    module.conv3.bias.fill_(0.5)


def _fsrcnn(module: nn.Module, x: Tensor, generator: torch.Generator) -> None:
    """Channel 0 carries the picture to the deconvolution, whose slice 0 is the sampled cubic."""
    assert isinstance(module, FSRCNN)
    h = x
    for block in (module.features, module.shrink, module.mapping, module.expand):
        for layer in block:
            if isinstance(layer, nn.Conv2d):
                _randomize(layer, 1, h, 0.5, generator)
                _pass_through(layer, 1)
            h = layer(h)
    last = module.deconvolution
    _randomize_last(last, generator)
    scale = last.stride[0]
    taps = torch.arange(last.kernel_size[0], dtype=torch.float64) - int(last.padding[0])
    line = cubic((taps + 0.5) / scale - 0.5)
    for phase in range(scale):
        line[phase::scale] /= line[phase::scale].sum()
    last.weight[0, 0] = torch.outer(line, line).to(x)


def _srcnn(module: nn.Module, x: Tensor, generator: torch.Generator) -> None:
    """Channel 0 carries the enlarged picture through."""
    assert isinstance(module, SRCNN)
    h = module.upsample(x)
    for layer in (module.conv1, module.conv2):
        _randomize(layer, 1, h, 0.5, generator)
        _pass_through(layer, 1)
        h = torch.relu(layer(h))
    _randomize_last(module.conv3, generator)
    _pass_through(module.conv3, 1)


def _residual(module: nn.Module, x: Tensor, generator: torch.Generator) -> None:
    """He et al. 2015, and next to nothing from the layer that makes the residual."""
    msra(module, x, generator)
    for layer in _layers(module):
        if layer.out_channels == 1 and layer.in_channels > 1:
            _randomize_last(layer, generator)
    if isinstance(module, DRCN):  # a recursion that starts as the identity keeps what comes in
        module.inference.weight.zero_()
        _pass_through(module.inference, module.inference.in_channels)
    if isinstance(module, DRRN):
        module.conv2.weight.mul_(0.1)


def _skip(module: nn.Module, x: Tensor, generator: torch.Generator) -> None:
    """The first channels carry the picture past the residual blocks and through bilinear enlargements to the end."""
    assert isinstance(module, EDSR | MDSR | SRResNet)
    msra(module, x, generator)
    for block in (part for part in module.modules() if isinstance(part, ResidualBlock)):
        block.conv2.weight.mul_(0.01)
    if isinstance(module, SRResNet):
        for path in (part for part in module.modules() if isinstance(part, nn.Sequential) and len(part)):
            if isinstance(path[-1], nn.BatchNorm2d):  # where a residual ends
                nn.init.constant_(path[-1].weight, 0.01)
    head = module.head[0] if isinstance(module, SRResNet) else module.head
    assert isinstance(head, nn.Conv2d)
    head.weight[:3] = 0
    _pass_through(head, 3)
    if not isinstance(module, SRResNet):
        module.body.weight.mul_(0.1)
    branches = module.upsample.values() if isinstance(module, MDSR) else [module.upsample]
    for branch in branches:
        assert isinstance(branch, nn.Sequential)
        for index, stage in enumerate(part for part in branch if isinstance(part, nn.Conv2d)):
            _bilinear_subpixels(stage, stage.in_channels if index else 3)
    _randomize_last(module.tail, generator)
    _pass_through(module.tail, 3)
    if isinstance(module, SRResNet):  # its output is in [-1, 1]
        module.tail.weight.mul_(2.0)
        assert module.tail.bias is not None
        module.tail.bias.fill_(-1.0)


def _srdensenet(module: nn.Module, x: Tensor, generator: torch.Generator) -> None:
    """Channel 0 carries the picture to the bottleneck, and from there through bilinear enlargements to the end."""
    assert isinstance(module, SRDenseNet)
    msra(module, x, generator)
    first = module.input[0]
    assert isinstance(first, nn.Conv2d)
    first.weight[0] = 0
    _pass_through(first, 1)
    if module.skip == "high":  # no way past the blocks
        return
    for bottleneck in (part for part in module.bottleneck if isinstance(part, nn.Conv2d)):
        bottleneck.weight[0] = 0
        _pass_through(bottleneck, 1)
    for stage in (part for part in module.enlarge if isinstance(part, nn.ConvTranspose2d)):
        stage.weight[0] = 0
        stage.weight[:, 0] = 0
        line = torch.tensor([0.5, 1.0, 0.5])
        stage.weight[0, 0] = torch.outer(line, line)
    # Three taps enlarge by 2 with a shift of half an output sample, which the last layer undoes as far as it sees.
    _randomize_last(module.output, generator)
    stages = len(module.enlarge) // 2
    shift = min(1.0, (2**stages - 1) / 2)
    line = torch.tensor([shift, 1.0 - shift, 0.0])
    module.output.weight[0, 0] = torch.outer(line, line)


Start = Callable[[nn.Module, Tensor, torch.Generator], None]

_FROM_BICUBIC: Mapping[type[nn.Module], Start] = {
    ESPCN: _espcn,
    FSRCNN: _fsrcnn,
    SRCNN: _srcnn,
    VDSR: _residual,
    DRCN: _residual,
    RED: _residual,
    DRRN: _residual,
    LapSRN: _residual,
    EDSR: _skip,
    MDSR: _skip,
    SRResNet: _skip,
    SRDenseNet: _srdensenet,
}

STARTS: Mapping[str, Start] = {
    "bicubic": start_from_bicubic,
    "default": default,
    "gaussian": gaussian,
    "msra": msra,
}
