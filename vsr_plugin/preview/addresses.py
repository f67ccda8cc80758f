"""Addresses: which are of this machine alone, and what other machines call it."""

from __future__ import annotations

from ipaddress import ip_address
from socket import AF_INET, AF_INET6, SOCK_DGRAM, gethostname, socket


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def public_name(host: str) -> str:
    """What other machines call ``host``: of all addresses, the one that leads out."""
    try:
        address = ip_address(host or "0.0.0.0")  # noqa: S104 - what no name means
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
