from pathlib import Path

import platformdirs
import pytest

from vastai_workflow.domain.caps import Caps
from vastai_workflow.domain.errors import Refusal
from vastai_workflow.domain.money import Rate
from vastai_workflow.settings import Settings


def refusal(environment: dict[str, str], **command_line: str) -> Refusal:
    with pytest.raises(Refusal) as refused:
        Settings.from_environment(environment, **command_line)  # pyright: ignore[reportArgumentType]  # each case names its own
    assert refused.value.code == "invalid_argument"
    assert "got " in refused.value.message
    assert "allowed " in refused.value.message
    assert "start the server again" in refused.value.next_step
    return refused.value


def test_nothing_set_gives_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings(
        vast_url="https://console.vast.ai",
        state=platformdirs.user_state_path("vastai-workflow"),
        approval="auto",
        caps=Caps(),
        log_level="WARNING",
    )


def test_everything_set_is_taken(tmp_path: Path) -> None:
    environment = {
        "VAST_URL": "http://127.0.0.1:8001/",
        "VASTAI_WORKFLOW_STATE": str(tmp_path),
        "VASTAI_WORKFLOW_APPROVAL": "human",
        "VASTAI_WORKFLOW_READ_ONLY": "1",
        "VASTAI_WORKFLOW_MAX_PRICE_PER_HOUR": "0.50",
        "VASTAI_WORKFLOW_MAX_TOTAL_PER_HOUR": " 2 ",
        "VASTAI_WORKFLOW_MAX_INSTANCES": "4",
        "VASTAI_WORKFLOW_LOG_LEVEL": "debug",
    }
    assert Settings.from_environment(environment) == Settings(
        vast_url="http://127.0.0.1:8001",
        state=tmp_path,
        approval="human",
        caps=Caps(Rate.of("0.50"), Rate.of("2"), 4, read_only=True),
        log_level="DEBUG",
    )


def test_the_command_line_comes_before_the_environment(tmp_path: Path) -> None:
    environment = {
        "VAST_URL": "https://one.example",
        "VASTAI_WORKFLOW_STATE": "elsewhere",
        "VASTAI_WORKFLOW_APPROVAL": "auto",
    }
    settings = Settings.from_environment(
        environment, vast_url="http://localhost:1", state=str(tmp_path), approval="relayed", read_only=True
    )
    assert (settings.vast_url, settings.state, settings.approval) == ("http://localhost:1", tmp_path, "relayed")
    assert settings.caps.read_only


def test_the_command_line_cannot_lift_read_only() -> None:
    assert Settings.from_environment({"VASTAI_WORKFLOW_READ_ONLY": "true"}, read_only=False).caps.read_only


def test_a_transports_default_approval_holds_only_where_none_is_named() -> None:
    named = {"VASTAI_WORKFLOW_APPROVAL": "relayed"}
    assert Settings.from_environment({}, default_approval="human").approval == "human"
    assert Settings.from_environment(named, default_approval="human").approval == "relayed"


def test_empty_addresses_and_log_levels_count_as_unset() -> None:
    names = ("VAST_URL", "VASTAI_WORKFLOW_STATE", "VASTAI_WORKFLOW_LOG_LEVEL")
    assert Settings.from_environment(dict.fromkeys(names, "")) == Settings.from_environment({})


@pytest.mark.parametrize("name", ["MAX_PRICE_PER_HOUR", "MAX_TOTAL_PER_HOUR"])
@pytest.mark.parametrize(
    "value", ["", "-1", "-0.5", "nan", "NaN", "inf", "-Infinity", "1e3", "1_0", "0,50", "$0.5", ".5", "1.", "1 2", "٣"]
)
def test_a_price_cap_that_cannot_be_read_stops_the_start(name: str, value: str) -> None:
    refused = refusal({f"VASTAI_WORKFLOW_{name}": value})
    assert refused.message == f"VASTAI_WORKFLOW_{name}: got {value!r}, allowed dollars per hour such as 0.50"


