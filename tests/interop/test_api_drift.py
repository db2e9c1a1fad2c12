from pathlib import Path

import pytest

from tests.interop.api_drift import Calls, calls_in, changes, download
from tests.interop.official import OFFICIAL_CLI
from vastai_workflow.vast.endpoints import ENDPOINTS

NOT_CALLED_BY_THE_OFFICIAL_CLIENT = {"instance_keys"}
"""The official docs have it; the client only adds and removes keys of instances."""


def test_calls_are_read_from_a_source_without_running_it() -> None:
    source = '''
def f(client, id, what):
    """Words about /api/v9/docs/ are no call."""
    client.get("/ssh/", query_args={})
    client.put(f"/instances/{id}/", json_data={})
    client.get("/api/v1/instances/")
    {}.get("name")
    client.get(what)
    return "/api/v0/charges/" if what else f"{client.url}/api/v0/gpu_names/unique/"
'''
    assert set(calls_in(source)) == {
        "GET /api/v0/ssh/",
        "PUT /api/v0/instances/{}/",
        "GET /api/v1/instances/",
        "ANY /api/v1/instances/",
        "ANY /api/v0/charges/",
        "ANY /api/v0/gpu_names/unique/",
    }


def test_our_calls_are_those_of_the_release_on_record() -> None:
    record = Calls.on_record()
    ours = {one.name: (one.method, one.url_path().replace("None", "{}")) for one in ENDPOINTS}
    assert {name for name, call in ours.items() if not record.has(*call)} == NOT_CALLED_BY_THE_OFFICIAL_CLIENT


def test_what_changed_is_told_and_ours_first_of_all_found() -> None:
    record = Calls.on_record()
    assert changes(record, record) == []
    create = "PUT /api/v0/asks/{}/"
    now = Calls("9.9", record.calls - {create} | {"POST /api/v2/orders/"})
    assert changes(record, now) == [
        "new: POST /api/v2/orders/",
        f"gone: {create}",
        f"OURS: create, {create}, is no longer called",
    ]


@pytest.mark.interop
def test_the_record_is_that_of_the_client_that_judges_the_simulator(tmp_path: Path) -> None:
    assert Calls.of_wheel(download(OFFICIAL_CLI, tmp_path)) == Calls.on_record()
    assert f"vastai=={Calls.on_record().release}" == OFFICIAL_CLI
