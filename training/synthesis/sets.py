"""The sets that can be generated, by name."""

from __future__ import annotations

from emind.contract.errors import UsageError

from . import air_set, ais, awgn7, comm_sets, interference_sets, radar_sets, rml2016, technologies
from .recipe import Recipe

SETS: dict[str, Recipe] = {
    recipe.name: recipe
    for module in (comm_sets, radar_sets, interference_sets, ais, technologies, air_set, awgn7, rml2016)
    for recipe in module.RECIPES
}
ALL = "all"


def chosen(names: list[str]) -> list[Recipe]:
    """Recipes by name, "all" for every one. UsageError names what is not known."""
    if ALL in names:
        return list(SETS.values())
    unknown = [name for name in names if name not in SETS]
    if unknown:
        raise UsageError(f"unknown set {unknown[0]!r}; known: {', '.join(SETS)}, {ALL}")
    return [SETS[name] for name in dict.fromkeys(names)]
