"""What a user may get wrong about a training run: told in one line, and before the training, not after hours of it."""

import json

import numpy as np
import pytest
from emind.contract.errors import EMindError, UsageError
from emind.models.checkpoint import read_header, save_weights
from emind.contract.schema import Signal
from emind.storage.parquet import Writer
from emind_training import cli, compare_command, finetune_command, task_run
from emind_training.task_config import losses_of
from emind_training.task_names import TASK_NAMES
from task_runs import config, micro, runs, trained  # noqa: F401

pytestmark = pytest.mark.usefixtures("micro")
LENGTH = 256


def never(*rest, **more):
    raise AssertionError("training began")


def told(capsys, *arguments) -> tuple[int, str]:
    """Status and the one line that a command prints about its fault."""
    status = cli.main([str(a) for a in arguments])
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("emind-train: error: ")
    return status, err


def signals(folder, classes, column="infer_class", each=40, name="Mine"):
    """A set of the user's own in three parts: noise, and in all classes but the first a tone besides."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for part in ("train", "validation", "test"):
        rows = []
        for k, text in enumerate(classes):
            tone = (k > 0) * 3 * np.exp(2j * np.pi * 0.07 * k * np.arange(LENGTH))
            for _ in range(each):
                iq = rng.standard_normal((LENGTH, 2)) @ [1, 1j] + tone
                rows.append(Signal(iq.astype(np.complex64), name, 1e6, snr=10.0, **{column: text}))
        with Writer(folder / f"{name}-{part}.parquet", origin="test") as writer:
            writer.write_many(rows)
    return folder


# ------------------------------------------------------------------------------------------------- what is written


@pytest.fixture
def toml(tmp_path):
    """A task's configuration and one of the air set."""
    path = tmp_path / "c.toml"
    path.write_text('[model]\nsize = "micro"\n[task.technology]\n[data]\nitems = 36\n[optim]\nsteps = 2\nbatch = 4\n'
                    '[run]\nname = "c"\n')
    (tmp_path / "air.toml").write_text("[optim]\nsteps = 1\n")
    return path


@pytest.mark.parametrize("name", ["c.toml", "air.toml"])
def test_a_weights_file_that_cannot_be_written_is_told_before_training(toml, tmp_path, capsys, monkeypatch, name):
    monkeypatch.setattr(task_run, "run", never)
    monkeypatch.setattr("emind_training.finetune.train", never)
    task = ["--task", "technology"] if name == "c.toml" else []
    finetune = ["finetune", *task, "--config", toml.with_name(name), "--runs", tmp_path / "runs", "--out"]
    status, line = told(capsys, *finetune, toml / "x.safetensors")
    assert status == 1 and "nothing can be written into" in line and str(toml) in line
    status, line = told(capsys, *finetune, tmp_path / "x.pt")
    assert status == 2 and "must end in .safetensors" in line
    (tmp_path / "folder.safetensors").mkdir()
    status, line = told(capsys, *finetune, tmp_path / "folder.safetensors")
    assert status == 2 and "is a folder" in line


def test_pretraining_looks_at_its_weights_file_first(tmp_path, capsys, monkeypatch):
    from emind_training import pretrain

    monkeypatch.setattr(pretrain, "train", never)
    config = finetune_command.__file__.replace("finetune_command.py", "configs/pretrain-debug.toml")
    blocked = tmp_path / "file"
    blocked.write_text("")
    status, line = told(capsys, "pretrain", "--config", config, "--out", blocked / "x.safetensors")
    assert status == 1 and "nothing can be written into" in line


@pytest.mark.parametrize("page, words", [("", "lacks the marks"), (None, "No such file")])
def test_a_page_that_a_comparison_cannot_write_is_told_before_training(tmp_path, capsys, monkeypatch, page, words):
    monkeypatch.setattr(compare_command, "_compared", never)
    where = tmp_path / "page.md"
    if page is not None:
        where.write_text(page)
    config = finetune_command.__file__.replace("finetune_command.py", "configs/compare-debug.toml")
    status, line = told(capsys, "compare", "--config", config, "--runs", tmp_path, "--write", where)
    assert status == 1 and words in line


