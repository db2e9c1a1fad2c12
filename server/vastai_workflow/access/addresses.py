"""Which addresses of the provider's answers may be contacted with the user's key: machines on the internet."""

import asyncio
import re
import socket
from collections.abc import Callable, Coroutine, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

MAX_IPS_PER_NAME: Final = 2
MAX_PORT: Final = 65_535
_HOST: Final = re.compile(r"[0-9A-Za-z:](?:[0-9A-Za-z.:-]{0,251}[0-9A-Za-z.:])?")
_NO_ADDRESS: Final = "The provider gives an SSH address that is none."
_NAT64: Final = IPv6Network("64:ff9b::/96")
_UNICAST: Final = (IPv4Network("0.0.0.0/0"), IPv6Network("2000::/3"))
_SERVICES: Final = (IPv4Network("168.63.129.16/32"), IPv4Network("192.0.0.0/24"))
"""Cloud platforms' services to their own machines (metadata, agents) in addresses that count as global (official docs
of Azure and Oracle); Python's own tables of private networks differ between its versions on the second."""


class AddressRefusedError(Exception):
    """An address that may not be contacted; the message is one sentence."""


def allowed_address(address: str, *, local_market: bool) -> bool:
    """Whether an IP address may be contacted: global unicast, and with a local API (the simulator) loopback too."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        if ip.sixtofour or ip.teredo:
            return False
        ip = _embedded(ip) or ip
    if ip.is_loopback:
        return local_market
    in_unicast, in_services = (any(ip in network for network in some) for some in (_UNICAST, _SERVICES))
    return ip.is_global and not ip.is_multicast and in_unicast and not in_services


async def resolve(host: str, port: int, *, local_market: bool) -> tuple[str, ...]:
    """The IP addresses of `host`, to connect to as they are, so that no second answer of the DNS counts.

    Raises `AddressRefusedError` if one of them may not be contacted, `OSError` if the name does not resolve.
    """
    name = host.strip()
    if not _HOST.fullmatch(name) or not 1 <= port <= MAX_PORT:
        raise AddressRefusedError(_NO_ADDRESS)
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a part of the name is empty or too long
        raise AddressRefusedError(_NO_ADDRESS) from error
    return check(tuple(dict.fromkeys(str(info[4][0]) for info in infos)), local_market=local_market)


def check(addresses: Sequence[str], *, local_market: bool) -> tuple[str, ...]:
    """The addresses that a name resolved to; one that may not be contacted spoils them all."""
    if not all(allowed_address(address, local_market=local_market) for address in addresses):
        raise AddressRefusedError("The provider's SSH address leads into a private network; it was not contacted.")
    return tuple(addresses)


async def connect_any(ips: Sequence[str], connect: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    """Connect to the first of at least one IP address that can be reached: a name may have one for IPv6 alone.

    Raises what the last one raised.
    """
    *others, last = ips[:MAX_IPS_PER_NAME]
    for ip in others:
        try:
            return await connect(ip)
        except OSError:
            continue
    return await connect(last)


def _embedded(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a mapped or NAT64 address stands for."""
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped
