"""The front end: help, faults of the user, exit statuses."""

import json
import subprocess
import sys

import pytest
from emind import cli
from emind.contract.errors import EMindError, UsageError


def test_help_lists_every_command_with_an_example(emind):
    outcome = emind("--help")
    assert outcome.status == 0
    for name, _, _ in cli.COMMANDS:
        assert name in outcome.out
        told = emind(name, "--help")
        assert told.status == 0 and "example: emind " + name in told.out


def test_help_needs_neither_torch_nor_matplotlib():
    code = "import sys; from emind.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n" \
           "print(sorted({'torch', 'matplotlib', 'scipy', 'sigmf'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [
    [], ["clasify"], ["classify"], ["classify", "a", "--rate", "fast"], ["classify", "a", "--policy", "hope"],
    ["weights"], ["bench", "nothing"], ["--nothing"],
])
def test_wrong_arguments_exit_with_2(emind, arguments):
    outcome = emind(*arguments)
    assert outcome.status == 2 and "usage:" in outcome.err and "Traceback" not in outcome.err


@pytest.mark.parametrize("raised, status, line", [
    (EMindError("it broke"), 1, "emind: error: it broke"),
    (UsageError("not so"), 2, "emind: error: not so"),
    (KeyboardInterrupt(), 130, "emind: interrupted"),
    (ModuleNotFoundError("No module named 'torch'", name="torch"), 1,
     "emind: error: the Python module torch is missing here; `emind doctor` says what to do"),
])
def test_a_fault_is_one_line_and_a_status(emind, monkeypatch, raised, status, line):
    from emind.commands import weights

    def run(options):
        raise raised

    monkeypatch.setattr(weights, "run", run)
    outcome = emind("weights", "list")
    assert (outcome.status, outcome.err, outcome.out) == (status, line + "\n", "")


def test_a_fault_of_ours_is_not_hidden(emind, monkeypatch):
    from emind.commands import weights

    monkeypatch.setattr(weights, "run", lambda options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        emind("weights", "list")


def test_weights_show_tells_what_the_header_holds(emind, small_weights):
    shown = emind("weights", "show", small_weights)
    assert shown.status == 0 and "modulation" in shown.out and "pi/4-DQPSK" in shown.out
    header = json.loads(emind("weights", "show", small_weights, "--json").out)
    assert header["window"]["length"] == 1024 and header["name"] == "untrained"


def test_weights_list_knows_the_released_ones(emind, released_weights):
    assert released_weights in emind("weights", "list").out
    assert released_weights in [w["name"] for w in json.loads(emind("weights", "list", "--json").out)]


def test_weights_that_are_not_there_are_named(emind):
    outcome = emind("weights", "show", "no-such-weights")
    assert outcome.status == 1 and "no-such-weights" in outcome.err and len(outcome.err.splitlines()) == 1


def test_bench_refuses_no_time(emind):
    outcome = emind("bench", "realtime", "--seconds", "0")
    assert outcome.status == 2 and "--seconds" in outcome.err


@pytest.mark.slow
def test_bench_realtime_gives_its_fields(emind, small_weights):
    outcome = emind("bench", "realtime", "--json", "--weights", small_weights, "--seconds", "2")
    assert outcome.status == 0, outcome.err
    figures = json.loads(outcome.out)
    assert figures["results_lost"] == 0
    for field in ("windows_per_s", "msps", "naive_windows_per_s", "ratio_to_naive", "engine_windows_per_s",
                  "share_of_engine", "latency_ms_p50", "latency_ms_p99", "windows_skipped"):
        assert isinstance(figures[field], (int, float)), field
