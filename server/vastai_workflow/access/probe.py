"""Real SSH log-ins, which show that a machine is there, that the key works and that it has the agreed GPUs."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio.to_thread
import asyncssh

from vastai_workflow.access import addresses, gpus, known_hosts
from vastai_workflow.access.identity import NOT_SIGNED, AgentKey, NoPrivateKeyError, signer
from vastai_workflow.access.known_hosts import KnownHosts
from vastai_workflow.access.race import Attempt, first_of
from vastai_workflow.access.session import (
    FAULTS,
    TOO_MUCH,
    Login,
    Output,
    host_key_algorithms,
    meaning,
)
from vastai_workflow.domain.errors import LocalError
from vastai_workflow.steps.ports import ProbeReport, ProbeTarget

_log: Final = logging.getLogger("vastai-workflow")

STAGGER_S: Final = 0.25
"""The head start of an address before the next one is tried too (RFC 8305 recommends 250 ms)."""

AGENT_SHARE: Final = 0.2
LOGIN_SHARE: Final = 0.6
"""The shares of a probe's time after which no ssh-agent and no login is waited for; the rest is for the command."""


class SshProber:
    """Logs in as root on the addresses that the provider gave for an instance, and on nothing else."""

    def __init__(self, hosts: KnownHosts, *, agent_path: str | None = None, stagger_s: float = STAGGER_S) -> None:
        """`agent_path` is the socket of the user's ssh-agent; it is asked for signatures and never forwarded."""
        self._hosts = hosts
        self._agent_path = agent_path
        self._stagger_s = stagger_s

    @property
    def known_hosts_file(self) -> Path:
        """Where the machines' host keys are pinned."""
        return self._hosts.path

    async def probe(self, target: ProbeTarget, *, timeout_s: float) -> ProbeReport:
        """Log in and look at the GPUs, within `timeout_s` seconds. What network and machine do wrong is a report.

        Without a private key, or with an agent that does not sign, it ends at `port_open` with `no_private_key`.
        Raises `LocalError` alone: `store_unavailable` for the known_hosts file, `ssh_key_refused` for a target whose
        key is none.
        """
        if not target.addresses:
            return ProbeReport("none", reason="bad_address", detail="The provider gives no SSH address (yet).")
        now = asyncio.get_running_loop().time()
        agent_by, login_by, end_by = (now + timeout_s * share for share in (AGENT_SHARE, LOGIN_SHARE, 1))
        pin = partial(self._pin, target, self._hosts.times_forgotten(target.instance_id))
        pinned = await self._trusted(target)
        reach = partial(_log_in, target=target, pinned=pinned, login_by=login_by)
        try:
            async with signer(target.key, self._agent_path, agent_by) as key:
                best = await self._race(target, partial(reach, key=key))
                try:
                    # not before the login: on an address that another machine had, a stranger refuses our key
                    if best.connection is not None and await pin(best):
                        await _look(best, best.connection, target, end_by)
                finally:
                    await best.close()
                if isinstance(key, AgentKey) and key.left_unsigned and best.reason in {"auth_refused", "timeout"}:
                    best.fail("no_private_key", NOT_SIGNED)
        except NoPrivateKeyError as missing:
            best = await self._race(target, partial(_knock, reach=reach))
            if best.reason is None:
                best.fail("no_private_key", str(missing))
        if best.reason == "no_private_key" and best.host_key and best.host_key.get_fingerprint() == target.host_key:
            await pin(best)  # known from an earlier login, so that the user's own one is held to it
        return best.report()

    async def is_pinned(self, instance_id: int, fingerprint: str | None) -> bool:
        """See `Prober`."""
        try:
            pinned = await anyio.to_thread.run_sync(self._hosts.pinned, instance_id)
        except LocalError:
            return False
        return pinned is not None and fingerprint in {None, known_hosts.fingerprint(pinned)}

    async def forget(self, instance_id: int) -> bool:
        """Drop the instance's host key; a file that can't be written must not keep a machine from ending."""
        try:
            await anyio.to_thread.run_sync(self._hosts.forget, instance_id)
        except LocalError as error:
            _log.warning("the host key of instance %d stays pinned: %s", instance_id, error.message)
            return False
        return True

    async def _race(self, target: ProbeTarget, reach: Callable[[Attempt], Coroutine[Any, Any, None]]) -> Attempt:
        attempts = [Attempt(host.strip(), port) for host, port in target.addresses]
        return await first_of(attempts, reach, stagger_s=self._stagger_s)

    async def _trusted(self, target: ProbeTarget) -> str | None:
        """The pinned line, unless somebody changed it: the ledger's fingerprint is the truth."""
        pinned = await anyio.to_thread.run_sync(self._hosts.pinned, target.instance_id)
        return pinned if target.host_key in {None, known_hosts.fingerprint(pinned)} else None

    async def _pin(self, target: ProbeTarget, times_forgotten: int, attempt: Attempt) -> bool:
        """Trust the host key if it is the first; False where another was pinned meanwhile, which is told."""
        if attempt.host_key is None:
            return False
        pin = partial(
            self._hosts.pin,
            target.instance_id,
            attempt.host_key,
            times_forgotten=times_forgotten,
            recorded=target.host_key,
        )
        try:
            await anyio.to_thread.run_sync(pin)
        except LocalError as error:
            if error.code != "host_key_changed":
                raise
            attempt.stage = "port_open"
            attempt.fail(error.code, error.message)
            return False
        return True


