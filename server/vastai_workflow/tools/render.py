"""Values of the steps as rows of answers, and as words."""

from collections.abc import Sequence
from decimal import Decimal

from vastai_workflow.domain import fields
from vastai_workflow.domain.ledger import Moment, Order
from vastai_workflow.domain.market import Charge, Offer
from vastai_workflow.domain.money import Rate, Usd
from vastai_workflow.domain.plan import Outlook
from vastai_workflow.domain.untrusted import clean
from vastai_workflow.domain.workflow import Confirmation, Workflow
from vastai_workflow.steps.fleet_view import ActiveInstance, whose_words
from vastai_workflow.steps.fleets import FleetOutcome
from vastai_workflow.steps.login import USER
from vastai_workflow.steps.status import Report
from vastai_workflow.tools import results

_DAY_H = 24
_SHOWN_ACTIVE = 20
UNSETTLED_WORDS = "An order is not settled yet: it may have rented. Nothing more is rented until it is."


def note_lines(notes: Sequence[str]) -> str:
    """What the user should be told, a line each."""
    return "".join(f"\nnote: {note}" for note in notes)


def unsettled_words(order: Order, now: Moment) -> str:
    """An order that may have rented, and until when that is known."""
    left = max(order.settles_in(now), 0.0)
    what = f"order {order.order_id} of {order.num_gpus}x {order.gpu_name} is being settled"
    return f"{what}: it may have rented ({order.reason or 'no answer yet'}); known in {left:.0f} s at the latest"


def field_rows(workflow: Workflow) -> list[results.FieldRow]:
    """Every field that has a value, in the order of the dialog."""
    return [
        results.FieldRow(
            name=name,
            value=fields.shown(name, workflow.fields[name].value),
            status=workflow.fields[name].status,
            source=workflow.fields[name].source,
        )
        for name in fields.FIELDS
        if name in workflow.fields
    ]


def active_rows(active: Sequence[ActiveInstance]) -> list[results.ActiveRow]:
    """The machines that run."""
    return [
        results.ActiveRow(
            instance_id=item.instance.id,
            label=item.label,
            status=item.state,
            price_per_hour=item.burn.number(),
            ours=item.ours,
        )
        for item in active
    ]


def active_words(active: Sequence[ActiveInstance]) -> str:
    """The machines that run, in one line."""
    if not active:
        return "none"
    shown = [f"{a.instance.id} {a.label!r} {a.state} {a.burn}{' (ours)' if a.ours else whose_words(a)}" for a in active]
    more = f" and {len(active) - _SHOWN_ACTIVE} more" if len(active) > _SHOWN_ACTIVE else ""
    return "; ".join(shown[:_SHOWN_ACTIVE]) + more


def outlook_row(outlook: Outlook | None) -> results.OutlookRow | None:
    """What the plan would cost."""
    if outlook is None:
        return None
    return results.OutlookRow(
        price_per_hour=outlook.price.number(),
        total_per_hour=outlook.total.number(),
        per_day=per_day(outlook.total).number(),
        runway_hours=hours(outlook.runway_h),
    )


def per_day(rate: Rate) -> Usd:
    """What a rate costs in 24 hours."""
    return Usd(rate.per_hour * _DAY_H)


def hours(runway: Decimal | None) -> float | None:
    """Hours with one decimal; None where it never ends or is not known."""
    return None if runway is None or not runway.is_finite() else round(float(runway), 1)


def hours_words(runway: Decimal | None) -> str:
    """Hours in words."""
    shown = hours(runway)
    return "" if shown is None else f", which lasts {shown:g} h"


def confirmation_row(confirmation: Confirmation | None) -> results.ConfirmationRow | None:
    """A yes as it was recorded."""
    if confirmation is None:
        return None
    ceiling = confirmation.ceiling_per_hour
    return results.ConfirmationRow(
        purpose=confirmation.purpose,
        digest=confirmation.digest,
        by=confirmation.by,
        ceiling_per_hour=None if ceiling is None else Rate(ceiling).number(),
        expires_at=confirmation.expires_at,
    )


def offer_row(offer: Offer) -> results.OfferRow:
    """One offer."""
    return results.OfferRow(
        offer_id=offer.ask_id,
        machine_id=offer.machine_id,
        gpu=offer.gpu_name,
        num_gpus=offer.num_gpus,
        vram_gb=round(offer.gpu_ram_mb / 1000, 1),
        price_per_hour=offer.price.number(),
        region=clean(offer.region, 40),
        reliability=_number(offer.reliability),
        down_mbps=_number(offer.inet_down_mbps),
        traffic_per_gb=None if offer.down_price_per_gb is None else offer.down_price_per_gb.number(),
    )


