"""Bad arguments: a refusal that says got and allowed, and nothing is sent."""

from typing import Any

import pytest

from tests.stack import ERAS, Era, stack, text_of
from tests.tools.acts import arm, planned, writes

BAD_FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "a negative disk": ({"disk_gb": -1}, "from 8 to 65536"),
    "no machines": ({"count": 0}, "from 1 to 64"),
    "a thousand machines": ({"count": 1000}, "from 1 to 64"),
    "an image with spaces": ({"image": "a b"}, "without spaces"),
    "an image with shell characters": ({"image": "a;rm -rf /"}, "without spaces or shell characters"),
    "an unknown action": ({"action": "everything"}, "offers | create"),
    "an unknown objective": ({"objective": "luck"}, "price | performance | reliability"),
    "a region that is none": ({"regions": ["Mars"]}, "two-letter"),
    "a ceiling of nothing": ({"max_price_per_hour": 0}, "from 0.001 to 128"),
    "a bid of nothing": ({"bid_per_hour": 0}, "from 0.001 to 128"),
    "a port that is none": ({"ports": ["99999"]}, "8080"),
    "an env name that is none": ({"env": {"A B": "x"}}, "NAME: text"),
    "our own env name": ({"env": {"VASTAI_WORKFLOW_ORDER": "x"}}, "without VASTAI_WORKFLOW_"),
    "too many variables": ({"env": {f"A{n}": "" for n in range(65)}}, "up to 64"),
    "a start script that a terminal hides": ({"onstart": "true\x1b]\nreboot\x07"}, "only line breaks and tabs"),
    "a label with a line break": ({"label": "a\nb"}, "one line"),
    "a source that is none": ({"api_key_source": "ftp:key"}, "env:NAME, file:PATH, cli or keyring"),
}


@pytest.mark.requirement("INPUT-4")
@pytest.mark.parametrize(("arguments", "allowed"), BAD_FIELDS.values(), ids=BAD_FIELDS)
async def test_a_field_with_a_bad_value_says_what_is_allowed(arguments: dict[str, Any], allowed: str) -> None:
    async with stack() as s:
        refusal = await s.refusal("propose_fields", **arguments)
        assert refusal["code"] == "invalid_argument"
        assert "got" in refusal["message"]
        assert allowed in refusal["message"]
        assert sum(s.world.requests.values()) == 0


@pytest.mark.requirement("INPUT-4")
@pytest.mark.parametrize("era", ERAS)
async def test_an_unknown_argument_is_refused_with_the_known_ones(era: Era) -> None:
    async with stack(era=era) as s:
        refusal = await s.refusal("propose_fields", gpu="RTX 4090")
        assert refusal["code"] == "unknown_argument"
        assert "got gpu, allowed workflow_id" in refusal["message"]
        assert "gpu_name" in refusal["message"]


@pytest.mark.requirement("INPUT-4")
@pytest.mark.parametrize("bad", ["31001001", True, 1.5, 0, -4, None, [1]])
@pytest.mark.parametrize(
    "tool", ["destroy_instances", "start_instances", "stop_instances", "attach_ssh_key", "remove_ssh_key"]
)
async def test_an_id_that_is_no_whole_number_is_refused(tool: str, bad: Any) -> None:
    async with stack() as s:
        refusal = await s.refusal(tool, instance_ids=[bad])
        assert refusal["code"] == "invalid_argument"
        assert f"got {bad!r}" in refusal["message"]
        assert writes(s) == {}


@pytest.mark.requirement("INPUT-4")
@pytest.mark.parametrize("bad", ["64", True, 64.5])
async def test_a_number_that_is_text_or_true_is_refused(bad: Any) -> None:
    async with stack() as s:
        assert (await s.refusal("propose_fields", disk_gb=bad))["code"] == "invalid_argument"


@pytest.mark.requirement("INPUT-4")
async def test_no_ids_and_too_many_ids_are_refused() -> None:
    async with stack() as s:
        for ids in ([], list(range(1, 66))):
            assert (await s.refusal("destroy_instances", instance_ids=ids))["code"] == "invalid_argument"


@pytest.mark.requirement("INPUT-4")
async def test_a_missing_argument_is_named() -> None:
    async with stack() as s:
        refusal = await s.refusal("create_instances", workflow_id="wf")
        assert "plan_id" in refusal["message"]


