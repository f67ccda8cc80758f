"""`Encoding`: how to encode; and the options that an encoder is opened with: our defaults, then the user's."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ..arguments import check_type, checked_arguments
from ..errors import UsageError

log = logging.getLogger(__name__)

# The family of MPEG-1: without an option for quality, these encoders use 200 kbit/s for everything.
_FIXED_QUANTIZER = (
    "flv", "h263", "h263p", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4", "msmpeg4v2", "rv20", "wmv1", "wmv2",
)  # fmt: skip
# Visually lossless; and quiet, because these libraries write to stderr by themselves.
DEFAULTS: Mapping[str, Mapping[str, str]] = {
    **{name: {"crf": "17"} for name in ("libx264", "libx264rgb")},
    "libx265": {"crf": "18", "x265-params": "log-level=error"},
    "libsvtav1": {"crf": "24", "preset": "6"},
    "libaom-av1": {"crf": "24", "b": "0", "cpu-used": "6", "row-mt": "1"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "3", "row-mt": "1"},
    "h264_nvenc": {"cq": "19", "rc": "vbr", "preset": "p5"},
    "hevc_nvenc": {"cq": "20", "rc": "vbr", "preset": "p5"},
    "av1_nvenc": {"cq": "24", "rc": "vbr", "preset": "p5"},
    "libvpx": {"crf": "12", "b": "1G", "deadline": "good", "cpu-used": "2"},
    "mjpeg": {"qmin": "1", "qmax": "2"},
    "vc2": {"b": "600M"},  # FFmpeg's own, which PyAV overwrites with 0
    **{name: {"quality": "95"} for name in ("libwebp", "libwebp_anim")},
    **{name: {"qmin": "2", "qmax": "2"} for name in _FIXED_QUANTIZER},
}
# Defaults that are omitted if the options set a bit rate, or another quality: they would contradict each other.
_FOR_A_RATE = {"cq", "crf", "qmax", "qmin", "rc"}
_QUALITIES = {"cq", "crf", "global_quality", "qp"}
# Profiles of DNxHR, which, unlike DNxHD, takes frames of any size and rate.
_DNXHR = {"yuv422p": "dnxhr_hq", "yuv422p10le": "dnxhr_hqx", "yuv444p10le": "dnxhr_444", "gbrp10le": "dnxhr_444"}
_REORDERING = {"libx264", "libx264rgb", "h264_nvenc", "hevc_nvenc"}  # use B-frames unless told otherwise
# The names that x264 and x265 know; for any other, they write a line of their own to stderr.
_PRESETS = ["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"]
_X264: Mapping[str, Collection[str]] = {
    "preset": _PRESETS,
    "tune": ("film", "animation", "grain", "stillimage", "psnr", "ssim", "fastdecode", "zerolatency"),
    "profile": ("baseline", "main", "high", "high10", "high422", "high444"),
}
_NAMES: Mapping[str, Mapping[str, Collection[str]]] = {
    "libx264": _X264,
    "libx264rgb": _X264,
    "libx265": {
        "preset": _PRESETS,
        "tune": ("psnr", "ssim", "grain", "fastdecode", "zerolatency", "animation", "vmaf"),
        "profile": (
            "main", "main10", "main12", "main422-10", "main422-12", "main444-8", "main444-10", "main444-12",
            *(f"main{kind}-intra" for kind in ("", 10, 12, "422-10", "422-12", "444", "444-10", "444-12", "444-16")),
            *(f"main{kind}-scc" for kind in ("", "10", "444", "444-10")),
            "mainstillpicture", "msp", "main444-stillpicture", "main444-16-stillpicture",
        ),
    },
}  # fmt: skip
# Encoders clip a higher CRF; those of AV1, VP8 and VP9 take whole numbers, and round others without a warning.
_WHOLE_CRF = {"libaom-av1", "libsvtav1", "libvpx", "libvpx-vp9"}
_WORST_CRF = {**dict.fromkeys(("libx264", "libx264rgb", "libx265"), 51), **dict.fromkeys(_WHOLE_CRF, 63)}


@checked_arguments("options")
@dataclass(frozen=True, slots=True)
class Encoding:
    """How to encode. Values that are None or absent are chosen from the output's name and the source's depth.

    Attributes:
        codec: An encoder of PyAV's FFmpeg (libx264, libx265, libsvtav1, libvpx-vp9, ffv1, prores_ks, h264_nvenc, …).
        crf: Constant rate factor (``cq`` for NVENC), on the encoder's own scale.
        preset: Encoder preset, such as medium or slow.
        options: Further options of the encoder; values may be numbers, too.
        pixel_format: FFmpeg's name; by default the source's, or the nearest one that the encoder takes.
    """

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    pixel_format: str | None = None

    def __post_init__(self) -> None:
        if self.crf is not None and not math.isfinite(self.crf):
            raise UsageError(f"Expected crf to be a number, got {self.crf}")
        check_type("options", self.options, Mapping[str, object])
        for name, value in self.options.items():
            check_type(f"options[{name!r}]", value, str | float | bool)
        object.__setattr__(self, "options", {str(name): str(value) for name, value in self.options.items()})

    @classmethod
    @checked_arguments()
    def of(cls, encoding: Encoding | str | None) -> Encoding:
        """Convert to an `Encoding`: None is the default one, and a string is the name of an encoder.

        Raises:
            UsageError: the argument is anything else.
        """
        return encoding if isinstance(encoding, Encoding) else cls(codec=encoding)


def encoder_options(codec: str, encoding: Encoding, hdr: Mapping[str, str], pixel_format: str) -> dict[str, str]:
    """Return the options to open an encoder with: the user's, and the defaults that do not contradict them.

    Args:
        codec: FFmpeg's name of the encoder.
        encoding: What the user asks for.
        hdr: Options that carry the HDR metadata of the frames.
        pixel_format: Pixel format of the frames it gets.

    Raises:
        UsageError: the encoder does not have the CRF, preset, tune or profile.
    """
    options = dict(DEFAULTS.get(codec, {}))
    left_out = _FOR_A_RATE if "b" in encoding.options else _QUALITIES if _QUALITIES & encoding.options.keys() else set()
    options = {key: value for key, value in options.items() if key not in left_out}
    if codec == "dnxhd" and "b" not in encoding.options:  # with a bit rate, it is DNxHD
        options["profile"] = _DNXHR[pixel_format]
    if encoding.crf is not None:
        _check_crf(codec, encoding.crf)
        options["cq" if codec.endswith("_nvenc") else "crf"] = f"{encoding.crf:g}"
    if encoding.preset is not None:
        options["preset"] = encoding.preset
    for name, known in _NAMES.get(codec, {}).items():
        value = encoding.options.get(name, options.get(name))
        if value is not None:
            _check_name(codec, name, value, known)
    for key, value in (*hdr.items(), *encoding.options.items()):
        # One option contains all parameters of x264, x265 and SVT-AV1: the user's come last and win.
        options[key] = f"{options[key]}:{value}" if key.endswith("-params") and key in options else value
    return options


def _check_crf(codec: str, crf: float) -> None:
    worst = _WORST_CRF.get(codec)
    if crf < 0 or (worst is not None and crf > worst):
        most = "or more" if worst is None else f"to {worst}"
        raise UsageError(f"Expected a CRF of 0 {most} for {codec}, got {_plain(crf)}")
    if crf % 1 and codec in _WHOLE_CRF:
        raise UsageError(f"Expected a CRF in whole numbers for {codec}, got {_plain(crf)}")


def _plain(number: float) -> str:
    return f"{number:.0f}" if number % 1 == 0 else str(number)


def _check_name(codec: str, name: str, value: str, known: Collection[str]) -> None:
    """Check that an encoder knows a name. A tune may consist of several names; a preset may be a number."""
    found = re.split(r"[,./+]", value) if name == "tune" and codec != "libx265" else [value]
    for one in found:
        if one not in known and not (name == "preset" and one in map(str, range(10))):
            raise UsageError(f"Encoder {codec} has no {name} {value!r}. Its {name}s: {', '.join(known)}")


def without_b_frames(codec: str, options: dict[str, str], container: str) -> None:
    """Keep the encoder from reordering frames, whatever the user asks for."""
    if codec == "libx265":
        options["x265-params"] = f"{options['x265-params']}:bframes=0"
    elif options.get("bf", "0") != "0" or codec in _REORDERING:
        options["bf"] = "0"
    else:
        return
    log.info("%s does not time every frame: encoding without B-frames", container)
