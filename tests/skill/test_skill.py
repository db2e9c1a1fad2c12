import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from tests.skill.rendered import PROJECT
from vastai_workflow.domain import fields
from vastai_workflow.domain.errors import CATALOGUE
from vastai_workflow.server import TOOLS
from vastai_workflow.tools import results

NAME = "vastai-workflow"
MAX_TOKENS = 1500
FEWEST_CHARACTERS_A_TOKEN = 3.5
"""English Markdown has about four: a text within this bound is within the limit; interop counts exactly."""

VALIDATOR = "skills-ref==0.1.1"

SKILL = (PROJECT / "SKILL.md").read_text("utf-8")
_, HEAD, BODY = SKILL.split("---\n", 2)
REFERENCES = {path.name: path.read_text("utf-8") for path in sorted((PROJECT / "references").glob("*.md"))}


def known_words() -> set[str]:
    """Names of tools, arguments, answers, fields and codes, and the words that readiness and actions are told in."""
    arguments = {name for tool in TOOLS for name in inspect.signature(tool.function).parameters}
    models = [kind for _, kind in inspect.getmembers(results, inspect.isclass) if issubclass(kind, BaseModel)]
    answers = {name for model in models for name in model.model_fields}
    return {
        *(tool.function.__name__ for tool in TOOLS),
        *arguments,
        *answers,
        *fields.FIELDS,
        *CATALOGUE,
        *("ask_user", "gpu_ok"),
    }


def test_the_head_names_the_skill_and_says_when_to_use_it() -> None:
    head: dict[str, Any] = yaml.safe_load(HEAD)
    assert head["name"] == NAME
    assert 1 <= len(head["description"]) <= 1024
    assert "Use when" in head["description"]
    assert "Not for" in head["description"]
    assert set(head) <= {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}


def test_the_body_is_short() -> None:
    assert len(BODY) / FEWEST_CHARACTERS_A_TOKEN < MAX_TOKENS
    assert len(BODY.splitlines()) < 500


@pytest.mark.interop
def test_the_body_is_short_in_tokens_too() -> None:
    from bench.tokens import count  # noqa: PLC0415 # its package is not there in a plain test run

    assert count(BODY) < MAX_TOKENS


def test_every_name_that_it_tells_exists() -> None:
    told = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)\b", BODY))
    assert told - known_words() == set()
    assert {"propose_fields", "confirm_fields", "find_offers", "create_instances", "destroy_instances"} <= told


def test_it_reasons_instead_of_shouting() -> None:
    shouted = set(re.findall(r"\b[A-Z]{4,}\b", re.sub(r"`[^`]*`", "", BODY)))
    assert shouted == set()


def test_every_reference_is_there_one_level_deep_with_a_word_on_when_to_read_it() -> None:
    listed = dict(re.findall(r"^- `references/([a-z]+\.md)`: (\w.+)\.$", BODY, re.MULTILINE))
    assert set(listed) == set(REFERENCES)
    assert [name for name, text in REFERENCES.items() if "\nWhen to read this: " not in text] == []


def test_it_works_without_the_server_and_hands_the_machine_over() -> None:
    assert "`references/api.md`" in BODY.partition("## Without the server")[2].partition("## ")[0]
    assert "workload's own skill" in BODY


def test_a_reason_of_ssh_that_a_report_can_have_is_explained() -> None:
    from vastai_workflow.access.race import REASONS  # noqa: PLC0415 # asyncssh is heavy

    others = {"no_private_key", "hung", "wrong_gpu", "no_gpu", "driver_error", "nvidia_smi_missing", "recycling"}
    rows = [line.split("|")[1] for line in REFERENCES["ssh.md"].splitlines() if line.startswith("| `")]
    explained = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert explained == {*REASONS, *others}


@pytest.mark.interop
def test_the_formats_own_validator_accepts_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / NAME
    (folder / "references").mkdir(parents=True)
    (folder / "SKILL.md").write_text(SKILL, "utf-8")
    for name, text in REFERENCES.items():
        (folder / "references" / name).write_text(text, "utf-8")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)  # noqa: S603 # this Python
    programs = tmp_path / "venv" / "bin"
    install = [str(programs / "pip"), "install", "--quiet", "--disable-pip-version-check", VALIDATOR]
    subprocess.run(install, check=True)  # noqa: S603 # of the environment just made
    done = subprocess.run([str(programs / "agentskills"), "validate", str(folder)], capture_output=True, check=False)  # noqa: S603 # just installed
    assert (done.returncode, done.stderr) == (0, b""), done.stdout
