"""Every endpoint of the provider that the steps need, in one table; `references/api.md` is rendered from it.

`label` and `bid` are there for people who call the API by hand: the workflow does neither after the create.

Intervals are those the official docs publish (seconds between two calls of one key); they are not promised, so a 429 is
obeyed too. Scopes are the provider's permission names.
"""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Pace:
    """At most `calls` in any `seconds`; zero seconds is no published limit."""

    seconds: float = 0.0
    calls: int = 1

    @property
    def spacing_s(self) -> float:
        """Seconds between two calls at an even pace."""
        return self.seconds / self.calls

    def __str__(self) -> str:
        if not self.seconds:
            return "not published"
        return f"{self.seconds:g} s" if self.calls == 1 else f"{self.calls} per {self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One call. `repeatable`: sending it twice does no more than sending it once, so the client may."""

    name: str
    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    version: Literal["v0", "v1"]
    scope: str
    pace: Pace
    repeatable: bool
    note: str

    def url_path(self, id_: int | None = None, key_id: int | None = None) -> str:
        """The path under the base URL; the ids stand where the template says `{id}` and `{ssh_key_id}`."""
        return f"/api/{self.version}{self.path.format(id=id_, ssh_key_id=key_id)}"

    @property
    def route(self) -> tuple[str, str]:
        """What the provider counts calls by: start, stop and label are one route."""
        return self.method, self.path


_EVERY_SECOND: Final = Pace(1.0)
_NONE: Final = Pace()

ACCOUNT = Endpoint(
    "account",
    "GET",
    "/users/current",
    "v0",
    "user_read",
    _NONE,
    True,
    "the answer echoes the key: dropped at the parse",
)
OFFERS = Endpoint(
    "offers",
    "POST",
    "/bundles/",
    "v0",
    "misc",
    Pace(60.0, 10),
    True,
    "64 rows at most: paged by price, rows re-checked",
)
GPU_NAMES = Endpoint("gpu_names", "GET", "/gpu_names/unique/", "v0", "", _NONE, True, "no key is sent")
CREATE = Endpoint(
    "create", "PUT", "/asks/{id}/", "v0", "instance_write", Pace(4.5), False, "rents; on any doubt settle by the list"
)
INSTANCES = Endpoint(
    "instances", "GET", "/instances/", "v1", "instance_read", _EVERY_SECOND, True, "all pages, or it is no list"
)
INSTANCE = Endpoint(
    "instance",
    "GET",
    "/instances/{id}/",
    "v0",
    "instance_read",
    Pace(2.0),
    True,
    "null or 404 no_such_instance is gone",
)
START = Endpoint(
    "start",
    "PUT",
    "/instances/{id}/",
    "v0",
    "instance_write",
    _EVERY_SECOND,
    False,
    "billed; 200 with success false is a queued start",
)
STOP = Endpoint("stop", "PUT", "/instances/{id}/", "v0", "instance_write", _EVERY_SECOND, True, "disk is still billed")
LABEL = Endpoint("label", "PUT", "/instances/{id}/", "v0", "instance_write", _EVERY_SECOND, True, "1024 characters")
BID = Endpoint(
    "bid", "PUT", "/instances/bid_price/{id}/", "v0", "instance_write", Pace(5.5), False, "billed; $/h per machine"
)
REBOOT = Endpoint(
    "reboot", "PUT", "/instances/reboot/{id}/", "v0", "instance_write", _EVERY_SECOND, False, "keeps GPU and data"
)
RECYCLE = Endpoint(
    "recycle",
    "PUT",
    "/instances/recycle/{id}/",
    "v0",
    "instance_write",
    _EVERY_SECOND,
    False,
    "the container's data goes",
)
DESTROY = Endpoint(
    "destroy",
    "DELETE",
    "/instances/{id}/",
    "v0",
    "instance_write",
    Pace(3.0),
    True,
    "proves nothing by itself: look at the list",
)
ACCOUNT_KEYS = Endpoint("account_keys", "GET", "/ssh/", "v0", "user_read", _NONE, True, "404 where there is none")
ADD_ACCOUNT_KEY = Endpoint(
    "add_account_key", "POST", "/ssh/", "v0", "user_write", _EVERY_SECOND, True, "refused for team keys"
)
DELETE_ACCOUNT_KEY = Endpoint(
    "delete_account_key",
    "DELETE",
    "/ssh/{id}/",
    "v0",
    "user_write",
    _EVERY_SECOND,
    True,
    "400 where it is gone already",
)
INSTANCE_KEYS = Endpoint(
    "instance_keys", "GET", "/instances/{id}/ssh/", "v0", "instance_read", _NONE, True, "a JSON list inside a string"
)
ATTACH_KEY = Endpoint(
    "attach_key",
    "POST",
    "/instances/{id}/ssh/",
    "v0",
    "instance_write",
    _EVERY_SECOND,
    True,
    "success proves nothing about the login",
)
DETACH_KEY = Endpoint(
    "detach_key",
    "DELETE",
    "/instances/{id}/ssh/{ssh_key_id}/",
    "v0",
    "instance_write",
    Pace(2.0),
    True,
    "404 where it is gone already",
)
LOGS = Endpoint(
    "logs",
    "PUT",
    "/instances/request_logs/{id}/",
    "v0",
    "instance_read",
    _NONE,
    True,
    "then GET `result_url` without the key until it is 200",
)
CHARGES = Endpoint(
    "charges", "GET", "/charges/", "v0", "billing_read", _EVERY_SECOND, True, "a range of days is required"
)
INVOICES = Endpoint(
    "invoices", "GET", "/invoices/", "v1", "billing_read", Pace(3.0), True, "200 with success false without a range"
)

ENDPOINTS: Final = (
    ACCOUNT,
    OFFERS,
    GPU_NAMES,
    CREATE,
    INSTANCES,
    INSTANCE,
    START,
    STOP,
    LABEL,
    BID,
    REBOOT,
    RECYCLE,
    DESTROY,
    ACCOUNT_KEYS,
    ADD_ACCOUNT_KEY,
    DELETE_ACCOUNT_KEY,
    INSTANCE_KEYS,
    ATTACH_KEY,
    DETACH_KEY,
    LOGS,
    CHARGES,
    INVOICES,
)


def render_table() -> str:
    """The table of `references/api.md`, as Markdown."""
    rows = ["| name | call | scope | interval | repeat | note |", "|---|---|---|---|---|---|"]
    for one in ENDPOINTS:
        call = f"`{one.method} /api/{one.version}{one.path}`"
        repeat = "yes" if one.repeatable else "**never**"
        scope = f"`{one.scope}`" if one.scope else "none"
        rows.append(f"| `{one.name}` | {call} | {scope} | {one.pace} | {repeat} | {one.note} |")
    return "\n".join(rows)
