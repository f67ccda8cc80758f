"""`buffered`: the only stage of the pipeline with a thread."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import closing, nullcontext
from typing import Any, Self


class buffered[T](Iterator[T]):  # noqa: N801 - a stage is called like a function
    """Run ``source`` in its own thread, at most ``depth`` items ahead of the consumer.

    The items, their order and the end are those of the source. An exception of the source is raised here, once, after
    the items that came before it. `close` (and the end, and an error) stops the thread, which closes the source, and
    joins it. After Ctrl-C, `close` does not wait: the thread ends by itself when its current item is done.
    """

    def __init__(self, source: Iterator[T], depth: int) -> None:
        self._source = source
        self._depth = depth
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._stopping = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read_ahead, name="vsr buffered", daemon=True)
        self._thread.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._ended)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
        self.close()
        error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """Stop reading, and wait until the source is closed; may be called again."""
        with self._changed:
            self._stopping = True
            self._items.clear()
            self._changed.notify_all()
        if not isinstance(sys.exception(), KeyboardInterrupt):
            self._thread.join()

    def _read_ahead(self) -> None:
        try:
            source: Any = self._source
            with closing(source) if hasattr(source, "close") else nullcontext():
                for item in source:
                    with self._changed:
                        self._changed.wait_for(lambda: len(self._items) < self._depth or self._stopping)
                        if self._stopping:
                            return
                        self._items.append(item)
                        self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - every error is raised at the consumer
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
