"""The table of tasks, their configurations, and N-way K-shot episodes."""

from pathlib import Path

import numpy as np
import pytest
from emind.contract.errors import UsageError
from emind_training import cli, task_config
from emind_training.episodes import episodes
from emind_training.synthesis.sets import SETS
from emind_training.task_config import is_task_config, read_task_config, task_config_from_dict
from emind_training.task_names import TASK_NAMES
from emind_training.tasks import AIR, TASKS, tasks_named

CONFIGS = Path(task_config.__file__).parent / "configs"


def test_the_names_on_the_command_line_are_those_of_the_table():
    assert TASK_NAMES == tuple(TASKS)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_known_classes_are_those_that_the_recipe_draws(task):
    for name in task.sets:
        if name == AIR or name.startswith("RML"):  # drawn while training; needs GNU Radio
            continue
        rows = [row for item in range(240) for row in SETS[name].rows(0, item)]
        if task.roles:
            roles = {row.transmission_id.split(":")[1] for row in rows}
            assert roles == set(task.roles)
            continue
        found = {getattr(row, task.label) for row in rows}
        known = task.known_classes(name)
        assert found == set(known) if known else found
        for parameter in task.parameters:
            values = [getattr(row, parameter.name) for row in rows]
            assert parameter.low <= min(values) and max(values) <= parameter.high


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_head_says_what_its_task_needs(task):
    spec = task.head(("a", "b", "c"))
    assert spec.name == task.name and spec.kind == task.kind
    assert len(spec.parameters) == len(task.parameters) and spec.sources == max(0, len(task.roles) - 1)


def test_a_task_that_is_not_known_or_stands_twice_is_named():
    with pytest.raises(UsageError, match="unknown task 'radio'; known: modulation, radar"):
        tasks_named(["radio"])
    with pytest.raises(UsageError, match="twice among radar, radar"):
        tasks_named(["radar", "radar"])
    with pytest.raises(UsageError, match="unknown detector 'x'"):
        TASKS["anomaly"].head((), detector="x")


# ------------------------------------------------------------------------------------------------- configurations


@pytest.mark.parametrize("name", TASK_NAMES)
def test_every_task_has_a_configuration_that_names_its_command(name):
    path = CONFIGS / f"task-{name}.toml"
    config = read_task_config(path)
    assert is_task_config(path) and list(config.tasks) == [name] and config.run.name == f"task-{name}"
    assert config.of(name).set in ("", *TASKS[name].sets)
    # Which encoder: the one of the file that the command names, or one of its own, and never both.
    assert (config.model is None) == ("--init" in path.read_text())
    assert f"--task {name} --config training/configs/task-{name}.toml" in path.read_text()


def test_the_configurations_of_the_air_set_are_not_taken_for_those_of_tasks():
    assert not is_task_config(CONFIGS / "nano-air.toml") and not is_task_config(CONFIGS / "debug.toml")


def test_the_debug_configuration_runs_from_the_command_to_the_file(tmp_path, capsys):
    out = tmp_path / "d.safetensors"
    assert cli.main(["finetune", "--task", "technology", "sensing", "--config", str(CONFIGS / "task-debug.toml"),
                     "--runs", str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert f"wrote {out}: heads technology, sensing" in capsys.readouterr().out


@pytest.mark.parametrize("tables, fault", [
    ({"task": {"radio": {}}}, "unknown task 'radio'"),
    ({"task": {"radar": {"sets": "x"}}}, r"\[task.radar\]: unknown key 'sets'"),
    ({"task": {"radar": 3}}, r"\[task.radar\] must be a table"),
    ({"task": 3}, r"\[task\] must be a table"),
    ({"model": 3}, r"\[model\] must be a table"),
    ({"optim": {"steps": 0}}, "optim.steps = 0 must be above 0"),
    ({"optim": {"average": 1.0}}, "optim.average = 1.0 must be below 1"),
    ({"optim": {"patience": -1}}, "optim.patience = -1 must not be negative"),
    ({"task": {"radar": {"share": 0.0}}}, "task.radar.share = 0.0 must be above 0"),
    ({"data": {"size": "huge"}}, "data.size = 'huge' is not known"),
    ({"run": {"false_alarms": 1.0}}, "run.false_alarms = 1.0 must lie between 0 and 1"),
    ({"augment": {"phase": "yes"}}, "phase must be bool, not str"),
    ({"augment": {"noise_share": 1.5}}, "noise_share = 1.5 must lie between 0 and 1"),
    ({"augment": {"noise_low_db": 30.0}}, "noise_low_db = 30.0 must be at most noise_high_db = 20.0"),
])  # fmt: skip
def test_a_faulty_configuration_is_named(tables, fault):
    with pytest.raises(UsageError, match=fault):
        task_config_from_dict(tables, "c.toml")


def test_a_configuration_comes_back_from_its_record():
    config = read_task_config(CONFIGS / "task-radar.toml")
    assert task_config_from_dict({k: v for k, v in config.to_dict().items() if v is not None}, "record") == config


# ------------------------------------------------------------------------------------------------- episodes


def clouds(spread, classes=8, each=30):
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((classes, 16))
    label = np.repeat(np.arange(classes), each)
    return centres[label] + spread * rng.standard_normal((len(label), 16)), label


def test_episodes_of_clear_features_are_right_and_of_noise_at_chance():
    clear = episodes(*clouds(0.05), ways=5, shots=3, queries=5, count=40, seed=1)
    assert clear["accuracy"] > 0.99 and clear["episodes"] == 40
    noise, label = clouds(0.0)[0] * 0 + np.random.default_rng(1).standard_normal((240, 16)), clouds(0)[1]
    chance = episodes(noise, label, ways=5, shots=3, queries=5, count=200, seed=1)
    assert abs(chance["accuracy"] - 0.2) < 3 * chance["interval_95"]


def test_more_shots_help_and_a_seed_gives_the_same_again():
    one, five = (episodes(*clouds(1.0), ways=5, shots=k, queries=5, count=200, seed=1) for k in (1, 5))
    assert five["accuracy"] > one["accuracy"] + 0.05
    assert one == episodes(*clouds(1.0), ways=5, shots=1, queries=5, count=200, seed=1)


def test_too_few_windows_for_an_episode_are_named():
    with pytest.raises(UsageError, match="9-way 1-shot: 8 classes have the 2 windows"):
        episodes(*clouds(1.0), ways=9, shots=1, queries=1, count=1, seed=0)
    with pytest.raises(UsageError, match="2-way 30-shot: 0 classes have the 31 windows"):
        episodes(*clouds(1.0), ways=2, shots=30, queries=1, count=1, seed=0)
