"""The dialog: what is proposed, what is asked, and what one yes covers."""

from decimal import Decimal

import pytest

from tests.stack import stack, text_of
from tests.tools.acts import arm, follow, stranger, value_of


@pytest.mark.requirement("FIELD-1")
async def test_a_bare_proposal_has_every_default() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields")
        got = {row["name"]: row["value"] for row in proposal["fields"]}
        assert (
            got
            | {
                "api_key_source": "env:VAST_API_KEY",
                "gpu_name": "RTX 4090",
                "num_gpus": 1,
                "verified": True,
                "image": "pytorch/pytorch:latest",
                "disk_gb": 64,
                "count": 1,
                "label": "tester",
            }
            == got
        )
        assert {row["status"] for row in proposal["fields"]} == {"proposed"}


@pytest.mark.requirement("FIELD-2")
async def test_the_default_ceiling_is_a_quarter_above_the_plan_up_to_the_cent() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields")
        price = Decimal(str(proposal["outlook"]["price_per_hour"]))
        ceiling = Decimal(str(value_of(proposal, "max_price_per_hour")))
        assert price * Decimal("1.25") <= ceiling < price * Decimal("1.25") + Decimal("0.01")


@pytest.mark.requirement("FIELD-3")
async def test_one_question_and_one_yes_lead_to_a_plan() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields")
        [question] = proposal["questions"]
        for part in ("RTX 4090", "pytorch/pytorch:latest", "64 GB", "never above", "Traffic", "Balance", "SHA256:"):
            assert part in question
        confirmed = await follow(s, proposal)
        assert (confirmed["questions"], confirmed["missing"]) == ([], [])
        assert (await follow(s, confirmed))["next_call"]["tool"] == "create_instances"


@pytest.mark.requirement("FIELD-3")
async def test_the_label_is_never_asked_and_comes_from_the_account() -> None:
    async with stack() as s:
        s.world.account.username = "someone@example.com"
        s.world.account.email = "jane@example.com"
        proposal = await s.call("propose_fields")
        assert value_of(proposal, "label") == "jane"
        given = await s.call("propose_fields", workflow_id=proposal["workflow_id"], label="mine")
        assert value_of(given, "label") == "mine"


async def test_the_text_alone_is_enough_to_go_on() -> None:
    async with stack() as s:
        result = await s.client.call_tool("propose_fields", {})
        assert result.structured_content is not None
        text = text_of(result)
        for part in ("workflow_id", "digest", "next_call"):
            wanted = result.structured_content[part]
            assert (wanted["tool"] if part == "next_call" else wanted) in text
        assert "Ask the user: Rent 1 machine" in text
        assert "rented nothing" in text


@pytest.mark.requirement("FIELD-4")
async def test_running_machines_are_part_of_the_question() -> None:
    async with stack() as s:
        other = stranger(s)
        proposal = await s.call("propose_fields")
        [row] = proposal["active"]
        assert (row["instance_id"], row["ours"]) == (other, False)
        assert "Keep, stop or destroy?" in proposal["questions"][0]


async def test_the_second_cheapest_is_taken_and_a_single_match_is_asked() -> None:
    async with stack() as s:
        first = await s.call("propose_fields", policy="second_cheapest")
        cheapest = await s.call("propose_fields", max_price_per_hour=100)
        assert first["outlook"]["price_per_hour"] >= cheapest["outlook"]["price_per_hour"]
        fitting = (await s.call("find_offers", workflow_id=cheapest["workflow_id"], limit=64))["offers"]
        asks = [s.world.market.asks[row["offer_id"]] for row in fitting]
        for ask in asks:
            if ask.machine is not asks[0].machine:
                s.world.market.take(ask.machine, ask.gpu_ids, "other:1")
        single = await s.call("propose_fields", policy="second_cheapest")
        assert "Only one offer fits" in single["questions"][0]


async def test_minimum_vram_takes_the_place_of_the_default_gpu() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields", min_vram_gb=20)
        assert value_of(proposal, "gpu_name") == "any"
        assert "20 GB of GPU memory or more" in proposal["questions"][0]


async def test_an_interruptible_machine_needs_a_bid_which_is_its_price() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields", interruptible=True)
        assert "bid_per_hour" in proposal["missing"]
        bid = await s.call("propose_fields", workflow_id=proposal["workflow_id"], bid_per_hour=0.5)
        assert 0.5 <= bid["outlook"]["price_per_hour"] < 0.52, "the disk is extra"
        assert "interruptible at a bid of $0.50/h" in bid["questions"][0]


async def test_a_ceiling_under_the_market_is_told_with_the_cheapest_price() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields", max_price_per_hour=0.01)
        assert "as the cheapest that fits, allowed $0.01/h" in proposal["questions"][0]
        assert proposal["problem"] == "no_offers"
        assert proposal["next_call"] is None, "only the user can go on from here"


async def test_too_few_machines_for_the_count_are_told() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields", count=64, fleet="all_or_nothing")
        assert "of 64 machines fit now" in proposal["questions"][0]


