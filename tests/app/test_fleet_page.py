"""The page of machines and money, in a real host over the real server: what it shows, and how a machine ends."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from tests.app.hosting import AppHost, Kit, app_host
from vastai_workflow.simulator.accounts import SCOPES

pytestmark = pytest.mark.interop

HOSTILE = (
    "<img src=x onerror=\"document.title='hit'\">\u202e</td></table><script>document.title='hit'</script>" + "x" * 150
)


async def ready(h: AppHost, **fields: object) -> list[int]:
    """Machines that answer."""
    workflow, machines = await h.rented(**fields)
    h.clock.advance(100)
    waited = await h.call("wait_until_ready", **workflow, timeout_s=60)
    assert [item["readiness"] for item in waited["instances"]] == ["gpu_ok"] * len(machines)
    return machines


async def shown(h: AppHost, **given: object) -> None:
    """The page over instance_status, with the money."""
    await h.open("instance_status", given)
    await h.app.locator("#figures", has_text="Balance$2").wait_for()


async def ask_end(h: AppHost, machine: int, typed: str) -> None:
    """Press Destroy and type into the question."""
    await h.app.get_by_role("button", name=f"Destroy machine {machine}").click()
    await h.app.get_by_label(f"Type {machine} to go on").fill(typed)


async def figure(h: AppHost, name: str) -> str:
    """One of the figures at the top."""
    return await h.app.locator("#figures div", has_text=name).locator("dd").inner_text()


@pytest.mark.requirement("APP-7")
@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_machines_stand_with_stage_and_cost_and_the_balance_with_its_end(
    kit: Kit, tmp_path: Path, era: str
) -> None:
    async with app_host(kit, tmp_path, era=era) as h:
        machines = await ready(h, count=2, fleet="best_effort")
        await shown(h)
        assert await h.app.locator("#stages li", has_text="2 Ready").is_visible()
        seen = await h.call("preflight")
        assert await figure(h, "Burn rate") == f"${seen['burn_per_hour']:.3f}/h"
        assert await figure(h, "Balance") == f"${seen['credit']:.2f}"
        assert await figure(h, "Lasts") == f"{seen['credit'] / seen['burn_per_hour']:.1f} h"
        for machine in machines:
            row = h.app.locator(f"[data-machine='{machine}']")
            assert "Ready" in await row.inner_text()
            await row.get_by_text("Connect").click()
            assert (await row.locator("code").inner_text()).startswith("ssh -p ")
        assert await h.app.locator("#plot text.axis").all_text_contents() == ["balance, $", "hours from now"]
        words = await h.app.locator("#plot-words").inner_text()
        assert words.startswith(f"At ${seen['burn_per_hour']:.3f}/h, as now, $")
        assert ", until " in words


@pytest.mark.requirement("APP-7")
async def test_a_debt_is_shown_as_one(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        await ready(h)
        h.market.world.account.credit = Decimal(-5)
        h.clock.advance(60)
        await h.open("instance_status", {})
        await h.app.locator("#figures", has_text="Balance-$5.0").wait_for()
        assert await h.app.locator("#plot-words").inner_text() == "The balance is used up."


@pytest.mark.requirement("APP-7")
async def test_a_machine_is_followed_until_it_answers(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        workflow, [machine] = await h.rented()
        await h.open("wait_until_ready", workflow | {"timeout_s": 0})
        row = h.app.locator(f"[data-machine='{machine}']")
        await row.get_by_text("Provisioning").wait_for()
        h.clock.advance(100)
        await row.get_by_text("Ready").wait_for()
        await h.app.locator("#status", has_text=f"{machine}: Ready").wait_for()
        assert {call["tool"] for call in h.calls[-3:]} <= {"wait_until_ready", "instance_status", "preflight"}


@pytest.mark.requirement("APP-8")
async def test_a_machine_of_our_own_is_gone_after_a_second_act(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        [machine] = await ready(h)
        await shown(h)
        await ask_end(h, machine, str(machine)[:-1])
        second = h.app.get_by_role("button", name="Destroy it")
        assert await second.is_disabled()
        await h.page.keyboard.press("Enter")
        assert h.market.world.requests["destroy"] == 0
        await h.app.get_by_label(f"Type {machine} to go on").fill(str(machine))
        await second.click()
        await h.app.locator("#status", has_text=f"{machine} is gone. It cost about $").wait_for()
        assert machine not in h.market.world.instances
        assert await h.app.locator("#stages li", has_text="1 Gone").is_visible()
        assert not await h.app.get_by_role("button", name=f"Destroy machine {machine}").is_visible()
        await h.app.locator("#plot-words", has_text="Nothing is billed by the hour now").wait_for(state="attached")
        assert f"the user destroyed {machine}" in (await h.host("host.told"))[0]


@pytest.mark.requirement("APP-8")
async def test_a_machine_that_was_not_rented_here_is_refused_with_its_question_and_goes_after_the_yes(
    kit: Kit, tmp_path: Path
) -> None:
    async with app_host(kit, tmp_path) as h:
        machine = h.stranger()
        await shown(h)
        assert await h.app.get_by_text("not rented here").is_visible()
        await ask_end(h, machine, str(machine))
        await h.app.get_by_role("button", name="Destroy it").click()
        trouble = h.app.get_by_role("alert")
        await trouble.wait_for()
        told = await trouble.inner_text()
        assert f"The question for you: Destroy {machine} ('mine'" in told
        assert "your agent goes on with confirm_fields" in told
        await h.picture("fleet-refusal")
        assert machine in h.market.world.instances
        assert h.market.world.requests["destroy"] == 0
        refusal = await h.page.evaluate("(id) => host.call('destroy_instances', {instance_ids: [id]})", machine)
        after = refusal["_meta"]["vastai-workflow/refusal"]["next_call"]
        [heard] = await h.host("host.told")
        assert f"asked to destroy {machine}; it was not done: no yes yet" in heard
        assert f"Ask the user: Destroy {machine} ('mine'" in heard
        assert after["arguments"]["digest"] in heard
        await h.call(after["tool"], **after["arguments"])
        await h.app.get_by_role("button", name="Destroy it").click()
        await h.app.locator("#status", has_text=f"{machine} is gone.").wait_for()
        assert machine not in h.market.world.instances


@pytest.mark.requirement("APP-8")
@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_where_the_client_asks_its_user_the_refusal_says_so(kit: Kit, tmp_path: Path, era: str) -> None:
    async with app_host(kit, tmp_path, era=era, asks=True) as h:
        machine = h.stranger()
        await shown(h)
        await ask_end(h, machine, str(machine))
        await h.app.get_by_role("button", name="Destroy it").click()
        trouble = h.app.get_by_role("alert")
        await trouble.wait_for()
        told = await trouble.inner_text()
        assert "tell your agent to go on with confirm_fields; this client then asks you itself" in told
        assert "question for you" not in told
        refusal = await h.page.evaluate("(id) => host.call('destroy_instances', {instance_ids: [id]})", machine)
        after = refusal["_meta"]["vastai-workflow/refusal"]["next_call"]
        await h.call(after["tool"], **after["arguments"])
        [question] = await h.host("host.asked")
        assert question.startswith(f"Destroy {machine} ('mine'")
        await h.app.get_by_role("button", name="Destroy it").click()
        await h.app.locator("#status", has_text=f"{machine} is gone.").wait_for()


@pytest.mark.requirement("APP-8")
async def test_where_only_a_terminal_takes_the_yes_the_refusal_says_so(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path, approval="human") as h:
        machine = h.stranger()
        await shown(h)
        await ask_end(h, machine, str(machine))
        await h.app.get_by_role("button", name="Destroy it").click()
        trouble = h.app.get_by_role("alert")
        await trouble.wait_for()
        told = await trouble.inner_text()
        assert f"Destroy {machine} ('mine'" in told
        assert " approve " in told
        assert "Next: when you have done so, try again here." in told
        assert machine in h.market.world.instances


@pytest.mark.requirement("APP-8")
async def test_what_the_server_did_not_see_gone_is_not_called_gone(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        [machine] = await ready(h)
        await shown(h)
        keys = h.market.world.account.keys
        keys[h.market.api_key] = replace(keys[h.market.api_key], scopes=SCOPES - {"instance_write"})
        await ask_end(h, machine, str(machine))
        await h.app.get_by_role("button", name="Destroy it").click()
        trouble = h.app.get_by_role("alert")
        await trouble.wait_for()
        assert f"{machine} is unknown" in await trouble.inner_text()
        assert "It may go on costing: destroy it again." in await trouble.inner_text()
        assert "gone" not in await h.app.locator("#status").inner_text()
        assert await h.app.get_by_role("button", name=f"Destroy machine {machine}").is_visible()


@pytest.mark.requirement("APP-8")
@pytest.mark.requirement("APP-10")
async def test_the_question_is_answered_and_left_by_keyboard(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        [machine] = await ready(h)
        await shown(h)
        button = h.app.get_by_role("button", name=f"Destroy machine {machine}")
        await button.focus()
        await h.page.keyboard.press("Enter")
        assert await h.inside("document.activeElement.id") == f"typed-{machine}"
        await h.page.keyboard.press("Escape")
        assert await h.inside("document.activeElement.getAttribute('aria-label')") == f"Destroy machine {machine}"
        assert await h.app.get_by_role("button", name="Destroy it").count() == 0
        await h.page.keyboard.press("Enter")
        await h.page.keyboard.type(str(machine))
        await h.page.keyboard.press("Enter")
        await h.app.locator("#status", has_text=f"{machine} is gone.").wait_for()


@pytest.mark.requirement("APP-8")
async def test_an_open_question_stays_while_the_page_looks_again(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        [machine] = await ready(h)
        await shown(h)
        await ask_end(h, machine, "310")
        looks = len(h.calls)
        await h.inside("document.getElementById('look').click()")
        await h.app.get_by_role("button", name="Look now").and_(h.app.locator(":enabled")).wait_for()
        assert len(h.calls) == looks + 2
        assert await h.app.get_by_label(f"Type {machine} to go on").input_value() == "310"
        assert await h.inside("document.activeElement.id") == f"typed-{machine}"


async def hold_the_next_look(h: AppHost) -> None:
    """The page starts to look, and the server hears of it once the host's `letGo()` is called."""
    await h.app.locator("#look:enabled").wait_for()
    await h.host(
        """{
          const send = toServer;
          const held = new Promise((go) => { globalThis.letGo = go; });
          globalThis.toServer = async (line) => { if (line.includes('instance_status')) await held; await send(line); };
          null;
        }"""
    )
    await h.app.locator("#look").click()
    await h.app.locator("#look:disabled").wait_for()


