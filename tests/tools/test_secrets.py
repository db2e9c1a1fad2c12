"""The API key is nowhere: no result, no log record, no repr, no file."""

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.stack import ERAS, Era, stack
from tests.tools.acts import arm

TOKEN = "hf_a_secret_value_of_the_user"


def _texts(folder: Path, key: Path) -> list[str]:
    return [path.read_text() for path in folder.rglob("*") if path.is_file() and path != key]


@pytest.mark.requirement("SECRET-1")
@pytest.mark.parametrize("era", ERAS)
async def test_a_long_dialog_with_faults_shows_no_secret_anywhere(
    era: Era, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    async with stack(era=era, folder=tmp_path) as s:

        async def say(tool: str, **arguments: Any) -> dict[str, Any]:
            result = await s.client.call_tool(tool, arguments)
            told.append(repr(result))
            return result.structured_content or {}

        key = tmp_path / "key"
        key.write_text(f"VAST_API_KEY={s.world.api_key}\n")
        key.chmod(0o644)
        await say("propose_fields", api_key_source=s.world.api_key)
        first = await say("propose_fields", api_key_source="file:key", env={"HF_TOKEN": TOKEN})
        known = {"workflow_id": first["workflow_id"]}
        await say("confirm_fields", **known, digest=first["digest"], fields=["api_key_source"])
        key.chmod(0o600)
        arm(s, "html_body", operation="user", times=2)
        await say("propose_fields", **known)
        priced = await say("propose_fields", **known)
        await say("confirm_fields", **known, digest=priced["digest"])
        arm(s, "truncated_json", operation="search", times=2)
        await say("find_offers", **known)
        plan = await say("find_offers", **known)
        arm(s, "html_body")
        await say("create_instances", **known, plan_id=plan["plan_id"])
        await say("create_instances", **known, plan_id=plan["plan_id"])
        waited = await say("wait_until_ready", **known, timeout_s=300)
        ids = [row["instance_id"] for row in waited["instances"]]
        assert ids == s.running()
        for tool in ("instance_status", "preflight", "billing_report"):
            arm(s, "refuse", operation="*", code="auth_error")
            await say(tool)
            await say(tool)
        await say("read_logs", instance_id=ids[0])
        await say("export_inventory", format="ssh_config")
        arm(s, "empty_body", operation="stop", times=2)
        await say("stop_instances", instance_ids=ids)
        arm(s, "hostile_message", operation="reboot", kind="injection")
        await say("restart_instances", instance_ids=ids, mode="reboot")
        arm(s, "http_error", operation="destroy", status=500, body="json")
        await say("destroy_instances", instance_ids=ids)
        secrets = {s.world.api_key, TOKEN}
        objects = [s, s.deps, s.deps.store, await s.deps.markets.open(f"file:{key}"), await s.deps.store.orders()]
        workflow = await s.deps.store.workflow(first["workflow_id"])
        shown = [*told, caplog.text, *map(repr, objects[1:]), repr(workflow)]
    kept = _texts(tmp_path, key)
    for secret in secrets:
        assert not any(secret in text for text in shown)
        assert not any(secret in text for text in kept)
    assert len(kept) >= 1, "the unreadable answers are kept"
