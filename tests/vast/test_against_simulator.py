"""Every operation through the market on this machine, with its limits on: a peer that was written by other hands."""

from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from pydantic import SecretStr

from vastai_workflow.domain.errors import ProviderError, Uncertain
from vastai_workflow.domain.market import (
    CreateOutcome,
    CreateRequest,
    MaybeRented,
    NotRented,
    OfferQuery,
    Rented,
    RentedWithError,
)
from vastai_workflow.domain.money import Rate, Usd
from vastai_workflow.simulator.app import build_app
from vastai_workflow.simulator.clock import VirtualClock
from vastai_workflow.simulator.faults import Fault
from vastai_workflow.simulator.switches import Switches
from vastai_workflow.simulator.transport import SimulatedTransport
from vastai_workflow.simulator.world import World
from vastai_workflow.vast.key_sources import VastMarkets
from vastai_workflow.vast.market import VastMarket

QUERY = OfferQuery(disk_gb=40, gpu_name="RTX 4090", num_gpus=1)
ORDER = CreateRequest(
    image="pytorch/pytorch:latest",
    disk_gb=40,
    label="lab",
    order_marker="store.order",
    env={"FOO": SecretStr("bar-sesame")},
    ports=("8080:8080",),
    onstart="echo hi",
)
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGh3Y2FuYWRhZG9lc25vdGV4aXN0YXRhbGxvaGRlYXI somebody@example"
BOOTED_S = 60.0


class Peer:
    """A world and a client of it, on one clock."""

    def __init__(self, folder: Path, *faults: Fault, offers: int = 24, switches: Switches | None = None) -> None:
        self.clock = VirtualClock()
        self.world = World(1, now=self.clock.now, offers=offers, switches=switches or Switches())
        app = build_app(self.world, faults, clock=self.clock)
        self.environment = {"VAST_API_KEY": self.world.api_key}
        self.markets = VastMarkets(
            environment=self.environment,
            cwd=folder,
            home=folder,
            clock=self.clock,
            base_url="http://127.0.0.1:8931",
            transport=lambda: SimulatedTransport(app),
            answers_dir=folder,
        )

    async def market(self) -> VastMarket:
        return await self.markets.open("env:VAST_API_KEY")

    async def order(self, request: CreateRequest = ORDER) -> CreateOutcome:
        """Rent the cheapest machine."""
        market = await self.market()
        query = OfferQuery(disk_gb=40, gpu_name="RTX 4090", num_gpus=1, interruptible=request.bid is not None)
        return await market.create((await market.offers(query))[0].ask_id, request)

    async def running(self) -> int:
        """Rent one and wait until it runs."""
        outcome = await self.order()
        assert isinstance(outcome, Rented)
        await self.clock.sleep(BOOTED_S)
        return outcome.instance_id


Make = Callable[..., Peer]


def changed(switches: Switches) -> str:
    """What differs from the usual market."""
    usual = asdict(Switches())
    return ",".join(f"{name}={value}" for name, value in asdict(switches).items() if value != usual[name]) or "usual"


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[Peer] = []

    def peer(*faults: Fault, offers: int = 24, switches: Switches | None = None) -> Peer:
        made.append(Peer(tmp_path, *faults, offers=offers, switches=switches))
        return made[-1]

    yield peer
    for one in made:
        await one.markets.aclose()


async def test_a_machine_lives_and_ends_as_the_market_sees_it(make: Make) -> None:
    peer = make()
    market = await peer.market()
    assert await market.instances() == ()
    account = await market.account()
    assert (account.username, account.credit) == ("tester", Usd.of(25))
    instance_id = await peer.running()
    (found,) = await market.instances()
    assert (found.id, found.label, found.gpu_name, found.disk_gb) == (instance_id, "lab", "RTX 4090", 40)
    assert (found.actual_status, found.intended_status, found.order_marker) == ("running", "running", "store.order")
    assert found.env["-p 8080:8080"] == "1"
    assert found.direct_ssh_port
    assert found.ssh_host
    assert found.ssh_port
    assert await market.instance(instance_id) == found
    await market.stop(instance_id)
    await peer.clock.sleep(30)
    stopped = await market.instance(instance_id)
    assert stopped is not None
    assert stopped.intended_status == "stopped"
    await market.start(instance_id)
    await peer.clock.sleep(BOOTED_S)
    await market.reboot(instance_id)
    await peer.clock.sleep(BOOTED_S)
    await market.recycle(instance_id)
    await peer.clock.sleep(BOOTED_S)
    assert await market.destroy(instance_id)
    await peer.clock.sleep(30)
    assert await market.instance(instance_id) is None
    assert await market.destroy(instance_id)
    assert await market.instances() == ()


