"""The page of offers, in a real host over the real server: what it shows, and what choosing does."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.app.hosting import AppHost, Kit, app_host
from vastai_workflow.tools.app.view import OFFERS_META

pytestmark = pytest.mark.interop

ANY = {"gpu_name": "any", "max_price_per_hour": 3}


async def shown(h: AppHost, **fields: object) -> dict[str, str]:
    """The page over a workflow that has the user's yes; answers the workflow."""
    workflow = await h.agreed(**(ANY | fields))
    await h.open("find_offers", workflow)
    await h.app.locator("#choice").wait_for()
    return workflow


async def column(h: AppHost, number: int) -> list[float]:
    """The figures of a column, from the top."""
    texts = await h.app.locator(f"#rows tr td:nth-child({number})").all_inner_texts()
    return [float(text.replace(",", "")) for text in texts]


async def offer_ids(h: AppHost) -> list[int]:
    """The offers of the table, from the top."""
    inputs = await h.app.locator("#rows input").all()
    return [int(await one.get_attribute("data-offer") or 0) for one in inputs]


async def pick(h: AppHost, offers: Sequence[int]) -> None:
    """Select offers by their rows and make them the plan."""
    for offer in offers:
        await h.app.locator(f"#offer-{offer}").click()
    await h.app.get_by_role("button", name="Make it the plan").click()


@pytest.mark.requirement("APP-5")
@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_every_fitting_offer_stands_in_table_and_chart_and_the_plan_is_marked(
    kit: Kit, tmp_path: Path, era: str
) -> None:
    async with app_host(kit, tmp_path, era=era) as h:
        workflow = await shown(h)
        plan = await h.call("find_offers", **workflow)
        assert await h.app.locator("#rows tr").count() == plan["matches"] > 10
        assert await h.app.locator("#plot .point").count() == plan["matches"]
        assert await h.app.locator("#plot .point.plan").count() == 1
        assert f"offer {plan['chosen'][0]}" in await h.app.locator("#plan-words").inner_text()
        assert await h.app.locator("#rows tr.chosen input").get_attribute("data-offer") == str(plan["chosen"][0])
        assert f"${plan['total_per_hour']:.3f}/h" in await h.app.locator("#plan-figures").inner_text()
        assert await h.app.locator("#plot text.axis").all_text_contents() == ["DLPerf", "price, $/h"]
        assert f"{plan['matches']} offers from $" in await h.app.locator("#plot-words").inner_text()


