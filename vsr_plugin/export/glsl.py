"""A network as a user shader for mpv and libplacebo: on any GPU, without Python.

Each pass computes four channels of a layer into one texture, or eight into its two halves where there would be too many
textures to read: for every tap, a 4×4 matrix times four channels of the layer before. The last pass arranges the
sub-pixels. Beyond the edge of a layer there are zeros, as in training, not the repeated edge that textures have.

As in the `Upscaler`, the frame is extended by its mirror image, and the result is cropped: textures of features are
larger than the frame by a margin on each side, the first layer reads mirrored luma, and the last pass leaves the margin
out.

Players keep the textures in half floats. To keep rounding small, a texture holds the difference of its channels from
their values in a flat frame, which are a straight line over the luma of the pixel (`Chain.trends`).

The format is described in mpv's manual, under ``--glsl-shaders``; libplacebo reads the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UsageError
from .chain import chain as chain_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from .chain import Chain, Layer
    from .facts import Exported

# Textures that a pass may read: mpv gives the vertex shader a coordinate for each, beside the position, and OpenGL has
# places for 16. libplacebo and mpv themselves read 16 (SHADER_MAX_BINDS).
_MOST_TEXTURES = 15
# How much larger than the video the window must be for the shader to run.
_WHEN = 1.2
# Reads the luma of a pixel of the extended frame, at its center; smaller frames are mirrored again and again.
_LUMA = """
float luma(vec2 at) {{
    vec2 period = 2.0 * LUMA_size;
    vec2 place = mod(at - {margin}.0, period);
    return LUMA_tex(min(place, period - place) * LUMA_pt).x;
}}
"""
# Players compute tanh by exponentials, which overflow; beyond this it is ±1 in half precision.
_TANH_LIMIT = "9.0"


def write(network: Exported) -> dict[str, bytes]:
    """The content of the file.

    Raises:
        UsageError: the network is no chain of convolutions that a shader can run.
    """
    name = f"{network.spec.name} x{network.scale}"
    layers = chain_of(network.spec.name, network.module)
    about = [
        f"{name}: {network.spec.paper}. Written by vsr_plugin.",
        f"Weights {network.digest[:16]}; {layers.macs} multiply-accumulates per input pixel.",
        f"License: {network.facts['license']}",
    ]
    return {".glsl": shader(name, layers, network.margin, about).encode()}


def shader(name: str, chain: Chain, margin: int, about: Sequence[str] = ()) -> str:
    """Write the shader.

    Args:
        name: Shown by the player for each pass, such as ``espcn x2``.
        chain: The network, from `chain.chain`.
        margin: Samples by which the frame is extended on each side.
        about: Lines for the comment at the top.

    Raises:
        UsageError: a layer has more channels than a pass can read.
    """
    passes = []
    source = _Textures(("LUMA",))
    for number, (layer, trend) in enumerate(zip(chain.layers, chain.trends(), strict=True), 1):
        last = number == len(chain.layers)
        groups = -(-len(layer.bias) // 4)
        across = 1 if groups < _MOST_TEXTURES else 2
        names = tuple(f"{'SUBPIXELS' if last else f'FEATURES{number}'}_{k}" for k in range(-(-groups // across)))
        if len(names) >= _MOST_TEXTURES:
            most = 4 * 2 * (_MOST_TEXTURES - 1)
            raise UsageError(f"Expected layers of at most {most} channels, got {len(layer.bias)}")
        target = _Textures(names, across, *trend)
        for texture in range(len(names)):
            first = 4 * across * texture
            title = f"{name}: layer {number}, channels {first}-{min(first + 4 * across, len(layer.bias)) - 1}"
            passes.append(_convolution(title, layer, texture, source, target, margin))
        source = target
    passes.append(_shuffle(f"{name}: sub-pixels", chain.scale, source, margin))
    return "\n".join(["".join(f"// {line}\n" for line in about), *passes])


@dataclass(frozen=True, slots=True)
class _Textures:
    """The output of a layer: four channels in each texture, or in each half of one, the left half first.

    Attributes:
        names: Names of the textures.
        across: Parts of a texture, 1 or 2.
        slopes: (channels,) slopes · luma + offsets is left out of the textures; None if nothing is.
        offsets: (channels,)
    """

    names: tuple[str, ...]
    across: int = 1
    slopes: Tensor | None = None
    offsets: Tensor | None = None

    @property
    def bound(self) -> list[str]:
        """The textures that must be read to get the channels."""
        return [*self.names, *(["LUMA"] if self.slopes is not None else [])]

    def texel(self, group: int, at: str) -> str:
        """Four of the channels at a pixel of the extended frame, of size ``size``; ``at`` is the pixel's center."""
        name, part = self.names[group // self.across], group % self.across
        return f"{name}_tex(({at}{f' + vec2(size.x * {part}.0, 0.0)' if part else ''}) * {name}_pt)"


def _header(description: str, textures: Iterable[str], *more: str) -> list[str]:
    when = f"OUTPUT.w LUMA.w / {_WHEN} > OUTPUT.h LUMA.h / {_WHEN} > *"
    lines = [f"DESC {description}", "HOOK LUMA", *(f"BIND {name}" for name in textures), *more, f"WHEN {when}"]
    return [f"//!{line}" for line in lines]


def _convolution(
    description: str, layer: Layer, texture: int, source: _Textures, target: _Textures, margin: int
) -> str:
    """The pass that computes one texture of a layer."""
    bound = list(dict.fromkeys([*source.bound, "LUMA"]))
    size = (f"WIDTH LUMA.w {2 * margin} + {target.across} *", f"HEIGHT LUMA.h {2 * margin} +")
    lines = _header(description, bound, f"SAVE {target.names[texture]}", *size, "COMPONENTS 4")
    lines += [
        *_LUMA.format(margin=margin).splitlines(),
        "",
        "vec4 hook() {",
        f"    vec2 size = LUMA_size + {2 * margin}.0;",
        f"    vec2 at = {bound[0]}_pos * size * vec2({target.across}.0, 1.0);",
    ]
    groups = range(target.across * texture, min(target.across * (texture + 1), -(-len(layer.bias) // 4)))
    for part, group in enumerate(groups):
        last = part == len(groups) - 1
        lines += [
            *([] if last else ["    if (at.x < size.x) {"]),
            *(["    at.x -= size.x;"] if last and part else []),
            *_four(layer, slice(4 * group, 4 * group + 4), source, target),
            *([] if last else ["    }"]),
        ]
    return "\n".join([*lines, "}", ""])


def _four(layer: Layer, rows: slice, source: _Textures, target: _Textures) -> Iterator[str]:
    """Four channels of a layer at a pixel."""
    yield f"    vec4 sum = {_vector(layer.bias[rows])};"
    side = layer.weight.shape[-1]
    for y in range(side):
        for x in range(side):
            dx, dy = x - side // 2, y - side // 2
            products = _products(layer.weight[rows, :, y, x], source, dx, dy)
            yield from [f"    if ({_inside(dx, dy)}) {{", *products, "    }"] if dx or dy else products
    result = _activated(layer, rows)
    if target.slopes is not None and target.offsets is not None:
        trend = f"{_vector(target.slopes[rows])} * luma(at) + {_vector(target.offsets[rows])}"
        result = f"{result} - ({trend})"
    yield f"    return {result};"


def _products(weight: Tensor, source: _Textures, dx: int, dy: int) -> Iterator[str]:
    """One tap of (out ≤ 4, in) weights."""
    at = f"at + vec2({dx}.0, {dy}.0)"
    if source.slopes is not None and source.offsets is not None:
        along, always = weight @ source.slopes, weight @ source.offsets
        yield f"        sum += {_vector(along)} * luma({at}) + {_vector(always)};"
    if source.names == ("LUMA",):
        yield f"        sum += {_vector(weight[:, 0])} * luma({at});"
        return
    for group in range(-(-weight.shape[1] // 4)):
        columns = weight[:, 4 * group : 4 * group + 4].T
        numbers = [_numbers(column) for column in columns] + [_numbers(columns[:0, 0])] * (4 - len(columns))
        yield f"        sum += mat4({', '.join(numbers)}) * {source.texel(group, at)};"


def _inside(dx: int, dy: int) -> str:
    """The condition that a tap is inside of the extended frame; outside there are zeros."""
    sides = []
    for offset, axis in ((dx, "x"), (dy, "y")):
        if offset < 0:
            sides.append(f"at.{axis} > {-offset}.0")
        elif offset > 0:
            sides.append(f"at.{axis} < size.{axis} - {offset}.0")
    return " && ".join(sides)


def _activated(layer: Layer, rows: slice) -> str:
    match layer.activation:
        case "tanh":
            return f"tanh(clamp(sum, -{_TANH_LIMIT}, {_TANH_LIMIT}))"
        case "relu":
            return "max(sum, 0.0)"
        case "sigmoid":
            return "1.0 / (1.0 + exp(-sum))"
        case "prelu":
            assert layer.slopes is not None
            return f"max(sum, 0.0) + {_vector(layer.slopes[rows])} * min(sum, 0.0)"
    return "sum"


def _shuffle(description: str, scale: int, source: _Textures, margin: int) -> str:
    """One output pixel is channel scale·y + x of its input pixel."""
    size = (f"WIDTH LUMA.w {scale} *", f"HEIGHT LUMA.h {scale} *")
    lines = _header(description, dict.fromkeys([*source.bound, "LUMA"]), *size, "COMPONENTS 1")
    lines += [
        "",
        "vec4 hook() {",
        f"    vec2 size = LUMA_size + {2 * margin}.0;",
        "    vec2 at = LUMA_pos * LUMA_size;",
        f"    ivec2 phase = ivec2(fract(at) * {scale}.0);",
        f"    int channel = phase.y * {scale} + phase.x;",
        "    vec2 pixel = floor(at) + 0.5;",
        "    vec4 four;",
    ]
    groups = -(-(scale**2) // 4)
    for group in range(groups):
        condition = "" if groups == 1 else f"if (channel / 4 == {group}) "
        lines.append(f"    {condition}four = {source.texel(group, f'pixel + {margin}.0')};")
    trend = "" if source.slopes is None else " + LUMA_tex(pixel * LUMA_pt).x"
    lines += [f"    return vec4(four[channel % 4]{trend}, 0.0, 0.0, 1.0);", "}", ""]
    return "\n".join(lines)


def _vector(values: Tensor) -> str:
    return f"vec4({_numbers(values)})"


def _numbers(values: Tensor) -> str:
    """Four literals; missing values are 0."""
    numbers = [*values.tolist(), *[0.0] * (4 - len(values))]
    return ", ".join(repr(float(f"{number:.7g}")) for number in numbers)