async def _log_in(
    attempt: Attempt,
    *,
    target: ProbeTarget,
    pinned: str | None,
    login_by: float,
    key: asyncssh.SSHKey | asyncssh.SSHKeyPair | None = None,
) -> None:
    """Log in on one address; the connection stays open in the attempt."""
    known = target.host_key or (known_hosts.fingerprint(pinned) if pinned else None)
    login = Login(known)

    async def connect(ip: str) -> None:
        attempt.connection, _ = await asyncssh.create_connection(
            lambda: login,
            ip,
            attempt.port,
            config=None,
            username="root",
            client_keys=None if key is None else [key],  # None: none of the usual files
            agent_path=None,
            agent_forwarding=False,
            preferred_auth=["publickey"],
            disable_trivial_auth=True,
            known_hosts=asyncssh.import_known_hosts(""),  # empty, so `Login` decides; None would trust all keys
            server_host_key_algs=host_key_algorithms(pinned),
            compression_algs=["none"],  # a machine must not inflate what we count
        )

    try:
        async with asyncio.timeout_at(login_by):
            ips = await addresses.resolve(attempt.host, attempt.port, local_market=target.local_market)
            await addresses.connect_any(ips, connect)
        attempt.stage = "ssh_ok"
    except FAULTS as error:
        attempt.fail(*meaning(error))
    attempt.host_key = login.host_key
    if attempt.reason is not None and login.identified:
        attempt.stage = "port_open"
    if login.changed and login.host_key is not None:
        attempt.reason = "host_key_changed"
        shown = login.host_key.get_fingerprint()
        attempt.detail = known_hosts.changed(target.instance_id, known=known or "", shown=shown).message


async def _knock(attempt: Attempt, *, reach: Callable[[Attempt], Coroutine[Any, Any, None]]) -> None:
    """See whether the right machine answers on one address; that it lets nobody in without a key is as it should be."""
    await reach(attempt)
    if attempt.reason == "auth_refused":
        attempt.reason, attempt.detail = None, ""


async def _look(attempt: Attempt, connection: asyncssh.SSHClientConnection, target: ProbeTarget, end_by: float) -> None:
    """Run the query and judge its answer."""
    output = Output()
    try:
        async with asyncio.timeout_at(end_by):
            await connection.create_session(  # pyright: ignore[reportUnknownMemberType]  # AnyStr is left open there
                lambda: output, gpus.QUERY, encoding=None
            )
            await output.ended.wait()
    except TimeoutError:
        if output.status is None:
            return attempt.fail("hung", "Login works, but the machine does not answer a command in time.")
        # the command ended, and something that the image starts at each login still holds its output open
    except FAULTS:
        return attempt.fail("closed", "Login works, but the machine starts no command.")
    if output.too_much:
        return attempt.fail("too_much_output", TOO_MUCH)
    if output.status is None:
        return attempt.fail("closed", "The machine hung up while a command ran.")
    stdout = output.stdout.decode(errors="replace")
    verdict = gpus.judge(
        stdout, output.status, gpu_name=target.gpu_name, num_gpus=target.num_gpus, gpu_ram_mb=target.gpu_ram_mb
    )
    attempt.reason, attempt.detail = verdict.reason, verdict.detail
    if verdict.reason is None:
        attempt.stage = "gpu_ok"
    return None
