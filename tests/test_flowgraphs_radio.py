"""The example flowgraphs with a radio, run on the emulated N210, and those of files and scenes, until they answered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, tone_bursts
from emind.storage.parquet import Reader
from live_run import driver
from test_soapy import MODULES
from usrp_emulator import Emulator

pytest.importorskip("gnuradio")
pytest.importorskip("PyQt5")
BLOCKS = Path(sys.prefix) / "share" / "gnuradio" / "grc" / "blocks"

# Runs a compiled flowgraph with a window until it has answered so many windows, and again after a change of frequency.
DRIVER = """
import importlib, json, os, sys, threading, time
from PyQt5 import QtCore, QtWidgets
folder, name, given, wanted, then = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
sys.path.insert(0, folder)
application = QtWidgets.QApplication([name])
window = getattr(importlib.import_module(name), name)(**given)
window.start()
window.show()
counts, end = window.receiver.statistics, time.monotonic() + 100
def until(number):
    while counts()["windows_inferred"] < number and time.monotonic() < end:
        application.processEvents(QtCore.QEventLoop.AllEvents, 50)
until(wanted)
if then:
    window.set_frequency(then)
    until(counts()["windows_inferred"] + wanted)
told = {}
if hasattr(window, "display"):
    shown = window.display.qwidget()
    for _ in range(20):
        application.processEvents()
    shown.refresh()
    told |= {"lines": window.display.ffts(), "text": shown.statistics.text()}
if hasattr(window, "recorder"):
    window.recorder.set_recording(False)
ended = threading.Thread(target=lambda: (window.stop(), window.wait()), daemon=True)
ended.start()
ended.join(30)
told |= counts()
if hasattr(window, "recorder"):
    told["recorder"] = window.recorder.statistics() | {"files": window.recorder.files()}
print("TOLD " + json.dumps(told, default=str), flush=True)
os._exit(0)
"""


def compiled(name: str, folder: Path) -> dict:
    """The flowgraph as a program in ``folder``; the environment to run it in."""
    environment = {**os.environ, "GRC_BLOCKS_PATH": str(BLOCKS), "QT_QPA_PLATFORM": "offscreen",
                   "XDG_CONFIG_HOME": str(folder), "OMP_NUM_THREADS": "1", "UHD_LOG_CONSOLE_LEVEL": "error"}
    done = subprocess.run([sys.executable, shutil.which("grcc"), "-o", str(folder),
                           str(ROOT / "examples" / f"{name}.grc")], capture_output=True, text=True, env=environment,
                          timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return environment


def answered(name: str, folder: Path, wanted: int, then: float = 0.0, **given) -> tuple[dict, str]:
    """What a flowgraph with a window told of itself when it had answered, and what it printed."""
    environment = compiled(name, folder)
    done = subprocess.run([sys.executable, "-c", DRIVER, str(folder), name, json.dumps(given), str(wanted), str(then)],
                          capture_output=True, text=True, env=environment, timeout=240, cwd=folder)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if "TOLD {" in line)
    told = json.loads(line.partition("TOLD ")[2])
    assert told["windows_inferred"] >= wanted * (2 if then else 1), (told, done.stdout, done.stderr)
    return told, done.stdout


def test_the_flowgraph_of_a_file_ends_with_it_and_says_what_was_answered(tmp_path, released_weights):
    path = tmp_path / "some.cf32"
    tone_bursts(200 * 1024).tofile(path)
    environment = compiled("classify_file", tmp_path)
    done = subprocess.run([sys.executable, str(tmp_path / "classify_file.py"), "--recording", str(path), "--samp-rate",
                           "1e6"], capture_output=True, text=True, env=environment, timeout=200,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("from sample")]
    assert len(lines) >= 2 and all("windows" in line for line in lines)


def test_the_scene_is_classified(tmp_path, released_weights):
    told, printed = answered("classify_scene", tmp_path, 200)
    assert "from sample" in printed and told["windows_seen"] >= 200


@driver
def test_the_usrp_s_flowgraph_answers_and_follows_its_slider(tmp_path, released_weights):
    with Emulator() as device:
        answered("receiver_usrp", tmp_path, 30, 434.2e6, address=device.arguments)
        status = device.status()["chains"][0]
    assert status["frequency"] == pytest.approx(434.2e6, abs=1) and status["rate"] == 1e6


@driver
def test_the_live_flowgraph_shows_and_records_what_a_usrp_receives(tmp_path, released_weights):
    with Emulator() as device:
        told, _ = answered("live_usrp", tmp_path, 100, 434.2e6, address=device.arguments, antenna="RX2", samp_rate=5e5,
                           path=str(tmp_path / "take"), start_recording=1)
        status = device.status()["chains"][0]
    assert status["frequency"] == pytest.approx(434.2e6, abs=1) and status["rate"] == 5e5
    assert told["lines"] > 0 and "coverage" in told["text"] and told["gaps"] >= 1  # where it was tuned
    recorder = told["recorder"]
    assert recorder["error"] == "" and not recorder["recording"] and recorder["samples_seen"] > 0
    assert recorder["samples_seen"] == recorder["samples_written"] + recorder["samples_dropped"] + \
        recorder["samples_skipped"]
    rows = [row for file in recorder["files"] if file.endswith(".parquet") for row in Reader(file)]
    assert len(rows) * 1024 == recorder["samples_written"] and {row.sampling_rate for row in rows} <= {5e5}


@driver
@pytest.mark.skipif(not MODULES, reason="no SoapySDR module for UHD (Debian: soapysdr-module-uhd)")
def test_the_soapysdr_flowgraph_answers(tmp_path, released_weights):
    with Emulator() as device:
        answered("receiver_soapy", tmp_path, 30, 434.2e6, driver="uhd", arguments=device.arguments, antenna="RX2",
                 samp_rate=5e5)
        status = device.status()["chains"][0]
    assert status["frequency"] == pytest.approx(434.2e6, abs=1) and status["rate"] == 5e5
