"""`ImageSequence`: the files that a pattern such as ``frame_%04d.png`` names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from os.path import exists
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from os import PathLike

_NUMBER = re.compile(r"%(?:%|(\d*)d)")  # as FFmpeg reads them: %% is a percent sign, %4d the same as %04d


def is_pattern(path: str | PathLike[str]) -> bool:
    """Whether a name contains exactly one placeholder for a number."""
    return len(_places(Path(path).name)) == 1


def split_pattern(path: str | Path) -> tuple[str, str]:
    """Split a pattern's name into the part before its number and the rest."""
    name = Path(path).name
    start = _places(name)[0].start()
    return name[:start], name[start:]


def _places(name: str) -> list[re.Match[str]]:
    return [match for match in _NUMBER.finditer(name) if match[0] != "%%"]


@dataclass(frozen=True, slots=True)
class ImageSequence:
    """The files of a pattern.

    Attributes:
        pattern: Path with one ``%d`` or ``%04d`` in the file's name.
        numbers: Numbers of the existing files, in ascending order; never empty.
    """

    pattern: Path
    numbers: tuple[int, ...]

    @classmethod
    def find(cls, path: str | PathLike[str]) -> Self | None:
        """The sequence that ``path`` names; None if it is a file, or no pattern, or if no file matches it."""
        pattern = Path(path)
        if not is_pattern(pattern) or exists(pattern) or not exists(pattern.parent):  # noqa: PTH110
            return None
        (place,) = _places(pattern.name)
        before, after = (
            part.replace("%%", "%") for part in (pattern.name[: place.start()], pattern.name[place.end() :])
        )
        digits = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
        found = sorted(
            int(match[1])
            for file in pattern.parent.iterdir()
            if (match := digits.fullmatch(file.name)) and match[1] == match[1].lstrip("0").zfill(int(place[1] or 1))
        )
        return cls(pattern, tuple(found)) if found else None

    def name(self, number: int) -> str:
        """The name of the file with this number."""
        return _NUMBER.sub(lambda at: "%" if at[0] == "%%" else f"{number:0{int(at[1] or 1)}d}", self.pattern.name)

    def lost_after(self, count: int) -> str | None:
        """Why the sequence ends after its first ``count`` files; None if there are no more."""
        left = len(self.numbers) - count
        if left <= 0:
            return None
        name = self.name(self.numbers[0] + count)
        if self.numbers[count] != self.numbers[0] + count:
            return f"{name} is missing, and the {left} after it are left out"
        return f"{name} cannot be read, and the {left - 1} after it are left out"