@pytest.mark.requirement("FIELD-5")
async def test_values_of_env_are_masked_everywhere_and_reach_the_machine() -> None:
    async with stack() as s:
        env = {"HF_TOKEN": "hf_secret_value"}
        proposal = await s.call("propose_fields", env=env)
        assert "hf_secret_value" not in str(proposal)
        assert "HF_TOKEN" in proposal["questions"][0]
        await follow(s, proposal)
        plan = await s.call("find_offers", workflow_id=proposal["workflow_id"])
        made = await s.call("create_instances", workflow_id=proposal["workflow_id"], plan_id=plan["plan_id"])
        assert "hf_secret_value" not in str(made)
        assert s.world.instances[made["orders"][0]["instance_id"]].env["HF_TOKEN"] == "hf_secret_value"


@pytest.mark.requirement("FIELD-5")
async def test_another_value_of_env_is_another_digest() -> None:
    async with stack() as s:
        one = await s.call("propose_fields", env={"A": "1"})
        two = await s.call("propose_fields", workflow_id=one["workflow_id"], env={"A": "2"})
        assert one["digest"] != two["digest"]


@pytest.mark.requirement("FIELD-6")
async def test_the_create_is_built_from_the_agreed_fields() -> None:
    async with stack() as s:
        _, [machine] = await s.rented(
            image="nvidia/cuda:12.4", disk_gb=50, onstart="echo hi", ports=["8080"], label="job-1"
        )
        rented = s.world.instances[machine]
        assert (rented.image, rented.disk_gb, rented.onstart, rented.label) == (
            "nvidia/cuda:12.4",
            50,
            "echo hi",
            "job-1",
        )
        assert "-p 8080:8080" in rented.env


async def test_the_users_own_choice_of_offers_is_the_plan() -> None:
    async with stack() as s:
        workflow_id = await s.agreed()
        seen = await s.call("find_offers", workflow_id=workflow_id, limit=5)
        wanted = next(row for row in seen["offers"] if row["offer_id"] not in seen["chosen"])
        plan = await s.call("find_offers", workflow_id=workflow_id, offer_ids=[wanted["offer_id"]])
        assert plan["chosen"] == [wanted["offer_id"]]
        two = [row["offer_id"] for row in seen["offers"][:2]]
        refusal = await s.refusal("find_offers", workflow_id=workflow_id, offer_ids=two)
        assert "allowed 1 of distinct machines" in refusal["message"]
        gone = await s.refusal("find_offers", workflow_id=workflow_id, offer_ids=[wanted["offer_id"], 99])
        assert gone["code"] == "no_offers"


async def test_offers_can_be_looked_at_before_any_yes() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields", action="offers")
        plan = await follow(s, proposal)
        assert plan["offers"]


@pytest.mark.parametrize("fault", ["http_error", "drop_request"])
async def test_a_market_that_is_down_leaves_the_proposal_with_the_reason(fault: str) -> None:
    async with stack() as s:
        arm(s, fault, operation="search", times=4)
        proposal = await s.call("propose_fields")
        assert proposal["outlook"] is None
        assert proposal["next_call"]["tool"] == "propose_fields"
        assert (await follow(s, proposal))["outlook"] is not None


async def test_another_callers_workflow_is_as_unknown_as_none() -> None:
    async with stack() as s:
        proposal = await s.call("propose_fields")
        workflow = await s.deps.store.workflow(proposal["workflow_id"])
        assert workflow is not None
        await s.deps.store.change_workflow(workflow.workflow_id, lambda w: w.with_(owner="somebody"))
        for tool in ("propose_fields", "find_offers", "preflight"):
            assert (await s.refusal(tool, workflow_id=workflow.workflow_id))["code"] == "workflow_unknown"


async def test_a_ceiling_that_the_user_named_is_asked_again_when_the_filter_changes() -> None:
    async with stack() as s:
        workflow_id = await s.agreed(max_price_per_hour=2.0)
        changed = await s.call("propose_fields", workflow_id=workflow_id, num_gpus=2, gpu_name="any")
        assert "max_price_per_hour" in changed["missing"]
        assert value_of(changed, "max_price_per_hour") == 2.0


async def test_another_key_is_part_of_the_digest() -> None:
    async with stack() as s:
        one = await s.call("propose_fields")
        other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIother other"
        two = await s.call("propose_fields", workflow_id=one["workflow_id"], ssh_key=other)
        assert one["digest"] != two["digest"]
        assert "ssh_key" in two["missing"]


async def test_a_look_at_the_market_asks_nothing_and_is_bound_by_no_ceiling_of_ours() -> None:
    async with stack() as s:
        look = await s.call("propose_fields", action="offers", gpu_name="any", min_vram_gb=24)
        assert look["questions"] == []
        found = await s.call("find_offers", workflow_id=look["workflow_id"], limit=64)
        assert max(row["price_per_hour"] for row in found["offers"]) > found["total_per_hour"] * 1.25
        assert found["next_call"] == {
            "tool": "propose_fields",
            "arguments": {"workflow_id": look["workflow_id"], "action": "create"},
        }
        refused = await s.refusal("confirm_fields", workflow_id=look["workflow_id"], digest=look["digest"])
        assert refused["code"] == "price_not_shown"
