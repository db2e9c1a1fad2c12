"""`vastai-workflow log`: the audit trail, every yes, order, destroy and refusal, the newest last."""

import argparse
import asyncio
import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vastai_workflow.domain.audit import AuditEvent

_WHO: Final = 22
_WHAT: Final = 39
_ALONE: Final = "local"
"""The owner where nobody logs in; others are named."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--workflow", metavar="ID", help="only what belongs to this workflow")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each event")
    parser.add_argument("--store", metavar="FOLDER", help="where the ledger is (default: the user's state folder)")


def run(args: argparse.Namespace) -> int:
    """0, also where nothing is on record."""
    from vastai_workflow.cli.clock import SystemClock  # noqa: PLC0415 # --help starts without it
    from vastai_workflow.cli.terminal import tell  # noqa: PLC0415 # the same
    from vastai_workflow.settings import Settings  # noqa: PLC0415 # the same
    from vastai_workflow.store.sqlite import SqliteStore  # noqa: PLC0415 # the same

    settings = Settings.from_environment(os.environ, state=args.store)
    events = asyncio.run(SqliteStore(settings.state, clock=SystemClock()).trail(args.workflow))
    if args.json:
        lines = map(as_json, events)
    elif events:
        lines = table(events)
    else:
        lines = iter([f"nothing is on record{f' of {args.workflow}' if args.workflow else ''} yet"])
    for line in lines:
        tell(line)
    return 0


def as_json(event: "AuditEvent") -> str:
    """One line; the time is UTC in ISO 8601."""
    return json.dumps({**event.model_dump(mode="json"), "at": _time(event.at).replace(" ", "T") + "Z"})


def table(events: "Iterable[AuditEvent]") -> Iterator[str]:
    """Lines of 100 characters at most, under the workflow's id wherever another one begins. Times are UTC."""
    yield from _row("when (UTC)", "event", "who", "what")
    shown: str | None = ""
    for event in events:
        if event.workflow_id != shown:
            shown = event.workflow_id
            yield f"workflow {shown}" if shown else "no workflow"
        yield from _row(_time(event.at), event.kind, _who(event), _what(event))


def _row(when: str, kind: str, who: str, what: str) -> Iterator[str]:
    head = f"  {when:19}  {kind:12}"
    for one, other in zip_longest(wrap(who, _WHO), wrap(what, _WHAT), fillvalue=""):
        yield f"{head}  {one:{_WHO}}  {other}".rstrip()
        head = " " * len(head)


def _who(event: "AuditEvent") -> str:
    return event.by if event.owner in {_ALONE, ""} else f"{event.owner}, {event.by}"


def _what(event: "AuditEvent") -> str:
    ids = ", ".join(map(str, event.instance_ids))
    is_order = bool(event.order_id) and bool(event.code)
    head = (event.order_id if is_order else event.purpose, event.code, f"machine {ids}" if ids else "")
    words = [" ".join(part for part in head if part), event.what]
    said = ": ".join(part for part in words if part)
    with_digest = bool(event.digest) and (not is_order or event.code == "planned")
    return "; ".join([*([said] if said else []), *([f"digest {event.digest}"] if with_digest else [])])


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"
