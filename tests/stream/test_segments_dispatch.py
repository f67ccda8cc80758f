"""Which worker has which segments; the workers do nothing."""

from __future__ import annotations

import errno
import os
import sys
from collections import deque
from pathlib import Path
from threading import Thread
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from vsr_plugin.errors import (
    BackendError,
    DamagedInputError,
    InputError,
    OutputError,
    UsageError,
    VsrError,
    WeightsError,
)
from vsr_plugin.stream.segments import Segment, dispatch, ship
from vsr_plugin.stream.segments.dispatch import Handle, _Work
from vsr_plugin.stream.segments.messages import Failed, Sign, is_lasting
from vsr_plugin.stream.segments.ship import Shipped


def _ready() -> Handle:
    kind, given = MagicMock(), cast("Any", None)
    kind.remote.return_value.make.options.return_value.remote.side_effect = lambda *_: object()
    handle = Handle(kind, given)
    handle.starting = None
    return handle


def _waiting(count: int) -> deque[Segment]:
    return deque(Segment(number, number, number + 1, number, 1) for number in range(count))


def _numbers(work: _Work) -> list[list[int]]:
    return [[segment.number for segment in handle.making.values()] for handle in work.handles]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (10, [[0, 2], [1, 3]]),
        (3, [[0], [1]]),  # who is done first takes the last one
        (1, [[0], []]),
    ],
)
def test_a_worker_has_two_segments_at_most_and_one_at_the_end(count: int, expected: list[list[int]]) -> None:
    work = _Work([_ready(), _ready()], _waiting(count))
    for _ in range(5):
        work.give(None, None)
    assert _numbers(work) == expected
    assert [segment.number for segment in work.waiting] == list(range(sum(map(len, expected)), count))


def test_a_worker_that_has_made_one_gets_the_next() -> None:
    work = _Work([_ready(), _ready()], _waiting(10))
    for _ in range(2):
        work.give(None, None)
    second = work.handles[1]
    second.forget(next(iter(second.making)))
    work.give(None, None)
    assert _numbers(work) == [[0, 2], [3, 4]]


def test_a_worker_that_is_not_ready_gets_nothing() -> None:
    work = _Work([_ready(), _ready()], _waiting(10))
    work.handles[0].starting = object()
    work.give(None, None)
    work.give(None, None)
    assert _numbers(work) == [[], [0, 1]]


_FULL = OutputError("Cannot write to out.mkv.parts: No space left on device")
_FULL.__cause__ = OSError(errno.ENOSPC, "No space left on device")
_STALE = OutputError("Cannot write to out.mkv.parts: Stale file handle")
_STALE.__cause__ = OSError(errno.ESTALE, "Stale file handle")


@pytest.mark.parametrize(
    ("error", "lasting"),
    [
        (_FULL, True),
        (UsageError("Unknown encoder"), True),
        (WeightsError("Expected weights of espcn"), True),
        (DamagedInputError("a.mkv is damaged"), True),
        (InputError("a.mkv has changed while it was read", fresh=True), True),
        (_STALE, False),
        (InputError("Cannot read a.mkv: Input/output error"), False),
        (BackendError("CUDA error"), False),
    ],
)
def test_what_cannot_pass_is_not_tried_again(error: VsrError, lasting: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_lasting(error) == lasting
    ray = MagicMock()
    ray.exceptions.RayTaskError = ray.exceptions.RayError = RuntimeError
    monkeypatch.setitem(sys.modules, "ray", ray)
    now = 0.0
    monkeypatch.setattr(dispatch, "monotonic", lambda: now)
    work = _Work([_ready()], _waiting(1))
    began: list[float] = []
    ray.get.return_value = Failed(error, is_lasting(error))
    raised: VsrError | None = None
    while raised is None:
        work.give(None, None)
        if refs := list(work.handles[0].making):
            began.append(now)
            try:
                assert work.take(work.handles[0], refs[0]) is None
            except VsrError as ended:
                raised = ended
        now += 1
    assert raised is error
    assert began == ([0] if lasting else [0, 2, 17]), "a pause before every try"


def test_while_a_segment_waits_to_be_tried_again_others_are_made() -> None:
    work = _Work([_ready()], _waiting(4))
    work.pauses[0] = float("inf")
    work.give(None, None)
    assert _numbers(work) == [[1]]
    assert [segment.number for segment in work.waiting] == [0, 2, 3]


def test_a_worker_that_gives_no_sign_of_life_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "ray", MagicMock())
    now = 0.0
    monkeypatch.setattr(dispatch, "monotonic", lambda: now)
    work = _Work([_ready(), _ready()], _waiting(4))
    work.give(None, None)
    work.give(None, None)
    hung, other = work.handles
    before = hung.actor
    for handle, slowest in (hung, 1.0), (other, 40.0):
        handle.sign = Sign(None, 1, slowest)
    hung.kind.remote.return_value = MagicMock()  # another one
    for now in range(0, 801, 50):
        other.heard = now
        for handle in work.handles:
            work.notice(handle)
        assert bool(hung.starting) == (now > 800), "20 times as long as any worker has needed for a frame"
    now = 801
    work.notice(hung)
    work.notice(other)
    assert caplog.messages == [
        "A worker has not responded for 150 s while processing segment 0",
        "A worker seems to hang: segment 0 is made by another",
    ]
    assert hung.actor is not before
    assert hung.starting
    assert [segment.number for segment in work.waiting] == [0, 2, 3]
    assert _numbers(work) == [[], [1]]