@pytest.mark.requirement("INPUT-5")
@pytest.mark.parametrize(("name", "near"), [("RTX 4091", "RTX 4090"), ("rtx4090", "RTX 4090"), ("A100", "A100")])
async def test_a_gpu_name_that_no_offer_has_is_refused_with_the_nearest(name: str, near: str) -> None:
    async with stack() as s:
        result = await s.client.call_tool("propose_fields", {"gpu_name": name})
        assert result.is_error
        assert f"got {name!r}, which no offer has" in text_of(result)
        assert near in text_of(result).split("Next:")[1]


@pytest.mark.requirement("INPUT-5")
async def test_a_gpu_name_like_no_other_points_to_any() -> None:
    async with stack() as s:
        result = await s.client.call_tool("propose_fields", {"gpu_name": "zzzzzzzz"})
        assert "use 'any'" in text_of(result)


@pytest.mark.requirement("INPUT-5")
async def test_a_real_gpu_that_nobody_offers_now_is_told_as_such() -> None:
    async with stack() as s:
        for ask in list(s.world.market.free_asks()):
            if ask.machine.model.name == "RTX 4090" and ask.machine.is_free(ask.gpu_ids):
                s.world.market.take(ask.machine, ask.gpu_ids, "other:1")
        proposal = await s.call("propose_fields")
        assert "no offer fits the filter now" in proposal["questions"][0]


@pytest.mark.requirement("INPUT-7")
@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"code": "auth_error", "status": 404}, "key_rejected"),
        ({"code": "auth_error", "status": 401}, "key_rejected"),
        ({"code": "auth_error", "status": 403}, "key_rejected"),
        ({"code": "missing_scope", "status": 403}, "scope_missing"),
        ({"code": "tfa_required", "status": 401}, "two_factor"),
        ({"code": "who_knows", "status": 418}, "request_rejected"),
    ],
    ids=str,
)
async def test_an_answer_that_says_no_is_told_by_what_it_means(settings: dict[str, Any], code: str) -> None:
    async with stack() as s:
        arm(s, "refuse", operation="user", **settings)
        refusal = await s.refusal("preflight")
        assert refusal["code"] == code


@pytest.mark.requirement("INPUT-7")
async def test_an_unknown_no_shows_the_request_without_its_secrets() -> None:
    async with stack() as s:
        create = await planned(s, env={"TOKEN": "secret-value"})
        arm(s, "refuse", operation="search", code="who_knows", status=422)
        refusal = await s.refusal("create_instances", **create)
        assert refusal["code"] == "request_rejected"
        assert "sent" in refusal["message"]
        assert "/api/v0/bundles/" in refusal["message"]
        assert s.world.api_key not in str(refusal)
        assert "secret-value" not in str(refusal)


@pytest.mark.requirement("INPUT-7")
async def test_a_missing_scope_is_named() -> None:
    async with stack() as s:
        s.environment["VAST_API_KEY"] = s.world.add_key(s.world.account, {"user_read", "misc"}).secret
        refusal = await s.refusal("preflight")
        assert refusal["code"] == "scope_missing"
        assert "instance_read" in refusal["message"]


@pytest.mark.requirement("INPUT-7")
async def test_a_server_error_is_waited_out_for_reads_and_told_when_it_lasts() -> None:
    async with stack() as s:
        arm(s, "http_error", operation="list", status=502)
        assert (await s.call("preflight"))["account"] == "tester"
        arm(s, "http_error", operation="list", status=502, times=0)
        assert (await s.refusal("preflight"))["code"] == "provider_down"


@pytest.mark.requirement("INPUT-7")
async def test_after_a_server_error_the_state_is_read_again_before_anything_is_rented() -> None:
    async with stack() as s:
        create = await planned(s)
        arm(s, "http_error", operation="list", status=502, times=0)
        assert (await s.refusal("create_instances", **create))["code"] == "provider_down"
        assert s.creates_sent() == 0


async def test_a_fault_of_the_server_itself_is_an_answer_without_values(caplog: pytest.LogCaptureFixture) -> None:
    async with stack() as s:
        await s.deps.store.add_workflow((await _any_workflow(s)).with_(workflow_id="wf_broken", fields={}))
        refusal = await s.refusal("preflight", workflow_id="wf_broken")
        assert refusal["code"] == "internal_error"
        assert "KeyError" in refusal["message"]
        assert "fault in preflight: KeyError" in caplog.text


async def _any_workflow(s: Any) -> Any:
    proposal = await s.call("propose_fields")
    return await s.deps.store.workflow(proposal["workflow_id"])
