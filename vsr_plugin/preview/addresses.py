"""Addresses to listen at: which ones only this machine reaches, and by which one others reach it."""

from __future__ import annotations

import os
from ipaddress import ip_address
from socket import (
    AF_INET,
    AF_INET6,
    AI_PASSIVE,
    SO_REUSEADDR,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    getaddrinfo,
    gethostname,
    socket,
)

from ..errors import UsageError


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_address(host: str, port: int) -> None:
    """Check that an address can be listened at, before anything slow is loaded.

    Raises:
        UsageError: the address is not of this machine, or taken.
    """
    try:
        for family, _, _, _, address in getaddrinfo(host or None, port, type=SOCK_STREAM, flags=AI_PASSIVE):
            with socket(family, SOCK_STREAM) as probe:
                if os.name == "posix":
                    probe.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)  # as asyncio does
                probe.bind(address)
    except (OSError, UnicodeError, OverflowError) as error:
        raise not_listening(host, port, error) from error


def not_listening(host: str, port: int, error: Exception) -> UsageError:
    """The error to raise if an address cannot be listened at."""
    number = getattr(error, "errno", None)
    reason = os.strerror(number) if number and number > 0 else error
    return UsageError(f"Cannot listen at {host}:{port} ({reason})", port=..., host=...)


def public_name(host: str) -> str:
    """The name of ``host`` for other machines; if it means all addresses, the one with a route out."""
    try:
        address = ip_address(host or "0.0.0.0")  # noqa: S104 - what an empty name means
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    family, elsewhere = (AF_INET, "192.0.2.1") if address.version == 4 else (AF_INET6, "2001:db8::1")
    with socket(family, SOCK_DGRAM) as probe:
        try:
            probe.connect((elsewhere, 9))  # sends nothing
        except OSError:
            return gethostname()
        return str(probe.getsockname()[0])
