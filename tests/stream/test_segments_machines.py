"""A film on several machines, one of which is lost: here they are nodes of one machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from tests.stream.conftest import Make
from tests.stream.test_segments import _SHORT, FFV1, frames
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import BackendError
from vsr_plugin.execution import Execution
from vsr_plugin.stream import Progress, upscale_file
from vsr_plugin.stream.segments import cluster
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


def test_a_machine_that_lacks_something_is_named(
    make: Make, tmp_path: Path, nearest: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = make(f"-f lavfi -i testsrc2=s=48x32:r=25:d=2 -c:v libx264 {_SHORT}", "a.mkv")
    (tmp_path / "other" / "av").mkdir(parents=True)
    (tmp_path / "other" / "av" / "__init__.py").write_text("raise ImportError('this is another PyAV')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "other"))  # of the workers: here it is loaded
    words = r"A worker cannot start on [\d.]+ \(ImportError: this is another PyAV\): all machines need the same"
    with Cluster(1) as workers, pytest.raises(BackendError, match=words):
        upscale_file(film, tmp_path / "out.mkv", nearest, segment_length=Fraction(1), executor=workers)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (None, "Ray does not start on this machine (It timed out.)"),
        ("auto", "Ray does not run on this machine (It timed out.)"),
        (
            "ray://127.0.0.1:PORT",
            (
                "No Ray cluster at ray://127.0.0.1:PORT (It timed out.); if it asks for a token, set "
                "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what `ray get-auth-token` prints on its first machine"
            ),
        ),
    ],
)
@pytest.mark.parametrize("text", ["It timed out.", "Failure:\nTraceback …\nIt timed out."])
@pytest.mark.parametrize("before", [[], 4 * ["Initialization failure from server:\nIt is a zombie"]])
def test_why_there_is_no_ray_is_one_line(
    address: str | None,
    said: str,
    text: str,
    before: list[str],
    make: Make,
    tmp_path: Path,
    nearest: Upscaler,
    monkeypatch: Any,
) -> None:
    texts = iter([*(before if address else before[:1]), text, text])

    def fail(*_: Any, **__: Any) -> None:
        kind = ConnectionAbortedError if (said := next(texts)).startswith("Initialization") else Exception
        raise kind(said)  # as Ray does

    film = make(f"-f lavfi -i testsrc2=s=48x32:r=25:d=2 -c:v libx264 {_SHORT}", "a.mkv")
    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr(cluster, "time", Mock())  # nobody waits between the tries
    with socket.create_server(("127.0.0.1", 0)) as listens:
        port = str(listens.getsockname()[1])
        address = address and address.replace("PORT", port)
        with Cluster(2 if address is None else None, address) as workers, pytest.raises(BackendError) as caught:
            upscale_file(film, tmp_path / "out.mkv", nearest, segment_length=Fraction(1), executor=workers)
    assert str(caught.value) == said.replace("PORT", port)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ray://127.0.0.1:1", "Connection refused"),
        ("127.0.0.1:1", "Connection refused"),
        ("nowhere.invalid", "Name or service not known"),
        ("ray://nowhere.invalid", "Name or service not known"),
        ("ray://127.0.0.1:99999", "Port out of range 0-65535"),
    ],
)
def test_where_nobody_listens_is_told_at_once(
    address: str, reason: str, make: Make, tmp_path: Path, nearest: Upscaler, monkeypatch: Any
) -> None:
    monkeypatch.setattr(ray, "init", None)  # which would try for half a minute
    film = make(f"-f lavfi -i testsrc2=s=48x32:r=25:d=2 -c:v libx264 {_SHORT}", "a.mkv")
    with Cluster(address=address) as workers, pytest.raises(BackendError) as caught:
        upscale_file(film, tmp_path / "out.mkv", nearest, segment_length=Fraction(1), executor=workers)
    assert str(caught.value) == f"No Ray cluster at {address} ({reason})"


def test_ray_starts_again_after_it_was_stopped_or_was_not_found(
    make: Make, tmp_path: Path, nearest: Upscaler, capfd: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    start = ray.init
    failed: list[str] = []

    def fail_once(address: str, **how: Any) -> Any:
        if address == "local" and not failed:
            failed.append(address)
            raise RuntimeError("Timed out waiting for a file")
        return start(address, **how)

    monkeypatch.setattr(ray, "init", fail_once)
    film = make(f"-f lavfi -i testsrc2=s=48x32:r=25:d=3 -c:v libx264 {_SHORT}", "a.mkv")
    how: dict[str, Any] = {"encoding": FFV1, "segment_length": Fraction(1)}
    with socket.create_server(("127.0.0.1", 0)) as listens:  # but is no Ray
        address = f"ray://127.0.0.1:{listens.getsockname()[1]}"
        with Cluster(address=address) as workers, pytest.raises(BackendError, match="No Ray cluster") as caught:
            upscale_file(film, tmp_path / "out.mkv", nearest, executor=workers, **how)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    for name in ("one.mkv", "two.mkv"):
        with Cluster(1) as workers:
            upscale_file(film, tmp_path / name, nearest, executor=workers, **how)
        assert len(frames(tmp_path / name)) == 75
    assert failed
    assert capfd.readouterr() == ("", ""), "nothing of Ray's is printed"
