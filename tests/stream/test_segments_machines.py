"""A film on several machines, one of which is lost: here they are nodes of one machine."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.stream.conftest import Make
from tests.stream.test_segments import _SHORT, FFV1, frames
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import BackendError
from vsr_plugin.execution import Execution
from vsr_plugin.stream import Progress, upscale_file
from vsr_plugin.stream.segments.cluster import Cluster

ray = pytest.importorskip("ray", reason="Ray is not installed")
actors = pytest.importorskip("ray._private.state", reason="Ray is not installed").actors
cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_time")]

_NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 << 20}


@pytest.fixture
def machines() -> Iterator[Any]:
    """Three, with a processor each."""
    found = cluster_utils.Cluster(initialize_head=True, head_node_args={**_NODE, "include_dashboard": False})
    try:
        for _ in range(2):
            found.add_node(**_NODE)
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


@pytest.mark.parametrize("ship", [False, True], ids=["a folder that all share", "through the object store"])
def test_a_machine_that_is_lost_loses_nothing(
    ship: bool, machines: Any, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film = make(f"-f lavfi -i testsrc2=s=48x32:r=25:d=12 -c:v libx264 -bf 2 {_SHORT}", "a.mkv")
    lost: list[Any] = []

    def lose(_: Progress) -> None:
        """One that has segments, when all workers are there."""
        if lost:
            return
        starting = [handle.starting for handle in workers._handles if handle.starting is not None]
        ray.wait(starting, num_returns=len(starting)) if starting else None
        places = {actor["ActorID"]: actor["Address"]["NodeID"] for actor in actors().values()}
        busy = {places[handle.actor._actor_id.hex()] for handle in workers._handles if len(handle.making) == 2}
        lost.extend([machine for machine in machines.worker_nodes if machine.node_id in busy][:1])
        for machine in lost:
            machines.remove_node(machine, allow_graceful=False)

    how = Execution(backend="eager", device="cpu", precision="float32")
    with Upscaler("srcnn", 2, how) as upscaler:
        with Cluster(address=machines.address, ship=ship) as workers:
            upscale_file(
                film,
                tmp_path / "out.mkv",
                upscaler,
                encoding=FFV1,
                segment_length=Fraction(1),
                executor=workers,
                on_progress=lose,
            )
        upscale_file(film, tmp_path / "whole.mkv", upscaler, encoding=FFV1)
    assert lost
    assert "A worker is lost: segment" in caplog.text
    assert frames(tmp_path / "out.mkv") == frames(tmp_path / "whole.mkv")
    assert not (tmp_path / "out.mkv.parts").exists()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (None, "Ray does not start on this machine (It timed out.)"),
        ("auto", "Ray does not run on this machine (It timed out.)"),
        (
            "ray://h:1",
            "No Ray cluster at ray://h:1 (It timed out.); if it asks for a token, set RAY_AUTH_MODE=token",
        ),
    ],
)
@pytest.mark.parametrize("text", ["It timed out.", "Failure:\nTraceback …\nIt timed out."])
def test_why_there_is_no_ray_is_one_line(
    address: str | None, said: str, text: str, make: Make, tmp_path: Path, nearest: Upscaler, monkeypatch: Any
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise Exception(text)  # noqa: TRY002 - as Ray does

    film = make(f"-f lavfi -i testsrc2=s=48x32:r=25:d=2 -c:v libx264 {_SHORT}", "a.mkv")
    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with Cluster(2 if address is None else None, address) as workers, pytest.raises(BackendError) as caught:
        upscale_file(film, tmp_path / "out.mkv", nearest, segment_length=Fraction(1), executor=workers)
    assert str(caught.value) == said
    assert not list(tmp_path.iterdir())


def test_ray_starts_again_after_it_was_stopped_or_was_not_found(
    make: Make, tmp_path: Path, nearest: Upscaler, capfd: pytest.CaptureFixture[str]
) -> None:
    film = make(f"-f lavfi -i testsrc2=s=48x32:r=25:d=3 -c:v libx264 {_SHORT}", "a.mkv")
    how: dict[str, Any] = {"encoding": FFV1, "segment_length": Fraction(1)}
    with Cluster(address="ray://127.0.0.1:1") as workers, pytest.raises(BackendError, match="No Ray cluster") as caught:
        upscale_file(film, tmp_path / "out.mkv", nearest, executor=workers, **how)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    for name in ("one.mkv", "two.mkv"):
        with Cluster(1) as workers:
            upscale_file(film, tmp_path / name, nearest, executor=workers, **how)
        assert len(frames(tmp_path / name)) == 75
    assert capfd.readouterr() == ("", ""), "nothing of Ray's is printed"
