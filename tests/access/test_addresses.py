"""Only machines on the internet are contacted; with a local API, this machine too."""

import pytest

from vastai_workflow.access.addresses import AddressRefusedError, allowed_address, check, connect_any, resolve

GLOBAL = ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
LOOPBACK = ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"]
NEVER = [
    "10.0.0.5",
    "172.17.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "168.63.129.16",
    "192.0.0.192",
    "0.0.0.0",  # noqa: S104  # nothing is bound to it
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "203.0.113.7",
    "fe80::1",
    "fe80::1%lo",
    "fd00:ec2::254",
    "ff02::1",
    "ff0e::1",
    "::",
    "::127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "fec0::1",
    "no address",
    "",
]


@pytest.mark.parametrize("address", GLOBAL)
def test_a_global_address_is_allowed(address: str) -> None:
    assert allowed_address(address, local_market=False)
    assert allowed_address(address, local_market=True)


@pytest.mark.parametrize("address", LOOPBACK)
def test_this_machine_is_allowed_for_the_local_market_alone(address: str) -> None:
    assert not allowed_address(address, local_market=False)
    assert allowed_address(address, local_market=True)


@pytest.mark.requirement("SSH-6")
@pytest.mark.parametrize("address", NEVER)
def test_private_and_special_addresses_are_never_allowed(address: str) -> None:
    assert not allowed_address(address, local_market=False)
    assert not allowed_address(address, local_market=True)


@pytest.mark.requirement("SSH-6")
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "::1", " 10.0.0.5 \n"])
async def test_a_name_or_spelling_that_leads_inside_is_refused(host: str) -> None:
    with pytest.raises(AddressRefusedError, match="private network"):
        await resolve(host, 22, local_market=False)


async def test_names_are_resolved_and_spaces_of_the_provider_dropped() -> None:
    assert "127.0.0.1" in await resolve("localhost", 22, local_market=True)
    assert await resolve("8.8.8.8 \n", 22, local_market=False) == ("8.8.8.8",)


def test_one_bad_address_of_a_name_spoils_the_good_ones() -> None:
    assert check(["8.8.8.8", "8.8.4.4"], local_market=False) == ("8.8.8.8", "8.8.4.4")
    with pytest.raises(AddressRefusedError):
        check(["8.8.8.8", "10.0.0.5"], local_market=False)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("", 22),
        ("-oProxyCommand=x", 22),
        ("a b", 22),
        ("host\x00", 22),
        ("x" * 300, 22),
        ("x" * 64, 22),
        ("a..b", 22),
        ("8.8.8.8", 0),
        ("8.8.8.8", 65536),
    ],
)
async def test_what_is_no_address_is_refused(host: str, port: int) -> None:
    with pytest.raises(AddressRefusedError, match="none"):
        await resolve(host, port, local_market=False)


async def test_an_ip_that_cannot_be_reached_leads_to_the_next_one_and_no_further() -> None:
    tried: list[str] = []

    async def connect(ip: str) -> None:
        tried.append(ip)
        if ip != "good":
            raise ConnectionRefusedError(ip)

    await connect_any(["bad", "good"], connect)
    await connect_any(["good", "bad"], connect)
    assert tried == ["bad", "good", "good"]
    with pytest.raises(ConnectionRefusedError, match="worse"):
        await connect_any(["bad", "worse", "good"], connect)
