"""The example flowgraphs with a window, run to their end without a screen; `emind record` as commanded."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from emind.contract.errors import UsageError
from emind.storage.parquet import Reader

pytest.importorskip("gnuradio")
pytest.importorskip("PyQt5")

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = Path(sys.prefix) / "share" / "gnuradio" / "grc" / "blocks"

# Runs a compiled flowgraph to its end, closes its window as a person would, and says what was in it.
DRIVER = """
import importlib, json, os, sys, threading
from PyQt5 import QtCore, QtWidgets
folder, name, given = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
sys.path.insert(0, folder)
application = QtWidgets.QApplication([name])
window = getattr(importlib.import_module(name), name)(**given)
window.start()
window.show()
over = []
threading.Thread(target=lambda: (window.wait(), over.append(True)), daemon=True).start()
while not over:
    application.processEvents(QtCore.QEventLoop.AllEvents, 50)
shown = window.display.qwidget()
for _ in range(20):
    application.processEvents()
shown.refresh()
told = {"answers": len(shown._scene.runs), "boxes": [text for _, text in shown.waterfall.drawn], "statistics": shown.statistics.text(), "lines": window.display.ffts(),
        "seen": window.receiver.statistics()["windows_seen"]}
window.close()
if hasattr(window, "recorder"):
    told["recorder"] = window.recorder.statistics()
    told["files"] = window.recorder.files()
print(json.dumps(told), flush=True)
os._exit(0)
"""


def run_flowgraph(name: str, folder: Path, **given) -> dict:
    environment = {**os.environ, "GRC_BLOCKS_PATH": str(BLOCKS), "QT_QPA_PLATFORM": "offscreen",
                   "XDG_CONFIG_HOME": str(folder)}
    flowgraph = ROOT / "examples" / f"{name}.grc"
    done = subprocess.run([sys.executable, shutil.which("grcc"), "-o", str(folder), str(flowgraph)],
                          capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run([sys.executable, "-c", DRIVER, str(folder), name, json.dumps(given)], capture_output=True,
                          text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_live_monitor_shows_answers_and_statistics(tmp_path, released_weights):
    told = run_flowgraph("live_monitor", tmp_path, seconds=2.5)
    assert told["lines"] > 50 and told["seen"] == 2.5 * 256e3 // 1024
    assert "coverage" in told["statistics"] and "latency" in told["statistics"]
    assert told["answers"] >= 1
    assert told["boxes"] and all(re.fullmatch(r"\S+ [01]\.\d\d", text) for text in told["boxes"])
    assert "not shown, since trained on windows of other rates: anomaly, fingerprint, radar" in told["statistics"]


def test_the_recording_flowgraph_leaves_files_that_the_check_finds_faultless(tmp_path, released_weights):
    told = run_flowgraph("record", tmp_path, seconds=2.5, path=str(tmp_path / "take"), start_recording=1, from_tags=1)
    counts = told["recorder"]
    assert counts["samples_seen"] == counts["samples_written"] + counts["samples_dropped"] + counts["samples_skipped"]
    assert counts["samples_queued"] == 0 and counts["error"] == "" and counts["events"] >= 1
    files = [file for file in told["files"] if file.endswith(".parquet")]
    rows = [row for file in files for row in Reader(file)]
    assert {len(row.iq) for row in rows} == {1024} and len(rows) * 1024 == counts["samples_written"]
    assert {row.dataset_name for row in rows} == {"scene"} and all(row.transmission_id for row in rows)
    assert any(row.modulation not in (None, "noise") for row in rows)
    assert {(row.radar_waveform, row.device_id, row.pri) for row in rows} == {(None, None, None)}  # not at this rate
    assert not list(tmp_path.glob("*.part"))
    checked = subprocess.run([sys.executable, "-m", "emind_training.cli", "dataset", "check", *files],
                             capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def bursts(count: int) -> np.ndarray:
    generator = np.random.default_rng(2)
    x = 0.003 * (generator.standard_normal((count, 2)) @ [1, 1j])
    for start in range(30_000, count, 100_000):
        x[start : start + 40_000] += 0.1 * np.exp(0.5j * np.pi * generator.integers(0, 4, 5000)).repeat(8)
    return x.astype(np.complex64)


def test_record_by_energy_is_ready_for_the_check(emind, raw, tmp_path):
    outcome = emind("record", tmp_path / "take", "--from", raw(bursts(500_000)), "--rate", 1e6, "--files", "both",
                    "--label", "modulation=QPSK", "--trigger", "energy", "--json")
    assert outcome.status == 0, outcome.err
    counts = json.loads(outcome.out)
    assert counts["events"] == 5
    assert counts["samples_written"] + counts["samples_skipped"] == counts["samples_seen"] == 500_000
    (file,) = tmp_path.glob("take-*.parquet")
    from emind_training.quality import check

    report = check([file])
    assert report.rows > 200 and report.faults == []
    (meta,) = tmp_path.glob("take-*.sigmf-meta")
    notes = json.loads(meta.read_text())["annotations"]
    assert len(notes) == 5 and all("core:freq_lower_edge" in note and note["core:label"] == "QPSK" for note in notes)


def test_lines_on_standard_input_label_and_end_a_recording(tmp_path):
    endless = tmp_path / "endless.cf32"
    bursts(2_000_000).tofile(endless)
    code = "import sys\nfrom emind.cli import main\nsys.exit(main())"
    command = [sys.executable, "-c", code, "record", str(tmp_path / "take"), "--from", str(endless), "--format",
               "cf32_le", "--rate", "1e6", "--paused", "--json"]
    lines = '{"label": {"modulation": "LoRa"}}\n{"colour": 1}\n{"label": {"snr": "loud"}}\n{"stop": true}\n'
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["samples_written"] == 0 and counts["samples_skipped"] == counts["samples_seen"]


@pytest.mark.parametrize("given, labels", [
    (["1:modulation=LoRa", "1:snr=3", "2:device_id=7"],
     {"1": {"modulation": "LoRa", "snr": 3.0}, "2": {"device_id": "7"}}),
    (["r:modulation=LoRa"], None), (["modulation=LoRa"], None), (["1:colour=red"], None),
])
def test_keys_are_one_character_and_labels(given, labels):
    from emind.commands.record import parse_keys

    if labels is None:
        with pytest.raises(UsageError, match="--"):
            parse_keys(given)
    else:
        assert parse_keys(given) == labels