@pytest.mark.parametrize("arguments, words", [
    (("fewshot", "emind-nano-pretrained", "--out", "FILE/x"), "nothing can be written into"),
    (("enrolment", "emind-nano", "--out", "FILE/x"), "nothing can be written into"),
    (("enrolment", "emind-nano", "--write", "FILE"), "lacks the marks"),
])  # fmt: skip
def test_long_measurements_look_at_what_they_write_first(tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.setattr("emind.runtime.weights.resolve", never)
    file = tmp_path / "file"
    file.write_text("a page")
    status, line = told(capsys, *(str(one).replace("FILE", str(file)) for one in arguments))
    assert status == 1 and words in line and file.read_text() == "a page"


@pytest.mark.parametrize("fault, words", [
    (OSError(28, "No space left on device", "x.safetensors"), "x.safetensors: No space left on device"),
    (BrokenPipeError(32, "Broken pipe"), "Broken pipe"),
])  # fmt: skip
def test_a_fault_of_the_system_is_one_line(toml, capsys, monkeypatch, fault, words):
    def run(args):
        raise fault

    monkeypatch.setattr(finetune_command, "finetune_tasks", run)
    status, line = told(capsys, "finetune", "--config", toml)
    assert status == 1 and line == f"emind-train: error: {words}\n"


# ------------------------------------------------------------------------------------------------- labels and losses


@pytest.mark.parametrize("task, classes, column, normal", [
    ("sensing", ("bpsk", "qpsk"), "modulation", "noise"), ("anomaly", ("calm", "strange"), "infer_class", "normal")])
def test_a_set_without_the_class_that_others_are_told_from_is_refused(runs, tmp_path, monkeypatch, task, classes,  # noqa: F811
                                                                      column, normal):
    monkeypatch.setattr(task_run, "train", never)
    files = signals(tmp_path / "set", classes, column)
    own = config(task, task={task: {"label": column, "set": "Mine"}})
    with pytest.raises(EMindError) as fault:
        trained(runs, "never", own, data=(files,))
    assert f"no train example is {normal!r}" in str(fault.value) and ", ".join(classes) in str(fault.value)


def test_a_set_of_one_class_is_refused(runs, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(task_run, "train", never)
    files = signals(tmp_path / "set", ("only",))
    with pytest.raises(EMindError, match="all train examples are 'only' by infer_class"):
        trained(runs, "never", config("interference", task={"interference": {"set": "Mine"}}), data=(files,))


def test_a_fitted_anomaly_head_needs_two_normal_windows(runs, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(task_run, "train", never)
    files = signals(tmp_path / "set", ("normal", "strange"), each=1)
    with pytest.raises(EMindError, match="1 train example is 'normal'"):
        trained(runs, "never", config("anomaly", task={"anomaly": {"set": "Mine"}}), data=(files,))


def test_the_air_set_is_refused_by_tasks_that_cannot_be_drawn_from_it(runs):  # noqa: F811
    with pytest.raises(UsageError, match="task sensing: the air set is drawn for the task modulation"):
        trained(runs, "never", config("sensing", task={"sensing": {"set": "air"}}))


@pytest.mark.parametrize("task", TASK_NAMES)
def test_a_loss_that_a_head_has_not_is_refused_when_the_configuration_is_read(task):
    with pytest.raises(UsageError) as fault:
        config(task, task={task: {"loss": "l1"}})
    known = losses_of(task)
    assert f"task.{task}.loss = 'l1'" in str(fault.value)
    assert all(name in str(fault.value) for name in known)
    for name in known:
        assert config(task, task={task: {"loss": name}}).of(task).loss == name


def test_every_loss_that_a_task_may_name_is_computed(runs):  # noqa: F811
    assert {task: len(losses_of(task)) for task in ("denoise", "separation", "radar", "sensing")} == {
        "denoise": 3, "separation": 3, "radar": 3, "sensing": 0}
    for task in ("denoise", "radar"):
        for name in losses_of(task):
            made = trained(runs, f"loss-{task}-{name}", config(
                task, task={task: {"loss": name}}, optim={"steps": 1, "batch": 8, "bfloat16": False}))
            assert np.isfinite(made.training["history"][-1]["score"])


# ------------------------------------------------------------------------------------------------- a set of the user's


def test_a_fitted_anomaly_head_is_measured_anew_on_a_set_of_the_users(runs, tmp_path):  # noqa: F811
    files = signals(tmp_path / "set", ("normal", "strange", "stranger"))
    made = trained(runs, "mine", config("anomaly", task={"anomaly": {"set": "Mine"}}), data=(files,))
    assert made.training["init"] is None
    path = tmp_path / "mine.safetensors"
    training = made.training | {"command": "", "code": "test", "machine": {"processor": "test", "torch": "test"}}
    save_weights(path, made.own.model, made.window, made.calibration, training, made.figures)
    assert read_header(path)["training"]["heads"]["anomaly"]["classes"] == ["normal", "strange", "stranger"]
    assert cli.main(["evaluate", str(path), "--data", str(files), "--out", str(tmp_path), "--no-map"]) == 0
    found = json.loads((tmp_path / "mine.json").read_text())["heads"]["anomaly"]
    assert found["measured"] and found["differs"] == []
    assert set(found["figures"]["by_class"]) == {"strange", "stranger"}
    again = trained(runs, "again", config("anomaly", model=None, task={"anomaly": {"set": "Mine"}}), data=(files,),
                    init=path)
    assert again.training["init"]["name"] == "mine.safetensors"  # fitted, not trained, and yet from that file
