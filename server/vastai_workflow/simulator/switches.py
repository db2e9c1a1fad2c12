"""How the simulated provider behaves where the real one's way is not established, and how fast its machines are."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """One value for each open point; the defaults are the forms reported most often, or the harder one to handle.

    All times are seconds of the market's clock.
    """

    # Requests and errors
    limits: bool = True
    """Whether the minimum interval of each endpoint is enforced."""
    too_many_form: Literal["text", "text_colon", "detail", "error", "message"] = "text"
    """The body of a 429: plain text (two spellings), `detail`, the error envelope, or the envelope with `message`."""
    retry_after: Literal["none", "header", "body", "both"] = "none"
    """Where a 429 says how long to wait."""
    unknown_key_status: Literal[404, 401] = 404
    missing_scope_status: Literal[403, 401] = 403
    # Search
    unknown_filters: Literal["ignored", "refused"] = "ignored"
    search_defaults: bool = False
    """Whether the server itself adds verified, rentable and not rented."""
    search_needs_key: bool = True
    id_filter_matches: bool = False
    """Whether a search filter on `id` works; reported to match nothing (`ask_contract_id` does)."""
    # Renting
    gone_offer_status: Literal[400, 404, 410] | None = None
    """Status of `no_such_ask`; None is 410 with `cancel_unavail`, else 404."""
    double_rent: Literal["refused", "accepted"] = "refused"
    """Whether a second renter of an offer that was just taken is accepted, and then never starts."""
    low_bid: Literal["contract_in_error", "stopped", "refused"] = "contract_in_error"
    """A bid under the market: an error that carries a stopped contract, success with one, or a plain refusal."""
    oversized_disk: Literal["refused", "capped"] = "refused"
    visibility_delay_s: float = 2.0
    """How long a new contract is missing from reads."""
    # Instances
    stopped_status: Literal["exited", "stopped"] = "exited"
    queued_start: Literal["starts_later", "falls_back"] = "starts_later"
    """What becomes of a start without a free GPU: it starts once one is free, or is dropped after a while."""
    queue_fallback_s: float = 60.0
    unknown_instance: Literal["null", "404"] = "null"
    """How one unknown or destroyed instance is answered."""
    destroy_linger_s: float = 2.0
    """How long a destroyed instance is still shown, as `unloaded`."""
    proxy_port_plus_one: bool = True
    """Whether the proxy's SSH port of a jupyter instance is `ssh_port + 1`."""
    keys_delay_s: float = 0.0
    """How long an SSH key needs from the API into the container."""
    account_keys_reach_running: bool = False
    """Whether a key added to the account also reaches instances that exist."""
    # Pace
    created_s: float = 3.0
    loading_s: float = 30.0
    """Typical time to pull an image; each instance's own is 0.5 to 1.5 times this."""
    stop_s: float = 2.0
    start_s: float = 10.0
    reboot_s: float = 8.0
    logs_ready_s: float = 1.0
    # Billing
    charges_lag_s: float = 300.0
    """How long real use is missing from the charges and invoices (the credit goes down at once)."""
    traffic_down_gb_per_hour: float = 0.0
    traffic_up_gb_per_hour: float = 0.0
    delete_without_credit_s: float = 86_400.0
    """How long a stopped instance survives without credit."""
