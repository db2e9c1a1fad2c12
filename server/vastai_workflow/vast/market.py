"""The steps' `Market` over the Vast.ai API: each operation as the official client sends it, each answer as values."""

import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

import anyio

from vastai_workflow.domain.errors import ProviderError
from vastai_workflow.domain.ledger import CREATE_TIMEOUT_S
from vastai_workflow.domain.market import (
    Account,
    Charge,
    CreateOutcome,
    CreateRequest,
    Instance,
    KeyEntry,
    MaybeRented,
    Offer,
    OfferQuery,
)
from vastai_workflow.domain.untrusted import clean
from vastai_workflow.vast import endpoints, logs, models, offers
from vastai_workflow.vast.client import Client
from vastai_workflow.vast.endpoints import Endpoint
from vastai_workflow.vast.errors import NoAnswer, NothingThere, readable
from vastai_workflow.vast.models import Row, Unreadable
from vastai_workflow.vast.renting import create_body, outcome, secrets_of
from vastai_workflow.vast.wire import Request

ACCOUNT_LIFE_S: Final = 5.0
"""Seconds for which an account is not read again: most calls begin with it."""

_PAGE: Final = 25
_BILLING_PAGE: Final = 100
_MAX_PAGES: Final = 200
_OK: Final = range(200, 300)

T = TypeVar("T")


