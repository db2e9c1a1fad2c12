"""Every request that the official client was seen to send has a route here, and its body is understood."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.simulator.bench import Bench

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "cli-wire.json").read_text())
REQUESTS = {
    json.dumps(request, sort_keys=True): request
    for recording in RECORDED
    for request in recording["requests"]
    if not request["path"].startswith("/logs/")  # the recorder's own place for texts
}
WITHOUT_ROUTE = {
    "/api/v0/commands/copy_direct/": "data is not moved between simulated machines",
    "/api/v0/commands/schedule_job/": "jobs are not scheduled",
    "/api/v0/team/members/": "teams have no members",
}


@pytest.mark.parametrize("text", sorted(REQUESTS))
async def test_the_request_is_understood(text: str) -> None:
    request = REQUESTS[text]
    reply = await Bench().send(request["method"], request["path"], request["body"], query=request["query"])

    if request["path"] in WITHOUT_ROUTE:
        assert "No route" in reply.json()["msg"]
    else:
        assert "No route" not in reply.text
        assert reply.status_code < 500
        assert "Invalid args" not in reply.text or "no template" in reply.text
