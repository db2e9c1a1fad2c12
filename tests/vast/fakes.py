"""A clock that is only moved by waiting, and a provider whose replies a test writes down."""

import asyncio
import json
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import respx
from pydantic import SecretStr

from vastai_workflow.domain.market import CreateRequest
from vastai_workflow.steps.ports import ApiCall
from vastai_workflow.vast.client import Client
from vastai_workflow.vast.market import VastMarket

KEY = "0123456789abcdef" * 4
BASE = "https://console.vast.ai"
START = 1_795_000_000.0
DATA = Path(__file__).parent.parent / "simulator" / "data"


class Clock:
    """Stands still until somebody waits; keeps the waits."""

    def __init__(self) -> None:
        self.time = START
        self.waits: list[float] = []

    def now(self) -> float:
        return self.time

    def steady(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)


class Bench:
    """A market over a respx router, with everything a test looks at; `requests` is all that was sent, in order."""

    def __init__(self, answers_dir: Path, base_url: str = BASE) -> None:
        self.clock = Clock()
        self.router = respx.Router(assert_all_called=False)
        self.answers_dir = answers_dir
        self.requests: list[httpx.Request] = []
        self.calls: list[ApiCall] = []
        self.client = Client(
            SecretStr(KEY),
            base_url=base_url,
            clock=self.clock,
            chance=random.Random(7),  # noqa: S311 # jitter
            transport=httpx.MockTransport(self.router.async_handler),
            answers_dir=answers_dir,
            on_call=self.calls.append,
        )
        self.market = VastMarket(self.client)

    def always(self, method: str, path: str, reply: httpx.Response | Exception) -> respx.Route:
        """One path answers the same each time."""
        return self.route(method, path, lambda _: reply)

    def script(self, method: str, path: str, *replies: httpx.Response | Exception) -> respx.Route:
        """One path answers with these, one after the other; the last one stays."""
        left = list(replies)
        return self.route(method, path, lambda _: left.pop(0) if len(left) > 1 else left[0])

    def route(
        self, method: str, path: str, handler: Callable[[httpx.Request], httpx.Response | Exception]
    ) -> respx.Route:
        """One path answers as a function says; an exception it returns is raised."""

        def answered(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            reply = handler(request)
            if isinstance(reply, Exception):
                raise reply
            return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

        return self.router.route(method=method, path__regex=f"^/api/v[01]{path}$").mock(side_effect=answered)

    @property
    def saved(self) -> list[Path]:
        """Answers kept in files."""
        return sorted(self.answers_dir.iterdir())


def refused(status: int, error: str | None = None, msg: str = "no", **more: Any) -> httpx.Response:
    """The provider's error envelope."""
    body: dict[str, Any] = {"success": False, "msg": msg, **more}
    if error is not None:
        body["error"] = error
    return httpx.Response(status, json=body)


def instance_row(instance_id: int = 31415926, **changes: Any) -> dict[str, Any]:
    """A running machine, as the wire has it."""
    row: dict[str, Any] = {
        "id": instance_id,
        "machine_id": 4242,
        "host_id": 77,
        "label": "lab-1",
        "actual_status": "running",
        "intended_status": "running",
        "cur_state": "running",
        "next_state": "running",
        "status_msg": "success, running pytorch/pytorch_latest/ssh",
        "ssh_host": "ssh5.vast.ai",
        "ssh_idx": "5",
        "ssh_port": 15926,
        "public_ipaddr": "203.0.113.7 \n",
        "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": "41022"}]},  # noqa: S104 # a value of the wire
        "image_uuid": "pytorch/pytorch:latest",
        "image_runtype": "ssh_direc ssh_proxy",
        "extra_env": [["VASTAI_WORKFLOW_ORDER", "store.order"], ["HF_TOKEN", "hf_sesame"], ["-p 8080:8080", "1"]],
        "jupyter_token": "jupyter-sesame",
        "num_gpus": 1,
        "gpu_name": "RTX 4090",
        "gpu_ram": 24564,
        "disk_space": 40.0,
        "start_date": 1795530000.1,
        "end_date": 1797530000.0,
        "is_bid": False,
        "dph_base": 0.4,
        "dph_total": 0.41,
        "storage_total_cost": 0.008,
    }
    return row | changes


def listed(*rows: dict[str, Any], token: str | None = None, total: int | None = None) -> httpx.Response:
    """One page of the v1 list."""
    return httpx.Response(
        200,
        json={
            "success": True,
            "instances_found": len(rows),
            "total_instances": len(rows) if total is None else total,
            "label_counts": {},
            "next_token": token,
            "instances": list(rows),
        },
    )


def offer_row(ask_id: int, price: float = 0.4, **changes: Any) -> dict[str, Any]:
    """A free and verified machine, as the wire has it."""
    row: dict[str, Any] = {
        "id": ask_id,
        "ask_contract_id": ask_id,
        "machine_id": ask_id * 10,
        "host_id": 77,
        "num_gpus": 1,
        "gpu_name": "RTX 4090",
        "gpu_ram": 24564,
        "dph_total": price,
        "min_bid": 0.2,
        "disk_space": 500.0,
        "verification": "verified",
        "rentable": True,
        "rented": False,
        "reliability": 0.996,
        "cuda_max_good": 12.8,
        "inet_down": 900.0,
        "inet_up": 800.0,
        "inet_down_cost": 0.002,
        "direct_port_count": 100,
        "geolocation": "Sweden, SE",
        "hosting_type": 1,
        "duration": 2000000.0,
        "dlperf": 101.5,
    }
    return row | changes


def create_request(**changes: Any) -> CreateRequest:
    """What the user agreed to, in short."""
    values: dict[str, Any] = {
        "image": "pytorch/pytorch:latest",
        "disk_gb": 40,
        "label": "lab",
        "order_marker": "store.order",
        "env": {"HF_TOKEN": SecretStr("hf_sesame")},
    }
    return CreateRequest(**(values | changes))


def sent_json(request: httpx.Request) -> Any:
    """The body of a request."""
    return json.loads(request.content, parse_float=Decimal) if request.content else None
