import re
import subprocess
from pathlib import Path

import pytest

from vastai_workflow.vast.endpoints import ENDPOINTS, render_table

REFERENCE = (Path(__file__).parent.parent.parent / "references" / "api.md").read_text()
SHELL_BLOCKS = re.findall(r"^```sh\n(.*?)^```$", REFERENCE, re.MULTILINE | re.DOTALL)


def test_the_reference_shows_the_table_as_it_is() -> None:
    shown = re.search(r"<!-- endpoints -->\n(.*?)\n<!-- /endpoints -->", REFERENCE, re.DOTALL)
    assert shown is not None
    assert shown.group(1) == render_table()


def test_what_spends_or_cuts_off_work_is_never_sent_twice() -> None:
    once = {one.name for one in ENDPOINTS if not one.repeatable}
    assert once == {"create", "start", "bid", "reboot", "recycle"}


def test_names_are_unique_and_the_old_list_is_not_used() -> None:
    assert len({one.name for one in ENDPOINTS}) == len(ENDPOINTS)
    assert not [one for one in ENDPOINTS if (one.method, one.version, one.path) == ("GET", "v0", "/instances/")]


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=range(len(SHELL_BLOCKS)))
def test_a_template_is_shell_that_any_shell_reads(block: str) -> None:
    read = subprocess.run(["sh", "-n"], input=block, text=True, capture_output=True, check=False)  # noqa: S607 # sh of the system
    assert (read.returncode, read.stderr) == (0, "")


def test_templates_never_put_the_key_into_an_address_or_an_argument() -> None:
    uses = [line for block in SHELL_BLOCKS for line in block.splitlines() if "$VAST_API_KEY" in line]
    assert [line.split("|")[0].strip() for line in uses] == [
        """status=$(printf 'header = "Authorization: Bearer %s"\\n' "$VAST_API_KEY" """.strip()
    ]


def test_templates_send_what_spends_once() -> None:
    text = "\n".join(SHELL_BLOCKS)
    assert re.findall(r"\w+ PUT \S*asks\S*", text) == ['once PUT "v0/asks/$ASK/"']
    assert re.findall(r"(\w+) PUT \S+ '\{\"state\": \"running\"\}'", text) == ["once"]