async def test_keys_logs_bills_and_names_are_read(make: Make) -> None:
    peer = make()
    market = await peer.market()
    assert "RTX 4090" in await market.gpu_names()
    assert await market.account_keys() == ()
    await market.add_account_key(PUBLIC_KEY)
    assert [one.public_key for one in await market.account_keys()] == [PUBLIC_KEY]
    instance_id = await peer.running()
    await market.attach_key(instance_id, PUBLIC_KEY)
    assert [one.public_key for one in await market.instance_keys(instance_id)] == [PUBLIC_KEY]
    assert await market.logs(instance_id, tail=5, daemon=False)
    assert str(instance_id) in await market.logs(instance_id, tail=5, daemon=True)
    began = peer.clock.now()
    await peer.clock.sleep(7200)
    charges = await market.charges(began - 86400, peer.clock.now() + 86400)
    assert {one.instance_id for one in charges} == {instance_id}
    assert sum(one.amount.amount for one in charges) > 0
    assert isinstance(await market.invoices(began - 86400, peer.clock.now() + 86400), tuple)


@pytest.mark.requirement("SSH-9")
async def test_a_key_is_taken_from_machine_and_account_and_once_more_without_harm(make: Make) -> None:
    peer = make()
    market = await peer.market()
    await market.add_account_key(PUBLIC_KEY)
    instance_id = await peer.running()
    await market.attach_key(instance_id, PUBLIC_KEY)
    [on_machine], [on_account] = await market.instance_keys(instance_id), await market.account_keys()
    for _ in range(2):
        await market.detach_key(instance_id, on_machine.id)
        await market.delete_account_key(on_account.id)
    assert (await market.instance_keys(instance_id), await market.account_keys()) == ((), ())


async def test_the_client_stays_within_every_limit_of_the_market(make: Make) -> None:
    peer = make()
    market = await peer.market()
    for _ in range(6):
        await market.instances()
    instance_id = await peer.running()
    for _ in range(2):
        await market.instance(instance_id)
        await market.stop(instance_id)
        await market.charges(1, 2)
        await market.invoices(1, 2)
    outcomes = [await peer.order() for _ in range(4)]
    assert all(isinstance(outcome, Rented) for outcome in outcomes)
    for outcome in outcomes:
        if isinstance(outcome, Rented):
            await market.destroy(outcome.instance_id)
    assert peer.world.requests["create"] == 5
    assert peer.world.requests["destroy"] == 4


async def test_a_market_above_one_page_is_read(make: Make) -> None:
    peer = make(offers=200)
    offers = await (await peer.market()).offers(OfferQuery(disk_gb=40, verified=False))
    assert len(offers) > 64
    assert list(offers) == sorted(offers, key=lambda one: (one.price, one.ask_id))


async def test_one_offer_is_found_again_by_its_id(make: Make) -> None:
    market = await make().market()
    wanted = (await market.offers(QUERY))[-1]
    assert await market.offers(OfferQuery(disk_gb=40, ask_ids=(wanted.ask_id,))) == (wanted,)


async def test_a_bid_is_made_at_its_price(make: Make) -> None:
    peer = make()
    market = await peer.market()
    offer = (await market.offers(OfferQuery(disk_gb=40, interruptible=True)))[0]
    outcome = await market.create(offer.ask_id, CreateRequest("x", 40, "lab", "s.o", bid=Rate.of("1.5")))
    assert isinstance(outcome, Rented)
    await peer.clock.sleep(BOOTED_S)
    (found,) = await market.instances()
    assert found.is_bid


RENTING_FAULTS: list[tuple[Fault, type[object], int]] = [
    (Fault("drop_request"), MaybeRented, 0),
    (Fault("drop_reply"), MaybeRented, 1),
    (Fault("cut_body"), MaybeRented, 1),
    (Fault("delay"), MaybeRented, 1),
    (Fault("http_error"), MaybeRented, 0),
    (Fault("http_error_after_effect"), MaybeRented, 1),
    (Fault("empty_body"), MaybeRented, 1),
    (Fault("truncated_json"), MaybeRented, 1),
    (Fault("html_body"), MaybeRented, 1),
    (Fault("success_false"), MaybeRented, 0),
    (Fault("success_false_after_effect"), MaybeRented, 1),
    (Fault("error_with_contract"), RentedWithError, 1),
    (Fault("refuse"), NotRented, 0),
    (Fault("too_many_requests", operation="create"), NotRented, 0),
]


