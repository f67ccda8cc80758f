"""The kernels in plain torch: the slow versions that all fast ones are measured and checked against.

Every function takes any floating dtype on any device (float64 is the truth) and any batch. Positions are in samples,
with the center of the first one at 0; a frame's edge is at −0.5.
"""

from .color import mix, planes_to_rgb, rgb_to_planes
from .cubic import Edges, cubic, enlarge, enlarge_samples, resample, resize, taps
from .layers import Activation, Layer, chain, convolution, pixel_shuffle, shuffle_to_samples
from .samples import SampleFormat, to_samples, to_unit

__all__ = [
    "Activation",
    "Edges",
    "Layer",
    "SampleFormat",
    "chain",
    "convolution",
    "cubic",
    "enlarge",
    "enlarge_samples",
    "mix",
    "pixel_shuffle",
    "planes_to_rgb",
    "resample",
    "resize",
    "rgb_to_planes",
    "shuffle_to_samples",
    "taps",
    "to_samples",
    "to_unit",
]
