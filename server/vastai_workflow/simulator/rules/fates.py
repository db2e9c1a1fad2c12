"""Faults of machines: what goes wrong in the boot, later, at the end, or inside."""

from collections.abc import Mapping
from typing import cast

from vastai_workflow.simulator.exchange import Reply
from vastai_workflow.simulator.instances import Fate, FateKind
from vastai_workflow.simulator.rules.rule import Act, Exchange, Rule, Settings, number

SSH_BEHAVIOURS = (
    *("normal", "nvidia_smi_missing", "no_gpu", "driver_error", "hung_shell", "endless_output"),
    *("huge_stderr", "huge_banner", "slow_banner", "accepts_then_closes"),
)
"""What `ssh_host` knows; named again, since it needs asyncssh and worlds without SSH do not."""


def _fate(kind: FateKind) -> Act:
    def act(exchange: Exchange, settings: Settings) -> None:
        if exchange.rented is not None:
            exchange.call.world.life.meet(exchange.rented, Fate(kind, number(settings, "after_s")))

    return act


def _takes_no_effect(exchange: Exchange, _: Settings) -> None:
    exchange.reply = Reply({"success": True})


def _cards_gone(exchange: Exchange, settings: Settings) -> None:
    """Somebody else holds the cards before the start, and gives them back after a while."""
    instance, world = exchange.target, exchange.call.world
    if instance is None or instance.holds_cards or not instance.machine.is_free(instance.gpu_ids):
        return
    holder, machine = f"other:{instance.id}", instance.machine
    world.market.take(machine, instance.gpu_ids, holder)
    if number(settings, "seconds"):
        world.later(number(settings, "seconds"), lambda: world.market.release(machine, holder))


def _lingers(exchange: Exchange, settings: Settings) -> None:
    if exchange.target is not None:
        exchange.target.linger_s = number(settings, "seconds")


def _late_keys(exchange: Exchange, settings: Settings) -> None:
    instance = exchange.target
    if instance is not None:
        ready_at = exchange.call.world.time + number(settings, "seconds")
        for key in instance.ssh_keys.values():
            key.ready_at = max(key.ready_at, ready_at)


def _ssh(exchange: Exchange, settings: Settings) -> None:
    if exchange.target is not None:
        exchange.target.ssh_behaviour = str(settings["behaviour"])


def _host_key_changes(exchange: Exchange, _: Settings) -> None:
    if exchange.target is not None:
        exchange.target.container += 1


def _fate_rule(about: str, kind: str) -> Rule:
    return Rule(about, after=_fate(cast("FateKind", kind)), settings={"after_s": 0.0})


RULES: Mapping[str, Rule] = {
    "stuck_loading": _fate_rule("the new instance never gets past loading", "stuck"),
    "oci_failure": _fate_rule("the new instance's container cannot be created", "oci"),
    "image_missing": _fate_rule("the new instance's image does not exist", "image"),
    "crash": _fate_rule("the container exits `after_s` seconds after it runs", "crash"),
    "offline": _fate_rule("the machine goes offline `after_s` seconds from now", "offline"),
    "unknown_status": _fate_rule("the status is unknown `after_s` seconds after it runs", "unknown"),
    "frozen": _fate_rule("the container is frozen `after_s` seconds after it runs", "frozen"),
    "outbid": _fate_rule("somebody bids more `after_s` seconds from now", "outbid"),
    "resources_unavailable": Rule(
        "the cards of a stopped instance are gone at its start, for `seconds` (0 is for good)",
        operation="start",
        before=_cards_gone,
        settings={"seconds": 600.0},
    ),
    "destroy_ignored": Rule("destroy answers success and does nothing", operation="destroy", before=_takes_no_effect),
    "stop_ignored": Rule("stop answers success and does nothing", operation="stop", before=_takes_no_effect),
    "lingering": Rule(
        "the destroyed instance is listed for `seconds` more",
        operation="destroy",
        before=_lingers,
        settings={"seconds": 300.0},
    ),
    "late_keys": Rule("SSH keys reach the container `seconds` late", after=_late_keys, settings={"seconds": 60.0}),
    "gpu_missing": Rule("the container sees no card", after=_ssh, settings={"behaviour": "no_gpu"}),
    "ssh": Rule(
        "the SSH server has a `behaviour` of its own",
        after=_ssh,
        settings={"behaviour": "hung_shell"},
        choices={"behaviour": SSH_BEHAVIOURS},
    ),
    "host_key_change": Rule("the SSH host key changes", operation="reboot", after=_host_key_changes),
}
