"""What a report keeps of a head beside its figures: how it was trained, and which figures are not those of the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lineage import steps
from .synthesis.sets import SETS
from .task_files import PARTS
from .tasks import ANOMALY

if TYPE_CHECKING:
    from .evaluation import Head


def differences(now: dict, stored: dict, path: str = "") -> list[str]:
    """Paths of figures that are not those of the file; figures that the file lacks do not count."""
    out = []
    for key, value in stored.items():
        if key in ("set", "track", "episodes", "baselines"):
            continue
        where = f"{path}{key}"
        if key not in now:
            out.append(where)
        elif isinstance(value, dict) and isinstance(now[key], dict):
            out += differences(now[key], value, where + ".")
        elif now[key] != value:
            out.append(where)
    return out


def trained_how(head: Head) -> dict:
    """How a head was trained, for people. ``made``: commands and how they went, as on the card. ``whole_test``: the
    file's figures are of a test part that has every SNR label of the set."""
    training, config = head.training, head.training["config"]
    data = training["data"]
    out = {"code": training["code"], "machine": training["machine"],
           "seconds": training["seconds"], "steps": training["steps"], "seed": config["run"]["seed"],
           "track": training.get("track", "full"), "per_class": training.get("per_class"),
           "made": [list(step) for step in steps(training)], "whole_test": False}
    if "tasks" in training:
        own, table = data[head.name], head.config.of(head.name)
        out |= {"rates_hz": training["heads"][head.name]["rates_hz"], "any_rate": table.any_rate}
        if head.task.kind == ANOMALY:
            out["detector"] = table.detector
        out |= {"examples": training["examples"].get(head.name, 0), "drawn": own.get("drawn"),
                "split": (own.get("drawn") or {}).get("split") if isinstance(own.get("drawn"), dict) else None,
                "parts": {part: own[part]["examples"] for part in PARTS if part in own},
                "whole_test": _whole(own.get("drawn"), head)}
    else:
        out |= {"examples": training["windows"], "drawn": data, "split": None, "parts": {}}
    return out


def _whole(drawn: dict | str | None, head: Head) -> bool:
    """Neither cut to so many examples, nor of a set of which few items were drawn, so that levels are missing.

    Nothing says how much of a set files that were given hold, nor a recipe that is not here what its set has.
    """
    most = head.config.data.test_examples
    if most and head.figures.get("windows", 0) >= most:
        return False
    recipe = SETS.get(drawn["recipe"]) if isinstance(drawn, dict) else None
    return recipe is not None and drawn["items"] >= recipe.medium
