"""Commands as the pages show them: they work when they are copied."""

from __future__ import annotations

import re

import pytest
import yaml
from conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")),
         ROOT / "examples" / "README.md", ROOT / "tests" / "usrp_emulator" / "README.md"]
CARDS = sorted((ROOT / "python" / "emind" / "weights").glob("*.md"))
BARE = re.compile(r"(emind|emind-train|python3?|pip|examples/\S+\.py)( |$)")  # as they stand on nobody's PATH
SCRIPT = re.compile(r"(\S*)\b(examples/\w+\.py)")


def commands_of(text: str) -> list[str]:
    """Lines of the blocks between ```, without drawings."""
    blocks = re.findall(r"^```(?:sh|bash|)\n(.*?)^```", text, re.S | re.M)
    return [line for block in blocks if not re.search("[─►│]", block) for line in block.splitlines()]


@pytest.mark.parametrize("page", PAGES + CARDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_s_commands_name_the_environment_that_has_them(page):
    assert [line for line in commands_of(page.read_text(encoding="utf-8")) if BARE.match(line)] == []


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_card_s_commands_which_stand_in_its_lines_name_it_too(card):
    words = re.findall(r"`([^`\n]+)`", card.read_text(encoding="utf-8"))
    assert any(one.startswith(".venv/bin/emind-train ") for one in words)
    assert [one for one in words if BARE.match(one)] == []


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda script: script.name)
def test_an_example_s_own_words_start_it_with_the_environment_s_python(script):
    words = script.read_text(encoding="utf-8").split('"""')[1]
    calls = [line.strip() for line in words.splitlines() if re.match(r"\s+\S*(python3? )?examples/\w+\.py ", line)]
    calls += re.findall(r"`([^`]*examples/\w+\.py[^`]*)`", words)
    assert all(call.startswith(".venv/bin/python examples/") for call in calls), calls
    if script.name == "closed_loop.py":
        assert len(calls) == 2  # with a radio and without


def test_scripts_that_pages_name_are_there():
    named = {found[1] for page in PAGES for found in SCRIPT.findall(page.read_text(encoding="utf-8"))}
    assert "examples/closed_loop.py" in named and all((ROOT / name).is_file() for name in named)


@pytest.mark.parametrize("block", ["inference", "receiver"])
def test_the_documentation_tab_names_all_that_a_message_to_the_port_weights_may_hold(block):
    pytest.importorskip("gnuradio")
    from emind.weights_pmt import KEYS

    words = yaml.safe_load((ROOT / "grc" / f"emind_{block}.block.yml").read_text(encoding="utf-8"))["documentation"]
    line, = [line for line in words.splitlines() if line.strip().startswith("- weights:")]
    assert KEYS | {"weights"} <= set(re.findall(r"\w+", line.removeprefix("- weights:")))


def test_the_pages_say_after_how_long_a_batch_closes():
    pytest.importorskip("gnuradio")
    from inspect import signature

    from emind import inference, receiver, remote_inference

    here, tuned, there = (signature(block).parameters["max_latency_ms"].default
                          for block in (inference, receiver, remote_inference))
    assert here == tuned < there
    assert f"`max_latency_ms` ({here:g})" in (ROOT / "docs" / "realtime.md").read_text(encoding="utf-8")
    assert f"by default {there:g} ({here:g} in `EMind Inference`)" in \
        " ".join((ROOT / "docs" / "hosts.md").read_text(encoding="utf-8").split())
