"""The account: who it is, its API keys and its environment variables."""

from vastai_workflow.simulator.exchange import Call, Endpoint, JsonObject, Refused, Reply, ok

MAX_SECRETS = 100


def _user(call: Call) -> Reply:
    account = call.account
    key_id = call.key_or_none.id if call.key_or_none else 0
    return Reply(
        {
            "id": account.id,
            "username": account.username,
            "email": account.email,
            "fullname": "",
            "credit": float(account.credit),
            "balance": 0.0,
            "balance_threshold": 0.0,
            "balance_threshold_enabled": False,
            "autobill_threshold": 0.0,
            "billed_expected": 0.0,
            "billed_verified": 0.0,
            "billing_creditonly": 0,
            "can_pay": True,
            "email_verified": True,
            "got_signup_credit": 0.0,
            "has_billing": account.has_card,
            "has_payout": False,
            "host_agreement_accepted": False,
            "last4": "4242" if account.has_card else None,
            "paid_expected": 0.0,
            "paid_verified": 0.0,
            "password_resettable": True,
            "paypal_email": None,
            "ssh_key": next((key.public_key for key in account.ssh_keys.values()), ""),
            "user": account.username,
            "sid": call.world.token(f"session {account.id}")[:32],
            "api_key_id": key_id,
            "key_id": key_id,
            "api_key": call.bearer,
        }
    )


def _set_user(call: Call) -> Reply:
    for name in ("username", "email"):
        if name in call.body:
            setattr(call.account, name, str(call.body[name]))
    return ok(msg="User updated.")


def _api_keys(call: Call) -> Reply:
    rows: list[JsonObject] = [
        {
            "id": key.id,
            "name": key.name,
            "user_id": call.account.id,
            "rights": "write",
            "permissions": {"api": {scope: {} for scope in sorted(key.scopes)}},
            "team_id": 0,
            "team_name": "",
        }
        for key in call.account.keys.values()
        if not key.revoked and key.instance_id is None
    ]
    return Reply({"apikeys": rows})


def _secrets(call: Call) -> Reply:
    return ok(secrets=dict(call.account.secrets))


def _named(call: Call) -> str:
    name = str(call.body.get("key") or "").upper()
    if not name:
        raise Refused(400, "missing_input", "key is missing")
    return name


def _add_secret(call: Call) -> Reply:
    name = _named(call)
    if name in call.account.secrets:
        raise Refused(400, "existing_key", "This key exists already.")
    if len(call.account.secrets) >= MAX_SECRETS:
        raise Refused(400, "max_secrets", "Too many secrets.")
    call.account.secrets[name] = str(call.body.get("value", ""))
    return ok(msg="Secret added.")


def _set_secret(call: Call) -> Reply:
    name = _named(call)
    if name not in call.account.secrets:
        raise Refused(400, "nonexistent_key", "No such key.")
    call.account.secrets[name] = str(call.body.get("value", ""))
    return ok(msg="Secret updated.")


def _delete_secret(call: Call) -> Reply:
    if call.account.secrets.pop(_named(call), None) is None:
        raise Refused(400, "nonexistent_key", "No such key.")
    return ok(msg="Secret deleted.")


ENDPOINTS = (
    Endpoint("GET", "/api/v0/users/current", "user", _user, "user_read", interval_s=0.5),
    Endpoint("PUT", "/api/v0/users", "set_user", _set_user, "user_write", interval_s=5.0),
    Endpoint("GET", "/api/v0/auth/apikeys", "api_keys", _api_keys, "user_read", interval_s=1.0),
    Endpoint("GET", "/api/v0/secrets", "secrets", _secrets, "user_read", interval_s=5.0),
    Endpoint("POST", "/api/v0/secrets", "add_secret", _add_secret, "user_write", interval_s=3.0),
    Endpoint("PUT", "/api/v0/secrets", "set_secret", _set_secret, "user_write", interval_s=3.0),
    Endpoint("DELETE", "/api/v0/secrets", "delete_secret", _delete_secret, "user_write", interval_s=3.0),
)
