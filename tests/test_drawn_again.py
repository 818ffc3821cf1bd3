"""Heads whose set was drawn by a recipe: whether this version can draw it again, and what is told if not."""

from __future__ import annotations

import copy
import dataclasses

import pytest
from emind.models.checkpoint import read_header
from emind.runtime.weights import resolve
from emind_training import evaluation, task_card
from emind_training.evaluation_record import trained_how
from emind_training.synthesis.sets import SETS

NAME = "separation"


class Drawn(Exception):
    """A set would be drawn."""


@pytest.fixture
def files_of(monkeypatch, tmp_path):
    """What evaluation says of the files of the released head, its set drawn as the changes say."""
    def drawn_set(name, *rest):
        raise Drawn(name)

    monkeypatch.setattr(evaluation, "drawn_set", drawn_set)

    def ask(**changes):
        return evaluation.test_part(head_with(**changes), evaluation.Asked(tmp_path, say=lambda line: None))

    return ask


def header_with(given=False, **changes):
    header = copy.deepcopy(read_header(resolve(f"emind-{NAME}")))
    own = header["training"]["data"][NAME]
    own["drawn"] = None if given else own["drawn"] | changes
    return header


def head_with(given=False, **changes):
    return evaluation.heads_of(header_with(given, **changes))[NAME]


def test_a_set_of_the_recipe_s_version_is_drawn_again(files_of):
    with pytest.raises(Drawn, match="EM-Radar-Mix"):
        files_of(recipes=SETS["EM-Radar-Mix"].version)


def test_each_recipe_s_own_version_decides(files_of, monkeypatch):
    monkeypatch.setitem(SETS, "EM-Radar-Mix", dataclasses.replace(SETS["EM-Radar-Mix"], version=3))
    assert files_of(recipes=1) == ("EM-Radar-Mix was drawn by version 1 of the recipe EM-Radar-Mix, here it is of version "
                                   "3; give its files with --data")
    with pytest.raises(Drawn):
        files_of(recipes=3)


def test_a_set_whose_recipe_is_not_here_is_told(files_of):
    assert "of the recipe EM-Other, here there is none of that name; give its files with --data" in files_of(
        recipe="EM-Other")


@pytest.mark.parametrize("changes, whole", [
    ({}, True), ({"items": SETS["EM-Radar-Mix"].small}, False), ({"recipe": "EM-Other"}, False), ({"given": True}, False)])
def test_levels_of_a_set_are_told_only_of_what_is_known_to_have_them(changes, whole):
    assert trained_how(head_with(**changes))["whole_test"] is whole


def test_the_card_of_a_file_whose_recipe_is_not_here_is_written(monkeypatch, tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(resolve(f"emind-{NAME}").read_bytes())
    monkeypatch.setattr(task_card, "read_header", lambda path: header_with(recipe="EM-Other"))
    task_card.write_card(file)
    assert "## separation" in file.with_suffix(".md").read_text(encoding="utf-8")
