from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests import PATIENCE
from vsr_plugin.stream.buffered import buffered


def _alive() -> int:
    return sum(thread.name == "vsr buffered" for thread in threading.enumerate())


class _Counted(Iterator[int]):
    def __init__(self, end: int, fail_at: int | None = None) -> None:
        self.given = 0
        self.end = end
        self.fail_at = fail_at
        self.closed = False

    def __next__(self) -> int:
        if self.given == self.fail_at:
            raise ValueError("broken here")
        if self.given == self.end:
            raise StopIteration
        self.given += 1
        return self.given - 1

    def close(self) -> None:
        self.closed = True


def test_everything_comes_out_in_order() -> None:
    source = _Counted(100)
    assert list(buffered(source, 3)) == list(range(100))
    assert source.closed
    assert _alive() == 0


def test_it_reads_ahead_no_further_than_its_depth() -> None:
    source = _Counted(100)
    stage = buffered(source, 3)
    reached = threading.Event()
    reached.wait(0.2)  # time enough to run away
    assert source.given <= 3 + 1  # three kept, one in hand
    assert next(stage) == 0
    stage.close()
    assert _alive() == 0


def test_an_error_comes_after_what_came_before_it() -> None:
    stage = buffered(_Counted(100, fail_at=5), 2)
    got: list[int] = []
    with pytest.raises(ValueError, match="broken here"):
        got.extend(item for item in stage)
    assert got == [0, 1, 2, 3, 4]
    assert _alive() == 0
    assert list(stage) == []  # raised once


def test_closing_early_stops_joins_and_closes_the_source() -> None:
    source = _Counted(10**9)
    stage = buffered(source, 4)
    assert next(stage) == 0
    stage.close()
    stage.close()
    assert source.closed
    assert _alive() == 0


def test_closing_reaches_a_generator_through_two_stages() -> None:
    closed = []

    def numbers() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    outer = buffered(buffered(numbers(), 2), 2)
    assert next(outer) == 1
    outer.close()
    assert closed == [True]
    assert _alive() == 0


def test_ctrl_c_does_not_wait_for_the_item_in_hand() -> None:
    asked, answer = threading.Event(), threading.Event()
    closed = threading.Event()

    def slow() -> Iterator[int]:
        try:
            asked.set()
            answer.wait()
            yield 1
        finally:
            closed.set()

    stage = buffered(slow(), 2)
    asked.wait()
    with pytest.raises(KeyboardInterrupt), closing(stage):  # would never end if it waited
        raise KeyboardInterrupt
    assert not closed.is_set()
    answer.set()
    assert closed.wait(PATIENCE)
