"""Which encodings allow a film to be cut."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import av

from ...errors import OutputError, UsageError
from ..encoder import STILL_IMAGES, choose_codec, counts_frames
from ..rate import CONSTANT_RATE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..encoding import Encoding
    from . import Opening

# Encoders with constant quality and no bit rate: how they encode a frame does not depend on frames long before.
_CONSTANT_QUALITY = re.compile(r"libx264|libx264rgb|libx265|libsvtav1|libaom-av1|librav1e|libvpx|libvpx-vp9|\w+_nvenc")
# Options of encoders that need the film as a whole, and those inside options that contain others (x264-params).
_WHOLE_FILM = {
    "a bit rate": {"b", "bit_rate", "cbr", "maxrate", "minrate"},
    "a rate buffer": {"bufsize"},
    "several passes": {"pass", "passlogfile", "stats", "2pass"},
}
_WHOLE_FILM_WITHIN = {
    "a bit rate": {"bitrate", "tbr", "mbr", "rc", "target-bitrate", "end-usage", "vbv-maxrate"},
    "a rate buffer": {"vbv-bufsize"},
    "several passes": {"pass", "passes", "stats"},
}
# Options of which some values have the same meaning as one above.
_SAID_OTHERWISE = {"flags": ("pass", "pass[12]"), "rc": ("cbr", "^cbr")}
_OFF = {"", "0", "0k", "disabled", "q"}


def check_cuttable(suffix: str, encoding: Encoding) -> None:
    """Refuse outputs that cannot be made in segments.

    Args:
        suffix: Suffix of the output; empty for standard output.
        encoding: How to encode.

    Raises:
        UsageError: the output is not a video file, or the encoder needs the film as a whole.
    """
    if suffix in STILL_IMAGES or suffix in (".y4m", ""):
        raise UsageError(f"Expected a video file to make in segments, got {suffix or 'standard output'}", resume=None)
    for key, value in encoding.options.items():
        if key.endswith(("-params", "opts")):
            pairs = [pair.replace("_", "-").partition("=") for pair in value.split(":")]
            found = _reason(_WHOLE_FILM_WITHIN, [(name, asked) for name, _, asked in pairs])
        else:
            meant, words = _SAID_OTHERWISE.get(key, (key, ""))
            found = _reason(_WHOLE_FILM, [(meant if re.search(words, value) else key, value)])
        if found:
            raise UsageError(
                f"{key}={value} asks for {found}, which needs the film as a whole: not in segments", resume=None
            )


def obstacle(suffix: str, encoding: Encoding, opening: Opening) -> str | None:
    """Why a film can be encoded only as a whole; None if it can be cut.

    Raises:
        UsageError: the encoder is unknown.
        OutputError: no container has this suffix.
    """
    codec = choose_codec(suffix, opening.frame.color.depth, encoding.codec)
    kind = _container(suffix)
    if counts_frames(codec) or kind in CONSTANT_RATE:
        return f"{codec} in {kind} counts its frames"
    if opening.frame.has_alpha and codec.startswith("libvpx"):
        return f"{codec} keeps the transparency apart"
    if not (_CONSTANT_QUALITY.fullmatch(codec) or av.Codec(codec, "w").intra_only or codec == "ffv1"):
        return f"{codec} keeps a bit rate over the whole film"
    return None


class Nowhere(io.BytesIO):
    """An output to which nothing is written; its name determines the format."""

    def __init__(self, suffix: str) -> None:
        super().__init__()
        self.name = f"part{suffix}"


def _container(suffix: str) -> str:
    """FFmpeg's name of the format of files with this suffix."""
    try:
        with av.open(Nowhere(suffix), "w") as output:
            return str(output.format.name)
    except ValueError as error:
        raise OutputError(f"Expected a name that ends in .mp4, .mkv, .mov, .webm, …, got {suffix}") from error


def _reason(known: Mapping[str, set[str]], options: Sequence[tuple[str, str]]) -> str | None:
    """Describe what one of the options requires that needs the film as a whole; None if no option does."""
    return next(
        (why for name, value in options for why, names in known.items() if name in names and value not in _OFF), None
    )
