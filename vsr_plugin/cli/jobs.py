"""Find the inputs, name their outputs and check both, before torch is imported."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, OutputError, UsageError, VsrError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..sizes import Size
    from ..stream.encoding import Encoding

_log = logging.getLogger(__name__)

_VIDEOS = {
    ".264", ".265", ".3gp", ".avi", ".avif", ".flv", ".gif", ".h264", ".hevc", ".ivf", ".m2ts", ".m4v", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
}  # fmt: skip


def find_jobs(
    inputs: list[str], output: str | None, model: str, scale: int | Size, marks: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """Pair inputs with outputs: two names without -o are an input and its output; otherwise every name is an input.

    Args:
        inputs: Files and folders.
        output: Value of ``-o``.
        model: For the names of outputs that are not given, as are ``scale`` and ``marks``.
        scale: ″
        marks: As for `default_output`.
    """
    from ..stream.output import default_output, identities, tag
    from ..stream.sequence import ImageSequence

    if output is None and (folders := [name for name in inputs if _is_folder(name)]):
        raise UsageError(f"{folders[0]} is a folder: say where its results go with -o FOLDER")
    if output is None and len(inputs) == 2:
        second = inputs[1]
        if identities([inputs[0]]) & identities([second]):
            raise UsageError(f"{second} is the input itself: name another output")
        if second != "-" and (os.path.lexists(second) or ImageSequence.find(second)):
            raise UsageError(
                f"{second} exists. To overwrite it, use -o {second} -y; to enlarge both files, use -o FOLDER"
            )
        return [(inputs[0], second)]
    folder = output is not None and output != "-" and (_is_folder(output) or output.endswith(("/", "\\")))
    found = [each for name in inputs for each in _files(name, f"_{tag(model, scale, marks)}")]
    sources = [source for source, _ in found]
    if output is not None and not folder:
        several = len(sources) > 1 or any(_is_folder(name) for name in inputs)
        if several and not os.path.lexists(output) and not Path(output).suffix and output != "-":
            folder = True
        elif len(sources) > 1:
            raise UsageError(f"Expected a folder for {len(sources)} inputs, got -o {output}")
        else:
            return [(sources[0], output)]
    if folder:
        assert output is not None
        for below in {below for _, below in found}:
            make_folder(Path(output) / below)
    for source in sources:
        if "://" in source and not folder:
            raise UsageError(f"Expected -o with the address {source}, got none: say where the result goes")
    places = [None if output is None else Path(output) / below for _, below in found]
    return [
        (source, str(default_output(source, model, scale, place, marks=marks)))
        for source, place in zip(sources, places, strict=True)
    ]


def _is_folder(name: str) -> bool:
    return os.path.isdir(name)  # noqa: PTH112 - a name may be too long


def check_stdout(jobs: list[tuple[str, str]], *, as_json: bool) -> None:
    """Raise UsageError if y4m would go to a terminal, or between the lines of ``--json``."""
    if any(target == "-" for _, target in jobs):
        if sys.stdout is not None and sys.stdout.isatty():
            raise UsageError("Standard output is a terminal: send the y4m to a pipe or a file, or name an output")
        if as_json:
            raise UsageError("Expected --json or y4m on standard output, got both")


def skip_finished(jobs: list[tuple[str, str]], *, quiet: bool) -> list[tuple[str, str]]:
    """The jobs whose output does not exist yet."""
    from .terminal import console

    left = [job for job in jobs if job[1] == "-" or not os.path.lexists(job[1])]
    if len(left) < len(jobs) and not quiet:
        console().print(f"{len(jobs) - len(left)} of {len(jobs)} outputs exist and are skipped", markup=False)
    return left


def make_folder(folder: Path) -> None:
    """Make a folder for results, unless it exists.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot make the folder {folder}: {error.strerror}") from error


def _files(name: str, ours: str) -> list[tuple[str, Path]]:
    """The name itself, or the videos and images in a folder and its subfolders; each with the path of its subfolder.

    Hidden files are left out, and earlier results, whose names end in ``ours``.
    """
    from ..stream.encoder import STILL_IMAGES

    folder = Path(name)
    if name == "-" or not _is_folder(name):
        return [(name, Path())]
    known = _VIDEOS | STILL_IMAGES.keys()
    files = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.suffix.lower() in known)
    files = [file for file in files if not any(part[0] == "." for part in file.parts)]
    for file in files:
        if not (folder / file).is_file() and not (folder / file).is_dir():
            _log.warning("%s is no regular file: skipped", folder / file)  # reading a pipe would block
    files = [file for file in files if (folder / file).is_file()]
    found = [file for file in files if not file.stem.endswith(ours)]
    if earlier := len(files) - len(found):
        _log.info("%s: %d earlier results (*%s.*) are not enlarged again; name them to do so", name, earlier, ours)
    if not found:
        raise InputError(f"No video or image in the folder {name}")
    return [(str(folder / file), file.parent) for file in found]