def offer_words(offer: Offer) -> str:
    """One offer in a line."""
    traffic = "" if offer.down_price_per_gb is None else f", traffic ${offer.down_price_per_gb.number():g}/GB"
    reliability = "" if offer.reliability is None else f", reliability {offer.reliability:.3f}"
    size = f"{offer.num_gpus}x {offer.gpu_name} {offer.gpu_ram_mb / 1000:.0f} GB"
    return f"{offer.ask_id}: {size} at {offer.price}, {clean(offer.region, 40) or 'no region'}{reliability}{traffic}"


def order_row(order: Order) -> results.OrderRow:
    """One order."""
    return results.OrderRow(
        order_id=order.order_id,
        state=order.state,
        instance_id=order.instance_id,
        price_per_hour=order.price.number(),
        reason=order.reason,
    )


def order_words(order: Order) -> str:
    """One order in a line."""
    machine = "" if order.instance_id is None else f", machine {order.instance_id}"
    reason = "" if order.reason is None else f" ({order.reason})"
    return f"{order.order_id}: {order.state}{machine} at {order.price}{reason}"


def fleet_words(fleet: FleetOutcome) -> str:
    """What became of a yes to several machines: what is rented and costs, what did not come, what to ask."""
    running = "while all run" if len(fleet.live) > 1 else "while it runs"
    cost = f", {fleet.cost} {running}" if fleet.live else ""
    parts = [f"{len(fleet.live)} of {fleet.agreed} machines rented{cost}"]
    parts += [f"{fleet.planned} still to be sent"] if fleet.planned else []
    parts += [f"{fleet.unclear} may be rented (not known yet)"] if fleet.unclear else []
    parts += [f"{fleet.released} came and ended"] if fleet.released else []
    parts += [f"{number} did not come ({why})" for why, number in fleet.refused.items()]
    return "; ".join(parts) + (f". {_short_words(fleet)}" if fleet.over and fleet.short else "")


def _short_words(fleet: FleetOutcome) -> str:
    if fleet.all_or_nothing:
        return f"All or nothing was agreed: {'see what still runs' if fleet.live else 'nothing runs on'}."
    if not fleet.live:
        return "Nothing runs."
    return "Best effort was agreed, so it runs on. Ask the user: keep it, or release it with destroy_instances?"


def instance_row(report: Report) -> results.InstanceRow:
    """One machine."""
    order = report.order
    return results.InstanceRow(
        instance_id=report.instance_id,
        workflow_id=None if order is None else order.workflow_id,
        label=report.label,
        state=report.state,
        readiness=report.readiness,
        ssh=_ssh_row(report),
        price_per_hour=None if report.burn is None else report.burn.number(),
        cost_usd=None if report.cost is None else report.cost.number(),
        agreed_by=None if order is None else order.agreed_by,
        host_key=report.host_key,
        reason=report.reason,
        warnings=list(report.warnings),
    )


def instance_words(report: Report) -> str:
    """One machine in a line or two."""
    price = "" if report.burn is None else f", {report.burn}"
    cost = "" if report.cost is None else f", {cents(report.cost)} so far"
    reason = "" if report.reason is None else f" ({report.reason})"
    pinned = f"\n  host key {report.host_key}" if report.host_key else ""
    login = f"\n  {report.command}{pinned}" if report.command and not report.failed else ""
    warnings = "".join(f"\n  note: {warning}" for warning in report.warnings)
    name = f"{report.instance_id} {report.label!r}" if report.label else str(report.instance_id)
    state = "" if report.state == report.readiness else f", {report.state}"
    head = f"{name}: {report.readiness}{reason}{state}"
    return f"{head}{price}{cost}{login}{warnings}"


def agreed_words(report: Report) -> str:
    """A line on whose yes a machine is from."""
    return "\n  not rented by this server" if report.order is None else f"\n  yes: {report.order.agreed_by}"


def cents(amount: Usd) -> str:
    """An amount as a person reads it: cents, and four decimals below one cent."""
    return str(amount) if amount >= Usd.of("0.01") else f"${amount.number():.4f}"


def charge_row(charge: Charge) -> results.ChargeRow:
    """One charge."""
    return results.ChargeRow(
        kind=clean(charge.kind, 40),
        source=clean(charge.source, 60),
        description=clean(charge.description, 120),
        amount_usd=charge.amount.number(),
        instance_id=charge.instance_id,
    )


def _ssh_row(report: Report) -> results.SshRow | None:
    if report.host is None or report.port is None or report.command is None:
        return None
    return results.SshRow(host=report.host, port=report.port, user=USER, command=report.command)


def _number(value: Decimal | None) -> float | None:
    return None if value is None else round(float(value), 4)
