"""The measured speed and quality of models in plain words, to choose one by."""

from __future__ import annotations

from . import CLEAN, MODELS, manifest
from .specs import weights_key

# The speeds in `MODELS` are the processor time of `Upscaler.upscale`, without reuse, for noise in 4:2:0, 8 bits,
# 480×270 (240×136 for networks of 300,000 multiply-accumulates and more); medians of several seconds, in the default
# precision of the shipped weights, by OpenVINO on two cores of an AMD EPYC (AVX-512 with bfloat16). On a quiet machine
# `vsr bench job MODEL -x SCALE` measures the same within a fifth.
# Models without weights were not measured; most others need about this many nanoseconds:
_PER_PIXEL = 100
_PER_MAC = 0.012
_PARALLEL = 6  # eight cores do the work of six, as they share their memory
_REAL_TIME = 24.0  # fps
_SIZES = {"1080p": 1920 * 1080, "720p": 1280 * 720, "480p": 854 * 480, "360p": 640 * 360}
# At most so many dB below the best weights of the same scale → the word; more than the last is "fair".
_GRADES = {0.1: "best", 0.5: "very good", 1.0: "good"}


def expected_fps(model: str, scale: int, pixels: int = _SIZES["480p"]) -> float:
    """Frames per second on eight CPU cores, without decoding and encoding: an estimate, right within a factor of 2.

    Args:
        model: A name in `MODELS`.
        scale: A scale of the model.
        pixels: Pixels of an input frame.
    """
    spec = MODELS[model]
    nanoseconds = spec.nanoseconds.get(scale) or _PER_PIXEL + _PER_MAC * spec.cost[scale][1]
    return _PARALLEL * 1e9 / (pixels * nanoseconds)


def speed(model: str, scale: int) -> str:
    """``real time at 480p``, ``5 fps at 480p`` or ``2 s a frame at 480p``, on eight CPU cores."""
    for name, pixels in _SIZES.items():
        if expected_fps(model, scale, pixels) >= _REAL_TIME:
            return f"real time at {name}"
    fps = expected_fps(model, scale)
    return f"{fps:.0f} fps at 480p" if fps >= 1.5 else f"{1 / fps:.0f} s a frame at 480p"


def usable(tuned_for: str = CLEAN, *, quantized: bool = False) -> dict[str, tuple[int, ...]]:
    """The models that have weights for this kind of input, or in 8 bits, with the scales that have them."""
    scales = {
        name: tuple(scale for scale in spec.scales if spec.weights(scale, tuned_for, quantized=quantized))
        for name, spec in MODELS.items()
    }
    return {name: found for name, found in scales.items() if found}


def psnr(model: str, scale: int, tuned_for: str = CLEAN, *, quantized: bool = False) -> float | None:
    """PSNR of the shipped weights, or of those in 8 bits, on Set5, in dB; None without weights."""
    row = manifest().get(weights_key(model, scale, tuned_for), {})
    row = row.get("int8", {}) if quantized else row
    return float(row["set5"]["psnr"]) if "set5" in row else None


def quality(model: str, scale: int) -> str | None:
    """Best, very good, good or fair, compared with the best weights of the same scale; None without weights."""
    own = psnr(model, scale)
    if own is None:
        return None
    best = max(other for name in MODELS if (other := psnr(name, scale)) is not None)
    return next((word for distance, word in _GRADES.items() if best - own <= distance), "fair")
