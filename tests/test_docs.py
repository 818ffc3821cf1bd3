"""Commands as the pages show them: they work when they are copied."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex

import pytest
import yaml
from conftest import ROOT
from emind import cli
from emind_training import cli as train_cli

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")),
         ROOT / "examples" / "README.md", ROOT / "tests" / "usrp_emulator" / "README.md"]
CARDS = sorted((ROOT / "python" / "emind" / "weights").glob("*.md"))
BARE = re.compile(r"(emind|emind-train|python3?|pip|examples/\S+\.py)( |$)")  # as they stand on nobody's PATH
ENVIRONMENT = ".venv/bin/"
FILL_IN = re.compile(r"[A-Z]+(\.\w+)?|\.\.\.|\|")
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


def typed_of(text: str) -> list[list[str]]:
    """Words of commands that stand in lines with values to copy: no mere names (`emind classify`, `emind live --apart`),
    nothing to fill in (`emind-train reference WEIGHTS`)."""
    text = re.sub(r"<!--.*?-->|^```.*?^```", "", text, flags=re.S | re.M)
    found = [one.split() for one in re.findall(r"`([^`]+)`", text)]
    return [words for words in found if words and BARE.match(words[0].removeprefix(ENVIRONMENT))
            and not any(FILL_IN.fullmatch(word) for word in words) and values_of(words)]


def parser_of(words: list[str]) -> argparse.ArgumentParser | None:
    program = words[0].removeprefix(ENVIRONMENT)
    if program == "emind-train":
        return train_cli.parser()
    return cli.build_parser(words[1] if words[1:] else None) if program == "emind" else None


def values_of(words: list[str]) -> list[str]:
    """Without program, subcommands and options' names."""
    parser, rest = parser_of(words), words[1:]
    while parser and rest:
        below = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        parser = below[0].get(rest[0]) if below else None
        rest = rest[1:] if parser else rest
    return [word for word in rest if not word.startswith("-")]


@pytest.mark.parametrize("page", PAGES + CARDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_stand_in_a_page_s_lines_work_when_they_are_copied(page, capsys):
    for words in typed_of(page.read_text(encoding="utf-8")):
        line = " ".join(words)
        assert words[0].startswith(ENVIRONMENT), f"{line}: without {ENVIRONMENT}"
        if words[1] == "-m":
            assert importlib.util.find_spec(words[2]), f"{line}: no such module"
        elif parser := parser_of(words):
            try:
                parser.parse_args(shlex.split(line)[1:])
            except SystemExit:
                pytest.fail(f"{line}: {capsys.readouterr().err}")


def test_names_of_commands_are_told_from_commands_to_copy():
    text = "`emind classify` `emind live --apart` `emind enrol NAME --remove`\n```\n`pip install x`\n```\n" \
           "<!-- `emind bench latency --batch 8` --> `emind bench\nlatency --batch 8` `python -m a.b` `.venv/bin/emind-train " \
           "grow emind-nano`"
    assert [" ".join(words) for words in typed_of(text)] == [
        "emind bench latency --batch 8", "python -m a.b", ".venv/bin/emind-train grow emind-nano"]


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