@pytest.mark.requirement("APP-8")
@pytest.mark.parametrize("way", ["click", "key"])
async def test_an_end_that_is_asked_for_while_the_page_looks_comes_right_after(
    kit: Kit, tmp_path: Path, way: str
) -> None:
    async with app_host(kit, tmp_path) as h:
        [machine] = await ready(h)
        await shown(h)
        await hold_the_next_look(h)
        await ask_end(h, machine, str(machine))
        for _ in range(2):
            if way == "key":
                await h.page.keyboard.press("Enter")
            else:
                await h.inside("document.querySelector('.danger.primary').click()")
        assert await h.app.locator("#status").inner_text() == f"Ending {machine}…"
        assert h.market.world.requests["destroy"] == 0
        await h.host("letGo()")
        await h.app.locator("#status", has_text=f"{machine} is gone. It cost about $").wait_for()
        assert [call["tool"] for call in h.calls].count("destroy_instances") == 1
        assert machine not in h.market.world.instances


@pytest.mark.requirement("APP-8")
async def test_an_end_that_waits_for_a_look_is_called_off_by_keeping_the_machine(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        [machine] = await ready(h)
        await shown(h)
        await hold_the_next_look(h)
        await ask_end(h, machine, str(machine))
        await h.page.keyboard.press("Enter")
        await h.app.get_by_role("button", name="Keep it").click()
        await h.host("letGo()")
        await h.app.locator("#status", has_text=f"{machine} is kept.").wait_for()
        assert h.market.world.requests["destroy"] == 0


@pytest.mark.requirement("APP-9")
async def test_a_look_that_failed_is_told_until_one_works(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        await ready(h)
        await shown(h)
        look = h.app.locator("#look:enabled")
        await look.wait_for()
        await h.host("{ globalThis.send = toServer; toServer = async () => { throw new Error('no way'); }; null; }")
        await look.click()
        await h.app.get_by_role("alert").get_by_text("It failed").wait_for()
        await h.host("{ toServer = send; null; }")
        await look.click()
        await h.app.get_by_role("alert").wait_for(state="hidden")


@pytest.mark.requirement("APP-3")
async def test_a_label_that_looks_like_markup_stays_text(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path, width=320) as h:
        machine = h.stranger(label=HOSTILE)
        await shown(h)
        row = h.app.locator(f"[data-machine='{machine}']")
        assert "<img src=x onerror=" in await row.inner_text()
        await ask_end(h, machine, "")
        assert "<img src=x onerror=" in await h.app.locator(f"#end-{machine}").inner_text()
        assert await h.app.locator("img").count() == 0
        assert await h.app.locator("script").count() == 1
        assert await h.inside("document.title") == "Machines and money"
        assert await h.inside("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        await h.picture("fleet-hostile-label-320")


@pytest.mark.requirement("APP-9")
async def test_the_page_looks_once_a_minute_while_nothing_changes_and_not_at_all_when_paused(
    kit: Kit, tmp_path: Path
) -> None:
    async with app_host(kit, tmp_path) as h:
        await ready(h)
        await h.page.clock.install()
        await shown(h)
        settled = h.app.locator("#look:enabled")
        await settled.wait_for()
        looks = len(h.calls)
        seen = await h.app.locator("#looked").inner_text()
        await h.pass_time(59)
        await settled.wait_for()
        assert len(h.calls) == looks
        await h.pass_time(2)
        await h.app.locator("#looked").filter(has_not_text=seen).wait_for()
        assert [call["tool"] for call in h.calls[looks:]] == ["instance_status", "preflight"]
        await h.app.get_by_role("button", name="Pause").click()
        await h.pass_time(600)
        assert len(h.calls) == looks + 2


@pytest.mark.requirement("APP-9")
async def test_a_hidden_page_looks_no_more_until_it_is_seen_again(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        await ready(h)
        await h.page.clock.install()
        await shown(h)
        await h.app.locator("#look:enabled").wait_for()
        looks = len(h.calls)
        seen = await h.app.locator("#looked").inner_text()
        hidden = "Object.defineProperty(document, 'hidden', {{ value: {}, configurable: true }})"
        changed = "document.dispatchEvent(new Event('visibilitychange'))"
        await h.inside(f"{{ {hidden.format('true')}; {changed}; }}")
        await h.pass_time(600)
        assert len(h.calls) == looks
        await h.inside(f"{{ {hidden.format('false')}; {changed}; }}")
        await h.pass_time(61)
        await h.app.locator("#looked").filter(has_not_text=seen).wait_for()
        assert len(h.calls) == looks + 2


@pytest.mark.requirement("APP-9")
async def test_a_page_that_is_closed_answers_and_looks_no_more(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        await ready(h)
        await h.page.clock.install()
        await shown(h)
        await h.app.locator("#look:enabled").wait_for()
        looks = len(h.calls)
        await h.host("host.teardown()")
        await h.pass_time(600)
        assert len(h.calls) == looks


@pytest.mark.requirement("APP-11")
async def test_where_nothing_runs_the_page_says_so_and_looks_no_more(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        await h.page.clock.install()
        await shown(h)
        assert await h.app.locator("#rows").inner_text() == "No machine runs."
        assert await figure(h, "Lasts") == "nothing burns"
        await h.app.locator("#look:enabled").wait_for()
        looks = len(h.calls)
        await h.pass_time(600)
        assert len(h.calls) == looks


@pytest.mark.requirement("APP-11")
async def test_in_a_host_that_lets_pages_call_nothing_the_machines_are_shown_and_nothing_is_asked(
    kit: Kit, tmp_path: Path
) -> None:
    async with app_host(kit, tmp_path) as h:
        machine = h.stranger()
        await h.page.clock.install()
        await h.open("instance_status", {}, capabilities={})
        await h.app.get_by_text("tell your agent what you want").wait_for()
        assert await h.app.get_by_role("button", name=f"Destroy machine {machine}").is_disabled()
        assert await h.app.get_by_role("button", name="Look now").is_disabled()
        await h.pass_time(600)
        assert len(h.calls) == 1


@pytest.mark.requirement("APP-11")
async def test_a_look_that_fails_is_said_and_what_was_seen_stays(kit: Kit, tmp_path: Path) -> None:
    async with app_host(kit, tmp_path) as h:
        [machine] = await ready(h)
        await shown(h)
        h.market.world.account.keys.clear()
        await h.app.get_by_role("button", name="Look now").click()
        await h.app.get_by_role("alert").wait_for()
        assert await h.app.locator(f"[data-machine='{machine}']").is_visible()
