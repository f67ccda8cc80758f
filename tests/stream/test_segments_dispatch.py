"""Which worker has which segments; the workers do nothing."""

from __future__ import annotations

from collections import deque
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from vsr_plugin.stream.segments import Segment
from vsr_plugin.stream.segments.dispatch import Handle, _Work


def _ready() -> Handle:
    actor, given = MagicMock(), cast("Any", None)
    actor.make.options.return_value.remote.side_effect = lambda *_: object()
    handle = Handle(actor, given)
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
