"""The connections of the page's server: how many may wait for a request, and for how long."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(__name__)

_REQUEST_TIMEOUT = 10.0  # seconds from the connection to its first valid request
_MOST_PENDING = 64  # connections without one; another one closes the oldest
_KEEP_ALIVE = 75.0  # seconds between two requests of one connection


class Connections:
    """Creates the protocol of every connection, for `asyncio.loop.create_server`.

    A connection is pending until its first valid request. Half-sent requests can neither use up the sockets of this
    process nor keep others out.

    Args:
        server: Answers the requests.
        headers: Sent with answers to invalid requests.
    """

    def __init__(self, server: web.Server, headers: Mapping[str, str]) -> None:
        self._server = server
        self._pending: dict[web.RequestHandler, asyncio.TimerHandle] = {}  # oldest first
        self.headers = headers

    def __call__(self) -> web.RequestHandler:
        """The protocol of one connection."""
        return _Connection(self, self._server)

    def enter(self, connection: web.RequestHandler) -> None:
        """Count a new connection as pending."""
        if len(self._pending) >= _MOST_PENDING:
            oldest = next(iter(self._pending))
            self.admit(oldest)
            oldest.force_close()
        self._pending[connection] = asyncio.get_running_loop().call_later(_REQUEST_TIMEOUT, connection.force_close)

    def admit(self, connection: web.RequestHandler) -> None:
        """Stop counting a connection: it has sent a valid request, or is closed."""
        timer = self._pending.pop(connection, None)
        if timer is not None:
            timer.cancel()


class _Connection(web.RequestHandler):
    __slots__ = ("_connections",)

    def __init__(self, connections: Connections, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=_KEEP_ALIVE,
            lingering_time=0.0,  # no body of a request is read
            access_log=None,  # type: ignore[arg-type] # as `AppRunner` takes it
        )
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.enter(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.admit(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer invalid requests, without aiohttp's traceback, and requests whose handler failed."""
        if status == 500:
            _log.error("a request failed: %s", exc, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("The answer has begun, and cannot become another")
        text = "Expected a valid request."
        response = web.Response(status=status, text=text, headers=self._connections.headers)
        response.force_close()
        return response
