"""The simulator on real sockets: HTTP that breaks for real, and an SSH server per running instance."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import asyncssh
import httpx
import pytest

from tests.simulator.bench import BOOTED_S, ORDER, SINGLE_4090, without_limits
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.simulator.faults import Fault
from vastai_workflow.simulator.service import Service, running
from vastai_workflow.simulator.world import World

HOST = "127.0.0.1"


@dataclass
class Site:
    """A running service, its clock, a client, and a key that its account has."""

    service: Service
    clock: VirtualClock
    client: httpx.AsyncClient
    key: asyncssh.SSHKey

    async def order(self, **order: object) -> httpx.Response:
        """Rent the cheapest RTX 4090."""
        offers = (await self.client.post("/api/v0/bundles/", json=SINGLE_4090)).json()["offers"]
        return await self.client.put(f"/api/v0/asks/{offers[0]['id']}/", json={**ORDER, **order})

    async def booted(self, **order: object) -> dict[str, Any]:
        """Rent, wait and read the row."""
        number = (await self.order(**order)).json()["new_contract"]
        self.clock.advance(BOOTED_S)
        return await self.row(number)

    async def row(self, number: int) -> dict[str, Any]:
        """The instance as the API shows it."""
        return (await self.client.get(f"/api/v0/instances/{number}/")).json()["instances"]

    async def says(self, port: int, command: str = "nvidia-smi -L") -> str:
        """What a command prints over SSH."""
        async with asyncssh.connect(
            HOST, port, username="root", client_keys=[self.key], known_hosts=None, config=None, agent_path=None
        ) as connection:
            return str((await connection.run(command)).stdout)

    async def host_key(self, port: int) -> str:
        """The host key that a port shows."""
        key = await asyncssh.get_server_host_key(HOST, port, config=None)
        assert key is not None
        return key.get_fingerprint()


@asynccontextmanager
async def site(*faults: Fault, ssh: bool = True) -> AsyncGenerator[Site, None]:
    clock = VirtualClock()
    world = World(3, now=clock.now, offers=12, switches=without_limits())
    key = asyncssh.generate_private_key("ssh-ed25519")  # pyright: ignore[reportUnknownMemberType] - untyped **kwargs
    async with (
        running(world, clock, faults=faults, ssh=ssh) as service,
        httpx.AsyncClient(
            base_url=service.url, headers={"Authorization": f"Bearer {service.api_key}"}, timeout=10
        ) as client,
    ):
        await client.post("/api/v0/ssh/", json={"ssh_key": key.export_public_key().decode()})
        yield Site(service, clock, client, key)


def direct(row: dict[str, Any]) -> int:
    """The direct SSH port of a row."""
    return int(row["ports"]["22/tcp"][0]["HostPort"])


@contextmanager
def no_login() -> Generator[None, None, None]:
    """Nothing answers, or nothing lets in."""
    with pytest.raises((OSError, asyncssh.Error)):
        yield


async def test_a_lost_reply_is_a_closed_connection() -> None:
    async with site(Fault("drop_reply")) as one:
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            await one.order()
        assert len(one.service.world.instances) == 1
        assert (await one.order()).status_code == 200


async def test_a_lost_request_has_no_effect() -> None:
    async with site(Fault("drop_request")) as one:
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            await one.order()
        assert one.service.world.instances == {}


async def test_a_cut_reply_ends_too_early() -> None:
    async with site(Fault("cut_body")) as one:
        with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
            await one.order()
        assert len(one.service.world.instances) == 1


async def test_a_running_instance_is_reached_on_both_addresses() -> None:
    async with site() as one:
        row = await one.booted()

        assert (row["public_ipaddr"], row["ssh_host"]) == ("127.0.0.1 ", "localhost")
        assert "RTX 4090" in await one.says(direct(row))
        assert "RTX 4090" in await one.says(row["ssh_port"])


async def test_a_jupyter_instance_has_its_proxy_one_port_further() -> None:
    async with site() as one:
        row = await one.booted(runtype="jupyter_proxy ssh_proxy")

        assert "RTX 4090" in await one.says(row["ssh_port"] + 1)


async def test_nothing_answers_before_it_runs_and_after_its_end() -> None:
    async with site() as one:
        number = (await one.order()).json()["new_contract"]
        one.clock.advance(3)
        early = await one.row(number)
        assert "ports" not in early
        with no_login():
            await one.says(early["ssh_port"])
        one.clock.advance(BOOTED_S)
        row = await one.row(number)
        await one.client.request("DELETE", f"/api/v0/instances/{number}/", json={})
        await one.client.get("/__sim__/state")
        with no_login():
            await one.says(direct(row))


async def test_another_key_is_not_let_in_until_it_is_attached() -> None:
    async with site() as one:
        row = await one.booted()
        one.key = asyncssh.generate_private_key("ssh-ed25519")  # pyright: ignore[reportUnknownMemberType] - as above
        with no_login():
            await one.says(direct(row))
        public = one.key.export_public_key().decode()
        await one.client.post(f"/api/v0/instances/{row['id']}/ssh/", json={"ssh_key": public})

        assert "RTX 4090" in await one.says(direct(row))


async def test_a_recycled_instance_shows_another_host_key_on_the_same_port() -> None:
    async with site() as one:
        row = await one.booted()
        before = await one.host_key(direct(row))
        await one.client.put(f"/api/v0/instances/recycle/{row['id']}/", json={})
        one.clock.advance(BOOTED_S)
        recycled = await one.row(row["id"])

        assert direct(recycled) == direct(row)
        assert await one.host_key(direct(recycled)) != before


@pytest.mark.parametrize("spell", ["stop_and_start", "reboot"])
async def test_a_container_shows_the_same_host_key_after_a_spell_of_not_running(spell: str) -> None:
    async with site() as one:
        row = await one.booted()
        before = await one.host_key(direct(row))
        path = f"/api/v0/instances/{row['id']}/"
        if spell == "reboot":
            await one.client.put(f"/api/v0/instances/reboot/{row['id']}/", json={})
        else:
            await one.client.put(path, json={"state": "stopped"})
            one.clock.advance(BOOTED_S)
            assert (await one.row(row["id"]))["actual_status"] != "running"
            await one.client.put(path, json={"state": "running"})
        with no_login():
            await one.says(direct(row))
        one.clock.advance(BOOTED_S)

        assert await one.host_key(direct(await one.row(row["id"]))) == before


async def test_a_machine_without_a_card_says_so() -> None:
    async with site(Fault("gpu_missing")) as one:
        row = await one.booted()

        assert "RTX 4090" not in await one.says(direct(row))


async def test_another_card_inside_is_seen_inside() -> None:
    async with site(Fault("other_card_inside", gpu="RTX 3090")) as one:
        row = await one.booted()

        assert row["gpu_name"] == "RTX 4090"
        assert "RTX 3090" in await one.says(direct(row))


async def test_without_ssh_addresses_are_of_the_documentation() -> None:
    async with site(ssh=False) as one:
        row = await one.booted()

        assert row["ssh_host"].startswith("192.0.2.")


async def test_a_result_url_leads_back_to_the_service() -> None:
    async with site(ssh=False) as one:
        row = await one.booted()
        path = f"/api/v0/instances/request_logs/{row['id']}/"
        url = (await one.client.put(path, json={"tail": "50"})).json()["result_url"]
        one.clock.advance(2)

        assert url.startswith(one.service.url)
        assert "success, running" in (await one.client.get(url)).text
