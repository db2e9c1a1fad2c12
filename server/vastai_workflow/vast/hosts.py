"""Which hosts are this machine, and from which ones a log may be fetched."""

import ipaddress
from typing import Final

import httpx

_NAMES: Final = frozenset({"localhost", "localhost."})


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or address alone; no name is looked up."""
    address = _address(host)
    return host.lower() in _NAMES if address is None else address.is_loopback


def may_hold_logs(url: httpx.URL, base_url: httpx.URL) -> bool:
    """Whether a log may be fetched there: the API's own origin on this machine, else S3 or the provider by https.

    The address comes from the provider's answer, so it must not lead to anything inside the user's network.
    """
    if url.userinfo:
        return False
    if is_loopback(base_url.host):
        return (url.scheme, url.host, url.port) == (base_url.scheme, base_url.host, base_url.port)
    labels = url.host.lower().rstrip(".").split(".")
    if url.scheme != "https" or url.port is not None or _address(url.host) is not None:
        return False
    if labels[-2:] == ["vast", "ai"]:
        return True
    return labels[-2:] == ["amazonaws", "com"] and any(one == "s3" or one.startswith("s3-") for one in labels[:-2])


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
