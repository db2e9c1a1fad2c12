"""SSH keys that come back, or go to several machines: only by a yes that is newer than the no."""

import pytest

from tests.stack import ERAS, PUBLIC_KEY, Era, Stack, stack
from tests.tools.acts import follow, planned

both_eras = pytest.mark.parametrize("era", ERAS)


def blobs_on_account(s: Stack) -> set[str]:
    return {key.public_key.split()[1] for key in s.world.account.ssh_keys.values()}


@both_eras
@pytest.mark.requirement("UNKEY-2")
async def test_a_key_that_was_taken_from_the_account_does_not_come_back_by_an_earlier_yes(era: Era) -> None:
    async with stack(era=era) as s:
        await s.ready()
        wanted = await planned(s)
        await follow(s, await s.refusal("remove_ssh_key", public_key=PUBLIC_KEY))
        await s.call("remove_ssh_key", public_key=PUBLIC_KEY)
        sent = s.creates_sent()
        refusal = await s.refusal("create_instances", **wanted)
        assert refusal["code"] == "confirmation_expired"
        assert "was taken from the account after this yes" in refusal["message"]
        assert (s.creates_sent(), blobs_on_account(s)) == (sent, set())
        again = await follow(s, refusal)
        s.clock.advance(1)
        await s.call("confirm_fields", workflow_id=again["workflow_id"], digest=again["digest"])
        plan = await s.call("find_offers", workflow_id=again["workflow_id"])
        made = await s.call("create_instances", workflow_id=again["workflow_id"], plan_id=plan["plan_id"])
        assert [order["state"] for order in made["orders"]] == ["rented"]
        assert blobs_on_account(s) == {PUBLIC_KEY.split()[1]}
