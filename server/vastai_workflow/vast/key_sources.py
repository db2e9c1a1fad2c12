"""Opens the API for a key source: an environment variable, a key file, the official client's key, or the keyring."""

import hashlib
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import anyio.to_thread
import httpx
from pydantic import SecretStr

from vastai_workflow.domain.errors import LocalError, Refusal
from vastai_workflow.steps.ports import ApiCall, Clock
from vastai_workflow.vast import key_files
from vastai_workflow.vast.client import DEFAULT_URL, Client, checked_url
from vastai_workflow.vast.market import VastMarket

KEYRING_SERVICE: Final = "vastai-workflow"
_LIKE_A_KEY: Final = re.compile(r"^[0-9A-Za-z]{32,}$|[0-9A-Fa-f]{64}")
"""No path or variable looks so, or holds a whole key, and what does is not repeated."""
_VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def keyring_password() -> str | None:
    """The key in the system's keyring, None where there is none; LocalError where no keyring can be used."""
    try:
        import keyring  # noqa: PLC0415 # an optional dependency
        from keyring.errors import KeyringError  # noqa: PLC0415 # the same
    except ImportError:
        raise LocalError(
            "key_missing",
            "the package keyring is not installed",
            next_step="run: pip install 'vastai-workflow[keyring]', or choose another key source",
        ) from None
    try:
        return keyring.get_password(KEYRING_SERVICE, key_files.VARIABLE)
    except KeyringError:
        raise LocalError("key_missing", "the system's keyring can't be used; choose another key source") from None


class VastMarkets:
    """The steps' `Markets`. Keeps one client for each key, so that limits hold over calls."""

    def __init__(  # noqa: PLR0913 # what the outside gives, each by its name
        self,
        *,
        environment: Mapping[str, str],
        cwd: Path,
        home: Path,
        clock: Clock,
        base_url: str = DEFAULT_URL,
        chance: random.Random | None = None,
        transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
        answers_dir: Path | None = None,
        keyring: Callable[[], str | None] = keyring_password,
        on_call: Callable[[ApiCall], None] | None = None,
    ) -> None:
        """`transport` makes each client's connection, for a market in this process. Refusal for a bad `base_url`.

        `on_call` hears of each request once it is over.
        """
        checked_url(base_url)
        self._environment = environment
        self._cwd = cwd
        self._home = home
        self._clock = clock
        self._base_url = base_url
        self._chance = random.Random() if chance is None else chance  # noqa: S311 # jitter, no secret
        self._transport = transport
        self._answers_dir = answers_dir
        self._keyring = keyring
        self._on_call = on_call
        self._open: dict[bytes, VastMarket] = {}

    def resolve(self, source: str) -> str:
        """The source in full. LocalError `key_file_refused`, or Refusal `invalid_argument` for no source at all."""
        kind, _, rest = source.partition(":")
        if kind == "env" and _VARIABLE_NAME.fullmatch(rest) and not _LIKE_A_KEY.search(rest):
            return source
        if kind == "file" and rest and not _LIKE_A_KEY.search(rest):
            return f"file:{key_files.resolve(rest, cwd=self._cwd, home=self._home)}"
        if source in ("cli", "keyring"):
            return source
        raise Refusal(
            "invalid_argument",
            f"api_key_source: got {len(source)} other characters, allowed env:NAME, file:PATH, cli or keyring",
            next_step="correct it, and never pass the key itself",
        )

    async def open(self, source: str) -> VastMarket:
        """The API for a source's key; sends nothing."""
        key = await self._load(self.resolve(source))
        fingerprint = hashlib.sha256(key.get_secret_value().encode()).digest()
        if fingerprint not in self._open:
            client = Client(
                key,
                base_url=self._base_url,
                clock=self._clock,
                chance=self._chance,
                transport=None if self._transport is None else self._transport(),
                answers_dir=self._answers_dir,
                on_call=self._on_call,
            )
            self._open[fingerprint] = VastMarket(client)
        return self._open[fingerprint]

    async def aclose(self) -> None:
        """Close every client."""
        while self._open:
            await self._open.popitem()[1].aclose()

    async def _load(self, source: str) -> SecretStr:
        kind, _, rest = source.partition(":")
        if kind == "file":
            return key_files.read_key(Path(rest))
        if kind == "cli":
            return key_files.read_key(self._cli_file())
        if kind == "keyring":
            return _checked(await anyio.to_thread.run_sync(self._keyring), "the system's keyring")
        return _checked(self._environment.get(rest), f"the environment variable {rest}")

    def _cli_file(self) -> Path:
        """The official client's key file, else its old one."""
        config = Path(self._environment.get("XDG_CONFIG_HOME") or self._home / ".config")
        files = (config / "vastai" / "vast_api_key", self._home / ".vast_api_key")
        return next((file for file in files if file.exists()), files[0]).resolve()


def _checked(value: str | None, where: str) -> SecretStr:
    key = (value or "").strip()
    if not key:
        raise LocalError("key_missing", f"{where} holds no key")
    if not key_files.KEY.fullmatch(key):
        raise LocalError("key_missing", f"{where} holds something that is no key")
    return SecretStr(key)