@pytest.mark.parametrize(("slowest", "limit"), [(0.0, 3600), (0.1, 600), (100.0, 2000)])
def test_how_long_a_worker_may_be_silent_depends_on_how_long_a_frame_takes(
    slowest: float, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", MagicMock())
    now = 0.0
    monkeypatch.setattr(dispatch, "monotonic", lambda: now)
    work = _Work([_ready()], _waiting(1))
    work.give(None, None)
    work.handles[0].sign = Sign(None, 1, slowest)
    now = limit
    work.notice(work.handles[0])
    assert _numbers(work) == [[0]]
    now += 1
    work.notice(work.handles[0])
    assert _numbers(work) == [[]]


def test_a_worker_gets_the_pieces_that_it_reads_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ship, "inbox", ship.Inbox())
    data = bytes(range(256)) * 40
    (tmp_path / "film.mkv").write_bytes(data)
    file = Shipped(str(tmp_path / "film.mkv"))
    file.piece = 100
    sent: list[int] = []

    def serve() -> None:
        while True:
            token, wanted = ship.inbox.wanted()
            sent.extend(wanted)
            ship.inbox.give(token, wanted, file.read(wanted), file.piece)

    server = Thread(target=serve, daemon=True)
    server.start()
    opened = file.open()
    assert opened.read(10) == data[:10]
    opened.seek(-50, os.SEEK_END)
    assert opened.read(100) == data[-50:-40], "no more than the piece has"
    opened.seek(5000)
    found = b""
    while len(found) < 3000 and (more := opened.read(3000 - len(found))):
        found += more
    assert found == data[5000:8000]
    assert sent[:3] == [0, 101, 50]
    assert len(sent) == len(set(sent)) < 60, "of 103"
    assert file.open().read(10) == data[:10], "which it still has"
    other = Shipped(file.path)
    other.piece = 100
    ship.inbox.begin(other)
    ship.inbox.give(file.token, range(1), b"late", 100)
    assert 0 not in ship.inbox._pieces, "what was asked for of another file is dropped"


@pytest.mark.parametrize("gap", range(1, 9))
def test_pieces_that_come_again_are_kept_until_they_are_read(
    gap: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ship, "inbox", ship.Inbox())
    data = os.urandom(3000)
    (tmp_path / "film.mkv").write_bytes(data)
    file = Shipped(str(tmp_path / "film.mkv"))
    file.piece = 10
    found: list[bytes] = []

    def serve() -> None:
        while True:
            token, wanted = ship.inbox.wanted()
            ship.inbox.give(token, wanted, file.read(wanted), file.piece)

    def read() -> None:
        opened = file.open()
        for first in (100, 100 - gap):  # the second segment begins just before those pieces that are still there
            opened.seek(first * 10)
            found.extend(opened.read(10) for _ in range(64 if first == 100 else 128))

    reader = Thread(target=read, daemon=True)
    Thread(target=serve, daemon=True).start()
    reader.start()
    reader.join(20)
    assert b"".join(found) == data[1000:1640] + data[1000 - 10 * gap : 2280 - 10 * gap]


def test_a_worker_that_was_lost_while_it_loaded_is_told_with_the_reason(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handle, "stop", lambda _: None)
    work = _Work([_ready(), _ready()], _waiting(4))
    work._lost(work.handles[0], None, RuntimeError("It died.\nThe machine is out of memory."))
    assert len(work.handles) == 1
    (said,) = caplog.messages
    assert said.startswith("A worker was lost 3 times while it loaded the network: going on without it (")
    assert said.endswith("(RuntimeError: The machine is out of memory.)")