class VastMarket:
    """The API with one key; see `steps.ports.Market` for what each method promises."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._account: Account | None = None
        self._account_read_at = 0.0

    @property
    def is_local(self) -> bool:
        """Whether the API stands on this machine."""
        return self._client.is_local

    @property
    def ahead_s(self) -> float:
        """The provider's clock against ours."""
        return self._client.ahead_s

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def account(self) -> Account:
        """Whose key it is; the account of a key never changes, and its balance is a few seconds old at most."""
        now = self._client.clock.now()
        if self._account is None or not 0 <= now - self._account_read_at < ACCOUNT_LIFE_S:
            self._account = await self._client.call(Request(endpoints.ACCOUNT), models.account)
            self._account_read_at = now
        return self._account

    async def instances(self, shown: Callable[[Instance], object] | None = None) -> tuple[Instance, ...]:
        """All pages of the v1 list; read once more if its count does not fit (something came or went meanwhile)."""
        try:
            return await self._list(shown)
        except ProviderError as error:
            if error.code != "incomplete_list":
                raise
        return await self._list(shown)

    async def instance(self, instance_id: int) -> Instance | None:
        """None only for null and for 404 with its code: a bad key is a 404 too."""
        request = Request(endpoints.INSTANCE, instance_id, query={"owner": "me"})
        try:
            found = await self._client.call(request, models.single_instance)
        except ProviderError as error:
            if error.code == "no_such_instance":
                return None
            raise
        if found is not None and found.id != instance_id:
            raise ProviderError("unreadable_answer", f"got instance {found.id}, allowed {instance_id}")
        return None if found is None else self._on_our_clock(found)

    async def offers(self, query: OfferQuery) -> tuple[Offer, ...]:
        """Offers that fit, by price."""
        return await offers.search(self._client, query)

    async def gpu_names(self) -> tuple[str, ...]:
        """Canonical names."""
        return await self._client.call(Request(endpoints.GPU_NAMES), models.gpu_names)

    async def create(self, ask_id: int, request: CreateRequest) -> CreateOutcome:
        """Sent once. `CREATE_TIMEOUT_S` bounds the whole call, its wait for a turn included."""
        put = Request(endpoints.CREATE, ask_id, body=create_body(request), secrets=secrets_of(request))
        try:
            with anyio.fail_after(CREATE_TIMEOUT_S):
                reply = await self._client.exchange(put)
        except NoAnswer as lost:
            return MaybeRented(lost.message)
        except TimeoutError:
            return MaybeRented(f"no answer to create within {CREATE_TIMEOUT_S:.0f} s")
        if not readable(reply) and reply.succeeded:
            return MaybeRented(self._client.unreadable(put, reply, "no answer").message)
        return outcome(reply, self._client.refusal(put, reply))

    async def start(self, instance_id: int) -> None:
        """Billed."""
        await self._change(endpoints.START, instance_id, {"state": "running"})

    async def stop(self, instance_id: int) -> None:
        """The disk is billed on."""
        await self._change(endpoints.STOP, instance_id, {"state": "stopped"})

    async def reboot(self, instance_id: int) -> None:
        """Stop and start, with the GPU kept."""
        await self._change(endpoints.REBOOT, instance_id, {})

    async def recycle(self, instance_id: int) -> None:
        """A new container from the same image; what was in the old one is lost."""
        await self._change(endpoints.RECYCLE, instance_id, {})

    async def destroy(self, instance_id: int) -> bool:
        """True where the provider took it or says that it is gone already; else raises."""
        try:
            await self._change(endpoints.DESTROY, instance_id, {})
        except ProviderError as error:
            if error.code != "no_such_instance":
                raise
        return True

    async def account_keys(self) -> tuple[KeyEntry, ...]:
        """The account's SSH keys."""
        try:
            return await self._client.call(Request(endpoints.ACCOUNT_KEYS), models.account_keys)
        except NothingThere:
            return ()

    async def add_account_key(self, public_key: str) -> None:
        """One line of text; the provider puts it into machines rented from now on."""
        await self._client.call(Request(endpoints.ADD_ACCOUNT_KEY, body={"ssh_key": public_key.strip()}), models.done)

    async def delete_account_key(self, key_id: int) -> None:
        """One that is gone already is a success; machines that have the key keep it."""
        await self._remove_key(Request(endpoints.DELETE_ACCOUNT_KEY, key_id, body={}))

    async def instance_keys(self, instance_id: int) -> tuple[KeyEntry, ...]:
        """What the provider says it attached; no proof of a login."""
        return await self._client.call(Request(endpoints.INSTANCE_KEYS, instance_id), models.instance_keys)

    async def attach_key(self, instance_id: int, public_key: str) -> None:
        """One line of text; "already associated" is a success."""
        await self._change(endpoints.ATTACH_KEY, instance_id, {"ssh_key": public_key.strip()})

    async def detach_key(self, instance_id: int, key_id: int) -> None:
        """One that is gone already is a success; proves nothing about the login."""
        await self._remove_key(Request(endpoints.DETACH_KEY, instance_id, key_id, body={}))

    async def charges(self, start: float, end: float) -> tuple[Charge, ...]:
        """By day."""
        filters = {"day": {"gte": int(start), "lte": int(end)}}
        query = {"latest_first": "false", "limit": str(_BILLING_PAGE), "format": "table"}
        return await self._billing(endpoints.CHARGES, filters, query)

    async def invoices(self, start: float, end: float) -> tuple[Charge, ...]:
        """By time."""
        filters = {"when": {"gte": int(start), "lte": int(end)}}
        return await self._billing(endpoints.INVOICES, filters, {"latest_first": "false", "limit": str(_BILLING_PAGE)})

    async def logs(self, instance_id: int, *, tail: int, daemon: bool) -> str:
        """Untrusted text."""
        return await logs.fetch(self._client, instance_id, tail=tail, daemon=daemon)

    async def _change(self, endpoint: Endpoint, instance_id: int, body: dict[str, Any]) -> None:
        await self._client.call(Request(endpoint, instance_id, body=body), models.done)

    async def _remove_key(self, request: Request) -> None:
        with contextlib.suppress(NothingThere):
            await self._client.call(request, models.done)

    def _on_our_clock(self, found: Instance) -> Instance:
        """With its times on our clock; `started_there` stays on the provider's."""
        ahead = self._client.ahead_s
        if not ahead:
            return found
        start, end = found.start_date, found.end_date
        return replace(
            found,
            start_date=None if start is None else start - ahead,
            end_date=None if end is None else end - ahead,
        )

    async def _list(self, shown: Callable[[Instance], object] | None) -> tuple[Instance, ...]:
        """One reading of the list; every doubt about its completeness is `incomplete_list`."""
        query = {"select_filters": "{}", "order_by": json.dumps([{"col": "id", "dir": "asc"}]), "limit": str(_PAGE)}
        found: list[Instance] = []
        total: Any = None
        async for page in self._pages(endpoints.INSTANCES, query):
            if "next_token" not in page:
                raise _incomplete("the list does not say whether there is more")
            rows = [self._on_our_clock(row) for row in _each(page, "instances", models.instance)]
            for instance in rows:
                found.append(instance)
                if shown is not None:
                    shown(instance)
            total = page.get("total_instances")
        if total is not None and total != len(found):
            raise _incomplete(f"got {len(found)} instances, allowed {clean(str(total), 20)}")
        if len({one.id for one in found}) != len(found):
            raise _incomplete("got an instance twice")
        return tuple(found)

    async def _billing(self, endpoint: Endpoint, filters: Row, query: Mapping[str, str]) -> tuple[Charge, ...]:
        pages = self._pages(endpoint, {"select_filters": json.dumps(filters), **query})
        return tuple([row async for page in pages for row in _each(page, "results", models.charge)])

    async def _pages(self, endpoint: Endpoint, query: Mapping[str, str]) -> AsyncGenerator[Row]:
        """Every page, one at least, by `next_token`. A 200 that says no is no page, a token seen before no end."""
        tokens: set[str] = set()
        after: dict[str, str] = {}
        for _ in range(_MAX_PAGES):
            try:
                page = await self._client.call(Request(endpoint, query={**query, **after}), models.page)
            except ProviderError as error:
                if error.code == "request_rejected" and error.status in _OK:
                    raise _incomplete(error.message) from None
                raise
            yield page
            token = page.get("next_token")
            if token is None:
                return
            if not isinstance(token, str) or token in tokens:
                raise _incomplete("got the same page token again")
            tokens.add(token)
            after = {"after_token": token}
        raise _incomplete(f"got more than {_MAX_PAGES} pages")


def _each(page: Row, name: str, read: Callable[[Any], T]) -> list[T]:
    """Every row as a value; one that can't be read makes the list incomplete, since it may be a machine that bills."""
    try:
        return [read(row) for row in models.rows(page, name)]
    except Unreadable as broken:
        raise _incomplete(f"a row can't be read: {broken}") from None


def _incomplete(why: str) -> ProviderError:
    return ProviderError("incomplete_list", why)
