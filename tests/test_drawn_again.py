"""Heads whose set was drawn by a recipe: whether this version can draw it again, and what is told if not."""

from __future__ import annotations

import copy
import dataclasses

import pytest
from emind.models.checkpoint import read_header
from emind.runtime.weights import resolve
from emind_training import evaluation
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


def head_with(**changes):
    header = copy.deepcopy(read_header(resolve(f"emind-{NAME}")))
    header["training"]["data"][NAME]["drawn"] |= changes
    return evaluation.heads_of(header)[NAME]


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
