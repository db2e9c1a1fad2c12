import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from tests.vast.fakes import KEY, Clock
from vastai_workflow.domain.errors import LocalError, Refusal, WorkflowError
from vastai_workflow.vast.key_files import key_in
from vastai_workflow.vast.key_sources import VastMarkets, keyring_password

Make = Callable[..., VastMarkets]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home" / "keys").mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    (tmp_path / "project" / "keys").mkdir(parents=True)
    return tmp_path / "project"


class Sent:
    """A provider that keeps the keys it was shown."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self) -> httpx.AsyncBaseTransport:
        return httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.keys.append(request.headers["authorization"].removeprefix("Bearer "))
        return httpx.Response(200, json={"id": 9, "credit": 1})


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
async def make(home: Path, cwd: Path, sent: Sent) -> AsyncIterator[Make]:
    made: list[VastMarkets] = []

    def markets(**changes: object) -> VastMarkets:
        values: dict[str, object] = {"environment": {}, "cwd": cwd, "home": home, "clock": Clock(), "transport": sent}
        made.append(VastMarkets(**(values | changes)))  # pyright: ignore[reportArgumentType] # values by name
        return made[-1]

    yield markets
    for one in made:
        await one.aclose()


def private(path: Path, content: str | bytes = f"VAST_API_KEY={KEY}\n", mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


async def failure(markets: VastMarkets, source: str) -> WorkflowError:
    with pytest.raises(WorkflowError) as caught:
        await markets.open(source)
    assert KEY not in caught.value.sentence + repr(caught.value)
    return caught.value


async def test_the_environment_holds_the_key(make: Make, sent: Sent) -> None:
    market = await make(environment={"VAST_API_KEY": f" {KEY}\n"}).open("env:VAST_API_KEY")
    await market.account()
    assert sent.keys == [KEY]


@pytest.mark.parametrize(
    "environment", [{}, {"VAST_API_KEY": ""}, {"VAST_API_KEY": "  "}, {"VAST_API_KEY": "a b c d e f g h"}]
)
async def test_an_environment_without_a_key_says_so(make: Make, environment: dict[str, str]) -> None:
    error = await failure(make(environment=environment), "env:VAST_API_KEY")
    assert (error.code, type(error)) == ("key_missing", LocalError)


@pytest.mark.parametrize(
    "source", ["", "env:", "env:A-B", "file:", "file", "keychain", KEY, f"Bearer {KEY}", "http://x"]
)
async def test_another_source_is_refused_without_showing_it(make: Make, source: str) -> None:
    error = await failure(make(), source)
    assert (error.code, type(error)) == ("invalid_argument", Refusal)


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"  {KEY}  \n\n",
        f"VAST_API_KEY={KEY}",
        f"export VAST_API_KEY={KEY}\n",
        f"export   VAST_API_KEY = '{KEY}'  # mine",
        f'VAST_API_KEY="{KEY}"\r\nOTHER=1\r\n',
        f"# a comment\n\nOTHER=1\nVAST_API_KEY={KEY} # mine\n",
        f"VAST_API_KEY=old-key-old-key\nVAST_API_KEY={KEY}\n",
        f"\ufeffVAST_API_KEY={KEY}",
        f"# the key\n{KEY}\n",
        f"MY_VAST_API_KEY=no\nVAST_API_KEY={KEY}\n",
    ],
)
def test_each_form_of_a_key_file_is_read(text: str) -> None:
    assert key_in(text, Path("f")).get_secret_value() == KEY


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "key_missing"),
        ("\n\n# nothing\n", "key_missing"),
        ("VAST_API_KEY=", "key_missing"),
        ("VAST_API_KEY=''", "key_missing"),
        ("VAST_API_KEY=  # later", "key_missing"),
        ("OTHER=sesame-sesame", "key_file_refused"),
        ("sesame-sesame\nsesame-sesame", "key_file_refused"),
        ("sesame sesame sesame", "key_file_refused"),
        ("VAST_API_KEY=sesame sesame", "key_file_refused"),
        ("VAST_API_KEY='sesame-sesame", "key_file_refused"),
        ("VAST_API_KEY=ses", "key_file_refused"),
        ("VAST_API_KEY=sésame-sésame", "key_file_refused"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nsesame\n", "key_file_refused"),
    ],
)
def test_a_file_that_holds_no_key_is_refused_and_not_shown(text: str, code: str) -> None:
    with pytest.raises(LocalError) as caught:
        key_in(text, Path("f"))
    assert caught.value.code == code
    assert "sesame" not in caught.value.sentence
    assert "BEGIN" not in caught.value.sentence


async def test_a_relative_path_is_looked_for_in_the_working_folder_and_then_in_home(
    make: Make, home: Path, cwd: Path
) -> None:
    markets = make()
    in_home = private(home / "keys" / ".vast_env")
    assert markets.resolve("file:keys/.vast_env") == f"file:{in_home}"
    in_cwd = private(cwd / "keys" / ".vast_env")
    assert markets.resolve("file:keys/.vast_env") == f"file:{in_cwd}"
    assert markets.resolve("file:~/keys/.vast_env") == f"file:{in_home}"
    assert markets.resolve(f"file:{in_home}") == f"file:{in_home}"
    assert markets.resolve("file:keys/none") == f"file:{cwd / 'keys' / 'none'}"


async def test_a_resolved_source_opens_as_itself(make: Make, home: Path, sent: Sent) -> None:
    private(home / "key", KEY)
    markets = make()
    market = await markets.open(markets.resolve("file:key"))
    await market.account()
    assert sent.keys == [KEY]


async def test_a_working_folder_that_is_the_root_counts_for_nothing(make: Make, home: Path, tmp_path: Path) -> None:
    inside, outside = private(home / "key"), private(tmp_path / "outside")
    markets = make(cwd=Path("/"))
    assert markets.resolve("file:key") == f"file:{inside}"
    assert (await failure(markets, f"file:{outside}")).code == "key_file_refused"
    assert (await failure(markets, f"file:{str(outside).lstrip('/')}")).code == "key_missing"
    assert (await failure(make(cwd=Path("/"), home=Path("/")), f"file:{outside}")).code == "key_file_refused"


@pytest.mark.parametrize("path", ["../outside", "keys/../../outside", "/etc/hostname", "~/../outside", "\0", "a\0b"])
async def test_a_path_outside_the_two_folders_is_refused(make: Make, tmp_path: Path, path: str) -> None:
    private(tmp_path / "outside")
    error = await failure(make(), f"file:{path}")
    assert error.code == "key_file_refused"


async def test_a_link_is_judged_by_where_it_leads(make: Make, home: Path, cwd: Path, tmp_path: Path) -> None:
    private(tmp_path / "outside")
    real = private(home / "key")
    (cwd / "out").symlink_to(tmp_path / "outside")
    (cwd / "in").symlink_to(real)
    (cwd / "folder").symlink_to(tmp_path)
    (cwd / "loop").symlink_to(cwd / "loop")
    markets = make()
    assert markets.resolve("file:in") == f"file:{real}"
    for path in ("out", "folder/outside"):
        assert (await failure(markets, f"file:{path}")).code == "key_file_refused"
    assert (await failure(markets, "file:loop")).code in ("key_file_refused", "key_missing")


async def test_a_folder_that_only_begins_like_home_is_outside(make: Make, home: Path) -> None:
    twin = private(home.with_name("home2") / "key")
    assert (await failure(make(), f"file:{twin}")).code == "key_file_refused"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o620, 0o601])
async def test_a_key_file_that_is_open_to_others_is_refused_with_the_command_that_helps(
    make: Make, home: Path, mode: int
) -> None:
    path = private(home / "my keys" / "key", mode=mode)
    error = await failure(make(), f"file:{path}")
    assert error.code == "key_file_refused"
    assert f"chmod 600 '{path}'" in error.next_step


async def test_a_directory_is_no_key_file(make: Make) -> None:
    error = await failure(make(), "file:keys")
    assert (error.code, "regular file" in error.message) == ("key_file_refused", True)


async def test_a_pipe_is_no_key_file_and_nobody_waits_for_it(make: Make, cwd: Path) -> None:
    os.mkfifo(cwd / "pipe", 0o600)
    assert (await failure(make(), "file:pipe")).code == "key_file_refused"


@pytest.mark.parametrize("content", [b"\x00" * 20, b"\xff\xfe" + KEY.encode(), f"VAST_API_KEY={KEY}\0".encode()])
async def test_a_binary_file_is_refused(make: Make, cwd: Path, content: bytes) -> None:
    private(cwd / "key", content)
    error = await failure(make(), "file:key")
    assert (error.code, "no text" in error.message) == ("key_file_refused", True)


@pytest.mark.parametrize("size", [64 * 1024 + 1, 10 * 1024 * 1024])
async def test_a_large_file_is_refused(make: Make, cwd: Path, size: int) -> None:
    private(cwd / "key", b"#" * size)
    error = await failure(make(), "file:key")
    assert (error.code, "too large" in error.message) == ("key_file_refused", True)


async def test_a_file_that_is_not_there_is_a_missing_key(make: Make) -> None:
    for path in ("file:none", "file:none/none", "cli"):
        assert (await failure(make(), path)).code == "key_missing"


async def test_the_official_client_s_key_is_found_in_each_of_its_places(
    make: Make, home: Path, tmp_path: Path, sent: Sent
) -> None:
    private(home / ".vast_api_key", "legacy-key-0123")
    markets = make()
    await (await markets.open("cli")).account()
    newer = private(home / ".config" / "vastai" / "vast_api_key", "default-key-0123")
    await (await markets.open("cli")).account()
    private(tmp_path / "xdg" / "vastai" / "vast_api_key", "xdg-key-0123")
    await (await make(environment={"XDG_CONFIG_HOME": str(tmp_path / "xdg")}).open("cli")).account()
    assert sent.keys == ["legacy-key-0123", "default-key-0123", "xdg-key-0123"]
    newer.chmod(0o644)
    assert (await failure(markets, "cli")).code == "key_file_refused"


async def test_the_keyring_holds_the_key(make: Make, sent: Sent) -> None:
    await (await make(keyring=lambda: KEY).open("keyring")).account()
    assert sent.keys == [KEY]


async def test_an_empty_keyring_is_a_missing_key(make: Make) -> None:
    assert (await failure(make(keyring=lambda: None), "keyring")).code == "key_missing"


@pytest.fixture
def no_keyring_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)


def test_without_the_keyring_package_the_way_to_it_is_told(no_keyring_package: None) -> None:
    with pytest.raises(LocalError, match="not installed") as caught:
        keyring_password()
    assert caught.value.code == "key_missing"
    assert "vastai-workflow[keyring]" in caught.value.next_step


async def test_one_key_has_one_client_whatever_its_source(make: Make, home: Path) -> None:
    private(home / "key")
    markets = make(environment={"VAST_API_KEY": KEY, "OTHER": "another-key-0123"})
    one = await markets.open("env:VAST_API_KEY")
    assert await markets.open("file:key") is one
    assert await markets.open("env:OTHER") is not one


async def test_a_changed_key_file_is_read_again(make: Make, home: Path, sent: Sent) -> None:
    path = private(home / "key")
    markets = make()
    await (await markets.open("file:key")).account()
    private(path, "VAST_API_KEY=another-key-0123")
    await (await markets.open("file:key")).account()
    assert sent.keys == [KEY, "another-key-0123"]


@pytest.mark.parametrize(
    "url",
    [
        "http://console.vast.ai",
        "http://10.0.0.5:8080",
        "ftp://console.vast.ai",
        "console.vast.ai",
        "",
        "https://me:pw@x",
    ],
)
def test_a_key_goes_to_no_host_in_the_clear(make: Make, url: str) -> None:
    with pytest.raises(Refusal, match="VAST_URL") as caught:
        make(base_url=url)
    assert "pw" not in caught.value.sentence


@pytest.mark.parametrize(
    ("url", "local"), [("http://127.0.0.1:8931/", True), ("http://[::1]:1", True), ("https://console.vast.ai", False)]
)
async def test_a_market_knows_whether_it_is_local(make: Make, url: str, *, local: bool) -> None:
    market = await make(base_url=url, environment={"VAST_API_KEY": KEY}).open("env:VAST_API_KEY")
    assert market.is_local is local
    assert (await market.account()).id == 9
