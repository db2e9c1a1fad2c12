"""The API key is nowhere: no result, no log record, no repr, no file; a private key is not sent back."""

import logging
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.stack import ERAS, PUBLIC_KEY, Era, stack, text_of
from tests.tools.acts import arm
from vastai_workflow.access.keys import SshKeys

OTHERS = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()  # pyright: ignore[reportUnknownMemberType]  # untyped **kwargs
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


def _private_keys() -> dict[str, str]:
    ed25519, ecdsa = map(asyncssh.generate_private_key, ("ssh-ed25519", "ecdsa-sha2-nistp256"))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]  # untyped **kwargs
    return {
        "OpenSSH": ed25519.export_private_key().decode(),
        "PKCS 8": ed25519.export_private_key("pkcs8-pem").decode(),
        "PEM": ecdsa.export_private_key("pkcs1-pem").decode(),
        "PuTTY": "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nPrivate-Lines: 1\nAAAAIsecretsecretsecret\n",
    }


PRIVATE = _private_keys()


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.requirement("SECRET-2")
@pytest.mark.parametrize("form", PRIVATE)
@pytest.mark.parametrize("joined", ["\n", " "])
async def test_a_private_key_in_whatever_argument_is_refused_and_none_of_it_comes_back(
    form: str, joined: str, era: Era, tmp_path: Path
) -> None:
    text = joined.join(PRIVATE[form].splitlines())
    async with stack(era=era, keys=SshKeys(home=tmp_path, state_dir=tmp_path)) as s:
        told = [
            await s.client.call_tool(tool, arguments)
            for tool, arguments in (
                *(("propose_fields", {name: text}) for name in ("ssh_key", "api_key_source", "gpu_name", "image")),
                ("propose_fields", {"api_key_source": f"file:{text}"}),
                ("propose_fields", {"count": text}),
                ("remove_ssh_key", {"public_key": text}),
                ("remove_ssh_key", {"public_key": f"SHA256:{text}"}),
                ("attach_ssh_key", {"instance_ids": [1], "public_key": text}),
            )
        ]
    assert "private key" in text_of(told[0])
    assert "public key instead" in text_of(told[0])
    pieces = [word[:12] for word in PRIVATE[form].split() if len(word) > 20]
    for result in told:
        assert result.is_error
        assert not any(piece in repr(result) for piece in pieces)


@pytest.mark.requirement("SECRET-2")
@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (f"{PUBLIC_KEY}\n{OTHERS}", "several keys"),
        (PUBLIC_KEY.replace("IOMq", "IOMq\n"), "line break"),
        ("~/.ssh/\u202eid.pub", "control character"),
        ("x" * 20_000, "too long"),
    ],
    ids=["several", "broken", "hidden", "long"],
)
async def test_what_is_no_public_key_is_told_by_whoever_reads_keys(sent: str, says: str, tmp_path: Path) -> None:
    async with stack(keys=SshKeys(home=tmp_path, state_dir=tmp_path)) as s:
        refusal = await s.refusal("propose_fields", ssh_key=sent)
    assert refusal["code"] == "ssh_key_refused"
    assert says in refusal["message"]


async def test_a_damaged_fingerprint_is_refused_by_its_form() -> None:
    async with stack() as s:
        refusal = await s.refusal("remove_ssh_key", public_key="SHA256:short")
    assert "43 characters" in refusal["message"]
    assert "short" not in refusal["message"]