@pytest.mark.parametrize("value", ["", "-1", "nan", "1.5", "1e3", "1_0", "0x1", "four", "٣", "9" * 40])
def test_a_count_cap_that_cannot_be_read_stops_the_start(value: str) -> None:
    refused = refusal({"VASTAI_WORKFLOW_MAX_INSTANCES": value})
    assert refused.message == f"VASTAI_WORKFLOW_MAX_INSTANCES: got {value!r}, allowed a whole number such as 4"


def test_a_cap_of_nothing_is_a_cap() -> None:
    environment = {"VASTAI_WORKFLOW_MAX_PRICE_PER_HOUR": "0", "VASTAI_WORKFLOW_MAX_INSTANCES": "0"}
    assert Settings.from_environment(environment).caps == Caps(Rate.of(0), None, 0)


def test_a_misspelt_cap_stops_the_start() -> None:
    refused = refusal({"VASTAI_WORKFLOW_MAX_PRICE": "0.50"})
    assert "VASTAI_WORKFLOW_MAX_PRICE_PER_HOUR" in refused.message


@pytest.mark.parametrize("value", ["", "2", "ja", "readonly"])
def test_a_read_only_switch_that_cannot_be_read_stops_the_start(value: str) -> None:
    assert refusal({"VASTAI_WORKFLOW_READ_ONLY": value}).message.startswith("VASTAI_WORKFLOW_READ_ONLY: got ")


@pytest.mark.parametrize(("value", "meant"), [("1", True), ("Yes", True), ("on", True), ("0", False), ("FALSE", False)])
def test_a_read_only_switch_is_read_in_its_usual_forms(value: str, meant: bool) -> None:  # noqa: FBT001  # a parameter of the test
    assert Settings.from_environment({"VASTAI_WORKFLOW_READ_ONLY": value}).caps.read_only is meant


@pytest.mark.parametrize("value", ["", "none", "human, auto"])
def test_an_approval_that_cannot_be_read_stops_the_start(value: str) -> None:
    assert "human | relayed | auto" in refusal({"VASTAI_WORKFLOW_APPROVAL": value}).message
    assert "human | relayed | auto" in refusal({"VASTAI_WORKFLOW_APPROVAL": "human"}, approval=value).message


def test_a_log_level_that_nobody_knows_is_refused() -> None:
    assert "DEBUG | INFO | WARNING | ERROR" in refusal({"VASTAI_WORKFLOW_LOG_LEVEL": "loud"}).message


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8001", "http://127.9.9.9", "http://[::1]:80/", "http://localhost:9/", "https://x.example/a/"],
)
def test_the_key_travels_over_https_or_on_this_machine(url: str) -> None:
    assert Settings.from_environment({"VAST_URL": url}).vast_url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://console.vast.ai",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "ftp://console.vast.ai",
        "console.vast.ai",
        "https://",
        "https://x.example:port",
        "https://[::1",
        "https://x.example\\.evil.example",
        "https://x.example/a b",
        "https://x.example/?api_key=sesame",
        "https://x.example/#sesame",
        "https://ada:sesame@x.example",
        "https://sesame@x.example",
    ],
)
def test_any_other_address_is_refused_without_what_may_be_a_key(url: str) -> None:
    refused = refusal({"VAST_URL": url})
    assert refused.message.startswith("VAST_URL: got ")
    assert "sesame" not in repr(refused) + refused.sentence


@pytest.mark.parametrize("url", ["postgresql://ada:sesame@db.example/ledger", "sqlite:///ledger.db", "Redis://x"])
def test_a_database_url_is_refused_for_now_without_its_password(url: str) -> None:
    refused = refusal({"VASTAI_WORKFLOW_STATE": url})
    assert "allowed a folder: this version keeps its ledger in SQLite" in refused.message
    assert "sesame" not in repr(refused) + refused.sentence
    assert refusal({}, state=url).message == refused.message


def test_a_state_folder_is_absolute_and_may_start_at_home() -> None:
    assert Settings.from_environment({}, state="state").state == Path.cwd() / "state"
    assert Settings.from_environment({}, state="~/state").state == Path.home() / "state"
    assert "VASTAI_WORKFLOW_STATE" in refusal({}, state="~nobody.of.this.name/state").message
