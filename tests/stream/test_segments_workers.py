"""Parts that workers of Ray make are those that one process makes, whatever happens to the workers."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import vsr_plugin
from tests.stream.conftest import Make
from tests.stream.test_segments import _SHORT, FFV1, HARD, frames
from tests.test_readme import README
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import BackendError, InputError, UsageError
from vsr_plugin.execution import Execution
from vsr_plugin.models import NetworkSpec
from vsr_plugin.stream import Progress, Report, upscale_file
from vsr_plugin.stream.segments import cluster, dispatch, ship
from vsr_plugin.stream.segments.cluster import Cluster
from vsr_plugin.stream.segments.manifest import versions
from vsr_plugin.stream.segments.ship import Shipped
from vsr_plugin.stream.selection import Selection

ray = pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_time")]

_STORE = 100 << 20  # bytes, of Ray's object store
_FILM = f"-f lavfi -i testsrc2=s=48x32:r=25:d=6 -c:v libx264 -bf 2 {_SHORT}"


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    """Two processors and little memory, for all tests here: to start Ray takes seconds."""
    ray.init(
        "local",
        num_cpus=2,
        num_gpus=0,
        object_store_memory=_STORE,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def espcn() -> Iterator[Upscaler]:
    with Upscaler("espcn", 2, Execution(backend="eager", device="cpu", precision="float32")) as upscaler:
        yield upscaler


Compare = Callable[..., Report]


@pytest.fixture
def compare(tmp_path: Path, espcn: Upscaler) -> Compare:
    """Enlarge a film by an executor, and see that it is as in one go."""

    def run(film: Path, executor: Cluster, **options: Any) -> Report:
        how: dict[str, Any] = {"encoding": FFV1, "segment_length": Fraction(1), "executor": executor, **options}
        report = upscale_file(film, tmp_path / "out.mkv", espcn, **how)
        upscale_file(film, tmp_path / "whole.mkv", espcn, options.get("selection"), encoding=FFV1)
        assert frames(tmp_path / "out.mkv") == frames(tmp_path / "whole.mkv")
        assert sorted(file.name for file in tmp_path.iterdir()) == ["out.mkv", "whole.mkv"]
        return report

    return run


def test_two_workers_make_the_same_film(make: Make, compare: Compare) -> None:
    seen: list[Progress] = []
    with Cluster(2) as workers:
        report = compare(make(_FILM, "a.mkv"), workers, on_progress=seen.append)
    assert report.frames == 150
    assert (seen[-1].written.frames, seen[-1].expected_frames, seen[-1].workers) == (150, 150, 2)
    assert [segment.frames for segment in report.segments] == [25] * 6


@pytest.fixture
def shipping(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cluster, list[int]]]:
    """A worker that gets the film in small pieces, and their numbers as they are sent."""
    sent: list[int] = []
    read = Shipped.read

    def noting(file: Shipped, wanted: range) -> bytes:
        sent.extend(wanted)
        return read(file, wanted)

    monkeypatch.setattr(ship, "_PIECE", 2048)
    monkeypatch.setattr(Shipped, "read", noting)
    with Cluster(1, ship=True) as workers:
        yield workers, sent


@pytest.mark.parametrize("what", HARD)
def test_the_film_may_travel_to_the_workers_and_back(
    what: str, make: Make, compare: Compare, shipping: tuple[Cluster, list[int]]
) -> None:
    workers, sent = shipping
    compare(make(*HARD[what]), workers)
    assert sent


def test_a_worker_gets_what_it_needs_for_its_segment_alone(
    make: Make, compare: Compare, shipping: tuple[Cluster, list[int]], espcn: Upscaler, tmp_path: Path
) -> None:
    workers, sent = shipping
    film = make("-f lavfi -i testsrc2=s=320x192:r=25:d=12 -c:v libx264 -crf 8 -preset ultrafast -g 25", "long.mkv")

    def stop(done: Progress) -> None:
        if done.written.frames > 230:
            raise InterruptedError

    how: dict[str, Any] = {"selection": Selection(duration=Fraction(12)), "encoding": FFV1}
    with pytest.raises(InterruptedError):
        upscale_file(
            film, tmp_path / "out.mkv", espcn, segment_length=Fraction(1), resume=True, on_progress=stop, **how
        )
    kept = len(list((tmp_path / "out.mkv.parts").glob("*.part")))
    compare(film, workers, selection=how["selection"])
    assert kept >= 8
    pieces = film.stat().st_size / 2048
    assert len(set(sent)) < pieces * (12 - kept + 2) / 12, "its segments, and what lies around them"


def test_an_input_that_changes_while_it_is_sent_ends_the_job(
    make: Make, tmp_path: Path, espcn: Upscaler, shipping: tuple[Cluster, list[int]]
) -> None:
    workers, _ = shipping
    film = tmp_path / "a.mkv"
    film.write_bytes(make(_FILM, "a.mkv").read_bytes())

    def change(done: Progress) -> None:
        if 50 < done.written.frames < 100:
            os.utime(film)

    how: dict[str, Any] = {"encoding": FFV1, "segment_length": Fraction(1), "executor": workers}
    with pytest.raises(InputError, match="has changed while it was read"):
        upscale_file(film, tmp_path / "out.mkv", espcn, on_progress=change, **how)


def test_the_segment_of_a_worker_that_hangs_is_made_by_another(
    make: Make, compare: Compare, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"_SILENT": 1.0, "_HUNG": 4.0, "_HUNG_FIRST": 30.0, "_SLOW": 1}.items():
        monkeypatch.setattr(dispatch, name, seconds)
    stopped: list[int] = []

    def hang(done: Progress) -> None:
        if not stopped and done.written.frames > 30:
            stopped.extend(_processes()[:1])
            os.kill(stopped[0], signal.SIGSTOP)

    try:
        with Cluster(2) as workers:
            compare(make(_FILM, "a.mkv"), workers, on_progress=hang)
    finally:
        for process in stopped:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    assert stopped
    assert "A worker has not responded for" in caplog.text
    assert "A worker seems to hang: segment" in caplog.text


def test_the_example_of_the_readme_works(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = README.read_text(encoding="utf-8").split("```python\n")
    (code,) = [block.split("```")[0] for block in blocks if "executor=" in block.split("```")[0]]
    monkeypatch.chdir(tmp_path)
    film = make("-f lavfi -i testsrc2=s=48x32:r=1:d=50 -c:v libx264 -g 20 -preset ultrafast", "a.mkv")
    (tmp_path / "film.mkv").write_bytes(film.read_bytes())
    exec(code, {"vsr": vsr_plugin})
    assert len(frames(tmp_path / "large.mkv")) == 50
    assert sorted(file.name for file in tmp_path.iterdir()) == ["film.mkv", "large.mkv"]


def _processes() -> list[int]:
    """Workers below this process."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            named = (folder / "cmdline").read_bytes().startswith(b"ray::Worker")
            above = folder.name
            while named and above not in ("0", "1", str(os.getpid())):
                above = (Path("/proc") / above / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if named and above == str(os.getpid()):
            found.append(int(folder.name))
    return found


def test_the_segment_of_a_lost_worker_is_made_again(
    make: Make, compare: Compare, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    lost: list[int] = []

    def lose(_: Progress) -> None:
        if not lost:
            lost.extend(_processes())  # one of them has something to lose
            for process in lost:
                os.kill(process, signal.SIGKILL)

    with Cluster(2) as workers:
        compare(make(_FILM, "a.mkv"), workers, on_progress=lose)
    assert lost
    assert "A worker is lost" in caplog.text
    assert not capsys.readouterr().out, "standard output is for results"


class _Blind(nn.Module):
    """Fails on white frames, or ends its process."""

    def __init__(self, kills: bool) -> None:
        super().__init__()
        self.kills = kills

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.mean() > 0.8:
            if self.kills:
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("too bright")
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.mark.parametrize(("kills", "words"), [(False, "too bright"), (True, "was lost with its worker 3 times")])
def test_a_segment_that_fails_three_times_ends_the_job_and_the_others_are_kept(
    kills: bool,
    words: str,
    make: Make,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "_PAUSES", (0.1, 0.1))
    white = "[0:v]drawbox=t=fill:c=white:enable='between(t,3,3.9)'"
    film = make(f"-f lavfi -i testsrc2=s=48x32:r=25:d=6 -filter_complex {white} -c:v libx264 {_SHORT}", "a.mkv")
    spec = NetworkSpec(name="blind", overlap={2: 0})
    with (
        Upscaler.from_module(_Blind(kills), spec, 2, Execution(backend="eager", device="cpu")) as blind,
        Cluster(1) as workers,
        pytest.raises(BackendError, match=words) as caught,
    ):
        upscale_file(film, tmp_path / "out.mkv", blind, encoding=FFV1, segment_length=Fraction(1), executor=workers)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in "".join(capfd.readouterr())
    kept = {file.stem[:5] for file in (tmp_path / "out.mkv.parts").glob("*.part")}
    assert {"00000", "00001", "00002"} <= kept
    assert "00003" not in kept
    assert not (tmp_path / "out.mkv").exists()


class _Heavy(nn.Module):
    """Ends every other process that loads it, as a lack of memory does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "process": os.getpid()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["process"] != os.getpid():
            os.kill(os.getpid(), signal.SIGKILL)
        self.__dict__.update(state)


def test_a_worker_that_never_loads_the_network_ends_the_job_and_the_parts_are_kept(make: Make, tmp_path: Path) -> None:
    film = make(_FILM, "a.mkv")
    how: dict[str, Any] = {"encoding": FFV1, "segment_length": Fraction(1)}

    def stop(done: Progress) -> None:
        if done.written.frames > 60:
            raise InterruptedError

    spec = NetworkSpec(name="heavy", overlap={2: 0})
    with Upscaler.from_module(_Heavy(), spec, 2, Execution(backend="eager", device="cpu")) as heavy:
        with pytest.raises(InterruptedError):
            upscale_file(film, tmp_path / "out.mkv", heavy, resume=True, on_progress=stop, **how)
        kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "out.mkv.parts").iterdir()}
        with Cluster(1) as workers, pytest.raises(BackendError) as caught:
            upscale_file(film, tmp_path / "out.mkv", heavy, executor=workers, **how)
    assert str(caught.value).startswith("A worker was lost 3 times while it loaded the network, and none is left (")
    assert "\n" not in str(caught.value)
    assert kept.items() <= {file: file.stat().st_mtime_ns for file in (tmp_path / "out.mkv.parts").iterdir()}.items()
    assert len(kept) > 2


def test_other_versions_of_ffmpeg_on_a_worker_are_refused(
    make: Make, tmp_path: Path, espcn: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = versions("eager")
    monkeypatch.setattr(cluster, "versions", lambda _: {**here, "libavcodec": "1.2.3"})
    with Cluster(1) as workers, pytest.raises(BackendError, match=r"Expected libavcodec 1\.2\.3 on every worker"):
        upscale_file(
            make(_FILM, "a.mkv"),
            tmp_path / "out.mkv",
            espcn,
            encoding=FFV1,
            segment_length=Fraction(1),
            executor=workers,
        )


@pytest.mark.parametrize(("count", "gpus", "on_one"), [(1, 1, 1), (1, 4, 1), (4, 3, 2), (3, 1, 3), (9, 4, 3)])
def test_every_worker_finds_a_place_on_a_gpu(count: int, gpus: int, on_one: int) -> None:
    assert cluster._share(count, gpus) == 1 / on_one
    assert count <= gpus * on_one


def test_workers_on_gpus_need_gpus(make: Make, tmp_path: Path, espcn: Upscaler) -> None:
    with Cluster("gpus") as workers, pytest.raises(UsageError, match="network on a GPU"):
        upscale_file(make(_FILM, "a.mkv"), tmp_path / "out.mkv", espcn, segment_length=Fraction(1), executor=workers)
