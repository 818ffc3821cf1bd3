"""Record, check, train a head, load it into the running flowgraph, and the new name is on the stream."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from live_run import driver
from usrp_emulator.client import Emulator

pytest.importorskip("gnuradio")
pytest.importorskip("torch")
SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "closed_loop.py"


def loop(*arguments) -> dict:
    done = subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True,
                          timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    for command in ("emind record", "dataset check", "dataset split", "finetune"):
        assert command in done.stdout
    return json.loads(done.stdout.splitlines()[-1])


def test_from_files_a_new_class_is_recorded_checked_trained_loaded_and_tagged(released_weights, tmp_path):
    rng = np.random.default_rng(4)
    hiss = (rng.standard_normal((2, 1 << 18, 2)) @ [1, 1j]).astype(np.complex64)
    bits = np.repeat(rng.choice([-1, 1], 1 << 14), 16)
    (bits + 0.05 * hiss[0]).astype(np.complex64).tofile(tmp_path / "keyed.cf32")
    hiss[1].tofile(tmp_path / "hiss.cf32")
    told = loop("--new", "keyed", tmp_path / "keyed.cf32", "--other", "hiss", tmp_path / "hiss.cf32", "--rate", 1e6,
                "--seconds", 0.2, "--weights", released_weights, "--steps", 40, "--backend", "torch-float32",
                "--folder", tmp_path / "loop")
    assert told["weights"] == "closed-loop"
    assert told["technology"]["keyed"] > told["technology"].get("hiss", 0)


@pytest.mark.slow
@driver
def test_from_the_emulated_usrp_the_same(released_weights, tmp_path):
    with Emulator() as device:
        told = loop("--usrp", device.arguments, "--new", "keyed", 434.2e6, "--other", "empty", 915e6, "--rate", 5e5,
                    "--seconds", 0.5, "--weights", released_weights, "--steps", 60, "--backend", "torch-float32",
                    "--folder", tmp_path / "loop")
    assert told["weights"] == "closed-loop" and told["technology"]["keyed"] > 0
