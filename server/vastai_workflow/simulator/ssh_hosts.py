"""Keeps one SSH host for each running instance of a world, on a direct and on a proxy port."""

import asyncio
from dataclasses import dataclass

import asyncssh

from vastai_workflow.simulator.instances import Address, Instance
from vastai_workflow.simulator.ssh_host import SshHost, new_host_key
from vastai_workflow.simulator.world import World


@dataclass(slots=True)
class _Kept:
    """A host, and what it was made for."""

    host: SshHost
    container: int
    behaviour: str


class SshHosts:
    """Starts and closes SSH hosts as instances come and go; a world of loopback addresses shows their ports."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._kept: dict[int, _Kept] = {}
        self._host_keys: dict[tuple[int, int], asyncssh.SSHKey] = {}
        """By instance and container: a container keeps its key over stop, start and reboot."""
        self._busy = asyncio.Lock()

    async def follow(self) -> None:
        """Make the hosts fit the instances that run at this moment."""
        async with self._busy:
            self._world.settle()
            running = {
                one.id: one
                for one in self._world.instances.values()
                if one.actual == "running" and one.has_ssh and not one.unloaded
            }
            for instance_id in [one for one in self._kept if one not in running]:
                await self._close(instance_id)
            for instance in running.values():
                await self._keep(instance)

    async def _keep(self, instance: Instance) -> None:
        kept = self._kept.get(instance.id)
        if kept and (kept.container, kept.behaviour) == (instance.container, instance.ssh_behaviour):
            return
        await self._close(instance.id)
        model = instance.machine.model
        container = (instance.id, instance.container)
        if container not in self._host_keys:
            self._host_keys[container] = new_host_key()
        host = SshHost(
            authorized_keys=lambda: self._world.authorized_keys(instance.id),
            gpus=[(model.name, model.ram)] * len(instance.gpu_ids) if instance.cards is None else instance.cards,
            host_key=self._host_keys[container],
            behaviour=instance.ssh_behaviour,
        )
        self._kept[instance.id] = _Kept(host, instance.container, instance.ssh_behaviour)
        # another run of the same instance answers under the same address, as long as that is free
        before = instance.address or Address(0, 0)
        instance.address = Address(await _listen(host, before.direct_port), await _listen(host, before.proxy_port))

    async def _close(self, instance_id: int) -> None:
        kept = self._kept.pop(instance_id, None)
        if kept is not None:
            await kept.host.close()

    async def close(self) -> None:
        """Close all hosts."""
        async with self._busy:
            for instance_id in list(self._kept):
                await self._close(instance_id)


async def _listen(host: SshHost, port: int) -> int:
    """Listen on a port, or on another one if it is taken; gives the port."""
    try:
        return await host.start(port=port)
    except OSError:
        return await host.start()