def find_unsuitable(jobs: list[tuple[str, str]], encoding: Encoding, *, segments: bool) -> dict[str, VsrError]:
    """The targets whose container does not take the encoder or its options, and the reason.

    Raises:
        VsrError: no container takes them.
    """
    from ..stream.encoder import check_encoding
    from ..stream.segments.encoding import check_cuttable

    by_suffix: dict[str, VsrError | None] = {}
    found = {}
    for _, target in jobs:
        suffix = ".y4m" if target == "-" else Path(target).suffix.lower()
        if suffix not in by_suffix:
            by_suffix[suffix] = None
            try:
                check_encoding(suffix, encoding)
                if segments:
                    check_cuttable(suffix, encoding)
            except OutputError as error:
                hint = "" if suffix else f"; for a folder, -o {target}/"
                by_suffix[suffix] = OutputError(f"{error.message}{hint}", **error.use)
            except VsrError as error:
                by_suffix[suffix] = error
        if refused := by_suffix[suffix]:
            found[target] = refused
    if jobs and len(found) == len({target for _, target in jobs}):
        raise found[jobs[0][1]]
    return found


def check_names(source: str, target: str, kept: set[tuple[int, int]], *, overwrite: bool) -> None:
    """Check the names of an input and its output before torch is loaded and a network compiled."""
    from ..stream.output import check_output
    from ..stream.sequence import is_pattern

    if source != "-" and "://" not in source and not is_pattern(source) and not os.path.exists(source):  # noqa: PTH110 - a name may be too long
        raise InputError(f"No such file: {source}")
    if target != "-":
        check_output(Path(target), source, overwrite=overwrite, taken=kept)


def check_input(source: str, size: Size | None = None, scales: Iterable[int] = ()) -> None:
    """Check that a file holds video to enlarge, before torch is loaded; inputs that can be read only once are skipped.

    Args:
        source: Name of the input.
        size: Size of the output, which must be larger than the input.
        scales: Scales that the network has.
    """
    from ..stream.input import find_video, first_shape, open_input
    from ..stream.sequence import ImageSequence

    if _is_folder(source):
        raise InputError(f"Expected a file, got a folder: {source}")
    if source == "-" or ImageSequence.find(source) is not None or not os.path.isfile(source):  # noqa: PTH113 - a name may be too long
        return
    with open_input(source) as container:
        video = find_video(container, Path(source).name)
        first = None if size is None else first_shape(container, video)
    if size is not None and first is not None:
        width, height, transposed, ratio = first
        try:
            size.target(width, height, scales, ratio=ratio, transposed=transposed)
        except UsageError as error:
            message = f"{Path(source).name}: {error.message[0].lower()}{error.message[1:]}"
            raise UsageError(message, **error.use) from error


def closing_line(jobs: int, written: int, failed: int, damaged: int) -> str:
    """How a run over several files ended: ``2 of 4 files written, 2 failed``."""
    line = f"{written} of {jobs} files written"
    line += f", {damaged} of them damaged" if damaged else ""
    return line + (f", {failed} failed" if failed else "")


def full_path(name: str) -> str:
    """The absolute path of a file; addresses and ``-`` stay as they are."""
    return name if name == "-" or "://" in name else str(Path(name).absolute())


def if_stopped(target: str, done: int, jobs: int, *, older: set[tuple[int, int]], again: str = "") -> str:
    """What is left when a command of several jobs is stopped, and how to continue.

    Args:
        target: The output that was being written.
        done: Number of finished jobs.
        jobs: Number of jobs.
        older: Identity of the file that existed before.
        again: The command that continues from the segments that are kept; empty if none are kept.
    """
    from ..stream.output import identities
    from ..stream.segments.manifest import parts_folder
    from .terminal import printable

    name, now = printable(target), identities([target])
    if target == "-":
        what = "the y4m on standard output ends early"
    elif now and now != older:  # finished, but not counted yet
        done, what = done + 1, f"{name} is finished"
    elif older:
        what = f"{name} stays as it was"
    elif again and parts_folder(Path(target)).exists():  # the log says how much is kept
        what = f"{name} was not finished, and {again} goes on"
    elif again:
        what = f"{name} was not finished, and nothing was done yet that could be kept"
    else:
        how = "--resume, what is done of a film is kept" if jobs == 1 else "--skip-existing, the same command goes on"
        what = f"{name} was not finished, and nothing of it is left; with {how}"
    return what if jobs == 1 else f"{done} of {jobs} files are done; {what}"