@pytest.mark.parametrize(("fault", "kind", "rented"), RENTING_FAULTS, ids=[fault.name for fault, *_ in RENTING_FAULTS])
async def test_the_create_is_sent_once_and_claims_no_more_than_it_knows(
    make: Make, fault: Fault, kind: type[object], rented: int
) -> None:
    peer = make(fault)
    outcome = await peer.order()
    assert isinstance(outcome, kind)
    assert peer.world.requests["create"] == 1
    assert len(peer.world.instances) == rented
    assert "sesame" not in repr(outcome)


@pytest.mark.parametrize("fault", ["drop_reply", "empty_body", "http_error_after_effect", "delay"])
@pytest.mark.parametrize("operation", ["stop", "destroy"])
async def test_stop_and_destroy_come_through_a_lost_reply(make: Make, fault: str, operation: str) -> None:
    peer = make(Fault(fault, operation=operation))
    instance_id = await peer.running()
    await getattr(await peer.market(), operation)(instance_id)
    assert peer.world.requests[operation] == 2


@pytest.mark.parametrize("fault", ["drop_reply", "empty_body", "http_error_after_effect", "html_body", "delay"])
async def test_a_start_with_a_lost_reply_is_uncertain_and_sent_once(make: Make, fault: str) -> None:
    peer = make(Fault(fault, operation="start"))
    instance_id = await peer.running()
    market = await peer.market()
    await market.stop(instance_id)
    with pytest.raises(Uncertain):
        await market.start(instance_id)
    assert peer.world.requests["start"] == 1


async def test_a_start_without_a_free_gpu_says_so(make: Make) -> None:
    peer = make(Fault("resources_unavailable"))
    instance_id = await peer.running()
    market = await peer.market()
    await market.stop(instance_id)
    await peer.clock.sleep(30)
    with pytest.raises(ProviderError) as caught:
        await market.start(instance_id)
    assert caught.value.code == "resources_unavailable"


@pytest.mark.parametrize("fault", ["null_list", "truncated_list", "looping_token", "bad_token"])
async def test_a_list_that_lies_about_its_length_is_refused(make: Make, fault: str) -> None:
    peer = make(Fault(fault, times=0))
    await peer.running()
    with pytest.raises(ProviderError):
        await (await peer.market()).instances()


@pytest.mark.parametrize(
    "form", [Switches(too_many_form=form) for form in ("text", "text_colon", "detail", "error", "message")], ids=changed
)
async def test_a_429_in_each_form_is_waited_for(make: Make, form: Switches) -> None:
    peer = make(Fault("too_many_requests"), switches=form)
    assert await (await peer.market()).instances() == ()
    assert peer.world.requests["list"] == 2


@pytest.mark.parametrize("fault", ["filters_ignored", "odd_offer"])
async def test_offers_that_were_not_asked_for_are_left_out(make: Make, fault: str) -> None:
    offers = await (await make(Fault(fault)).market()).offers(QUERY)
    assert offers
    assert {(one.gpu_name, one.num_gpus, one.verified) for one in offers} == {("RTX 4090", 1, True)}


@pytest.mark.parametrize("switches", [Switches(), Switches(unknown_key_status=401)], ids=changed)
async def test_a_wrong_key_is_a_rejected_key(make: Make, switches: Switches) -> None:
    peer = make(switches=switches)
    peer.environment["VAST_API_KEY"] = "f" * 64
    market = await peer.market()
    for call in (market.account(), market.instances(), market.instance(31), market.destroy(31)):
        with pytest.raises(ProviderError) as caught:
            await call
        assert caught.value.code == "key_rejected"


@pytest.mark.parametrize(
    "switches", [Switches(missing_scope_status=403), Switches(missing_scope_status=401)], ids=changed
)
async def test_a_key_without_a_scope_is_told_which_one(make: Make, switches: Switches) -> None:
    peer = make(switches=switches)
    narrow = peer.world.add_key(peer.world.account, scopes={"misc", "user_read"})
    peer.environment["VAST_API_KEY"] = narrow.secret
    market = await peer.market()
    with pytest.raises(ProviderError, match="instance_read") as caught:
        await market.instances()
    assert caught.value.code == "scope_missing"


async def test_a_denial_with_a_code_that_nobody_documented_proves_nothing_but_says_what_lacks(make: Make) -> None:
    peer = make()
    narrow = peer.world.add_key(peer.world.account, scopes={"misc", "user_read"})
    peer.environment["VAST_API_KEY"] = narrow.secret
    outcome = await peer.order()
    assert isinstance(outcome, MaybeRented)
    assert "instance_write" in outcome.reason


@pytest.mark.parametrize("switches", [Switches(unknown_instance="null"), Switches(unknown_instance="404")], ids=changed)
async def test_an_unknown_machine_is_none_in_each_form(make: Make, switches: Switches) -> None:
    assert await (await make(switches=switches).market()).instance(31) is None