@pytest.mark.requirement("APP-5")
async def test_the_heads_sort_both_ways_and_say_so(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        await shown(h)
        for title, number, first in (
            ("$/h", 3, "ascending"),
            ("DLPerf", 4, "descending"),
            ("Down Mb/s", 7, "descending"),
        ):
            head = h.app.get_by_role("columnheader", name=title, exact=True)
            other = "ascending" if first == "descending" else "descending"
            for way in (first, other):
                await head.get_by_role("button").click()
                assert await head.get_attribute("aria-sort") == way
                figures = await column(h, number)
                assert figures == sorted(figures, reverse=way == "descending")
                assert len(set(figures)) > 1
        assert await h.app.locator("[aria-sort]").count() == 1


@pytest.mark.requirement("APP-5")
async def test_filters_keep_what_passes_and_can_be_taken_away(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        await shown(h)
        everything = await h.app.locator("#rows tr").count()
        await h.app.get_by_label("Up to $/h").fill("0.4")
        assert all(price <= 0.4 for price in await column(h, 3))
        few = await h.app.locator("#rows tr").count()
        assert 0 < few < everything
        assert await h.app.locator("#shown").inner_text() == f"{few} of {everything} offers shown."
        region = await h.app.locator("#filter-region option").nth(1).inner_text()
        await h.app.get_by_label("Region").select_option(region)
        places = await h.app.locator("#rows tr .small:not(.narrow)").all_inner_texts()
        assert all(place.startswith(region) for place in places)
        await h.app.get_by_label("Up to $/h").fill("0.001")
        assert await h.app.locator("#rows").inner_text() == "No offer passes this filter."
        await h.app.get_by_role("button", name="Show all").click()
        assert await h.app.locator("#rows tr").count() == everything


@pytest.mark.requirement("APP-6")
async def test_choosing_another_offer_changes_the_servers_plan_and_rents_nothing(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        workflow = await shown(h)
        other = (await offer_ids(h))[3]
        ask = h.market.world.market.asks[other]
        await pick(h, [other])
        status = h.app.locator("#status", has_text="is the plan now")
        await status.wait_for()
        assert "This rented nothing. Your agent will see it." in await status.inner_text()
        await h.picture("offers-chosen")
        assert await h.app.locator("#rows tr.chosen input").get_attribute("data-offer") == str(other)
        assert h.market.world.requests["create"] == 0
        assert h.calls[-1] == {"tool": "find_offers", **workflow, "offer_ids": [other]}
        [told] = await h.host("host.told")
        plan_id = told.split("plan_id ")[1].split()[0]
        made = await h.call("create_instances", **workflow, plan_id=plan_id)
        machine = h.market.world.instances[made["orders"][0]["instance_id"]]
        assert (machine.machine, machine.gpu_ids) == (ask.machine, ask.gpu_ids)


@pytest.mark.requirement("APP-6")
async def test_a_plan_of_two_takes_exactly_two(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        await shown(h, gpu_name="RTX 4090", count=2, fleet="best_effort")
        button = h.app.get_by_role("button", name="Make it the plan")
        first, _, third, *_ = await offer_ids(h)
        await h.app.locator(f"#offer-{first}").click()
        assert await h.app.locator("#selected").inner_text() == "Selected: 1 of 2. Select 1 more."
        assert await button.is_disabled()
        await pick(h, [third])
        await h.app.locator("#status", has_text="are the plan now").wait_for()
        assert h.calls[-1]["offer_ids"] == [h.calls[-1]["offer_ids"][0], third]
        assert h.market.world.requests["create"] == 0


@pytest.mark.requirement("APP-6")
async def test_an_offer_that_went_away_is_refused_and_the_plan_stays(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        await shown(h)
        before = await h.app.locator("#plan-words").inner_text()
        gone = (await offer_ids(h))[4]
        ask = h.market.world.market.asks[gone]
        ask.machine.holders.update(dict.fromkeys(ask.gpu_ids, "another renter"))
        await pick(h, [gone])
        trouble = h.app.get_by_role("alert")
        await trouble.wait_for()
        assert f"offer {gone} is gone" in await trouble.inner_text()
        assert await h.app.locator("#plan-words").inner_text() == before
        assert await h.app.locator("#status").inner_text() == "The plan is as before."
        assert await h.host("host.told") == []


@pytest.mark.requirement("APP-6")
async def test_a_new_search_makes_a_new_plan_and_tells_the_agent(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        workflow = await shown(h)
        cheapest = (await offer_ids(h))[0]
        ask = h.market.world.market.asks[cheapest]
        ask.machine.holders.update(dict.fromkeys(ask.gpu_ids, "another renter"))
        await h.app.get_by_role("button", name="Search again").click()
        await h.app.locator("#status", has_text="is the plan now").wait_for()
        offers = await offer_ids(h)
        assert cheapest not in offers
        [told] = await h.host("host.told")
        assert f"of workflow {workflow['workflow_id']}, offers {offers[0]}, " in told
        assert "The yes that was given covers it: create_instances" in told


@pytest.mark.requirement("APP-6")
async def test_without_a_yes_the_agent_is_told_that_it_is_still_to_be_given(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        proposal = await h.call("propose_fields", **ANY)
        await h.open("find_offers", {"workflow_id": proposal["workflow_id"]})
        assert "Nothing is rented before your yes." in await h.app.locator("#plan-yes").inner_text()
        other = (await offer_ids(h))[2]
        await pick(h, [other])
        await h.app.locator("#status", has_text="is the plan now").wait_for()
        [told] = await h.host("host.told")
        assert f"The yes is still to be given; after it call find_offers with offer_ids [{other}]." in told


@pytest.mark.requirement("APP-5")
async def test_a_plan_whose_prices_ran_out_says_so(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        await h.page.clock.install()
        await shown(h)
        assert "run out" not in await h.app.locator("#plan-figures").inner_text()
        await h.pass_time(602)
        await h.app.locator("#plan-figures", has_text="run out").wait_for()


@pytest.mark.requirement("APP-3")
async def test_regions_and_names_that_look_like_markup_stay_text(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        found = await h.page.evaluate("(given) => host.call('find_offers', given)", await h.agreed(**ANY))
        hostile = "<img src=x onerror=document.title=1>"
        for row in found["_meta"][OFFERS_META][
            "offers"
        ]:  # the server leaves such texts out; the page does not count on it
            row.update(gpu=f"{hostile}{row['gpu']}", region=hostile)
        await h.open("find_offers", {}, result=found)
        await h.app.locator("#plot .point").first.wait_for()
        for place in ("#rows tr >> nth=0", "#plan-words", "#plot-words", "#filter-region"):
            assert hostile in (await h.app.locator(place).text_content() or "")
        assert await h.app.locator("img").count() == 0
        assert await h.inside("document.title") == "Offers"


@pytest.mark.requirement("APP-10")
async def test_an_offer_is_chosen_by_keyboard_alone(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        await shown(h)
        await h.inside("document.getElementById('filter-reliability').focus()")
        heads = await h.app.locator("thead button").count()
        for _ in range(1 + heads + 1):  # the reset button, the heads, then the radio of the plan
            await h.page.keyboard.press("Tab")
        await h.page.keyboard.press("ArrowDown")
        await h.page.keyboard.press("ArrowDown")
        focused = int(await h.inside("document.activeElement.dataset.offer"))
        assert focused == (await offer_ids(h))[2]
        await h.page.keyboard.press("Tab")
        await h.page.keyboard.press("Enter")
        await h.app.locator("#status", has_text="is the plan now").wait_for()
        assert h.calls[-1]["offer_ids"] == [focused]


@pytest.mark.requirement("APP-11")
async def test_a_search_that_finds_nothing_is_told_as_the_server_told_it(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        proposal = await h.call("propose_fields", gpu_name="RTX 4090", max_price_per_hour=0.01)
        await h.open("find_offers", {"workflow_id": proposal["workflow_id"]})
        trouble = h.app.get_by_role("alert")
        await trouble.wait_for()
        assert "allowed $0.01/h" in await trouble.inner_text()
        assert await h.app.locator("#status").inner_text() == "There are no offers to show."
        assert not await h.app.locator("#choice").is_visible()


@pytest.mark.requirement("APP-11")
async def test_before_the_answer_the_page_waits_and_a_cancelled_call_is_said(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        await h.open("find_offers", {}, silent=True)
        assert await h.app.locator("#status").inner_text() == "Waiting for the offers…"
        await h.host("host.cancel('the user stopped it')")
        await h.app.get_by_text("The call was cancelled.").wait_for()


@pytest.mark.requirement("APP-11")
async def test_in_a_host_that_lets_pages_call_nothing_the_offers_are_shown_and_the_agent_is_pointed_to(
    kit: Kit, tmp_path: Path
) -> None:
    async with app_host(kit, tmp_path) as h:
        workflow = await h.agreed(**ANY)
        await h.open("find_offers", workflow, capabilities={})
        await h.app.get_by_text("tell your agent what you want").wait_for()
        await h.app.locator("#rows tr").nth(3).locator("th").click()
        assert await h.app.get_by_role("button", name="Make it the plan").is_disabled()
        assert await h.app.get_by_role("button", name="Search again").is_disabled()


@pytest.mark.requirement("APP-11")
async def test_without_the_scores_the_table_stands_alone_and_a_search_shows_all(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path, apps=False) as h:
        workflow = await shown(h)
        assert await h.app.locator("#rows tr").count() == 3
        assert "so there is no chart" in await h.app.locator("#plot-words").inner_text()
        await h.app.get_by_role("button", name="Search again").click()
        await h.app.locator("#status", has_text="is the plan now").wait_for()
        plan = await h.call("find_offers", **workflow)
        assert await h.app.locator("#rows tr").count() == plan["matches"] > 3


@pytest.mark.requirement("APP-5")
async def test_a_yes_that_ran_out_covers_the_plan_no_more(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        await h.page.clock.install()
        await shown(h)
        words = h.app.locator("#plan-yes")
        assert (await words.inner_text()).startswith("Your yes covers this plan.")
        await h.pass_time(660)
        assert (await words.inner_text()).startswith("Your yes covers this plan.")
        await h.pass_time(1200)
        assert (await words.inner_text()).startswith("Your yes ran out.")
