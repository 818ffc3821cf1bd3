"""The flowgraphs that denoise and separate, compiled and run to their end, and the program in the page on streams."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from test_module import RUN_SECONDS, environment, program, run

pytest.importorskip("PyQt5.QtWidgets", reason="the flowgraphs have windows: PyQt5 is not installed")

# Runs a compiled flowgraph to its end, its window served meanwhile and closed as by a person. In what order Python then
# lets go of the application and of its windows is chance, and the wrong one a crash: so it ends before that.
DRIVER = """
import os, sys, threading
from PyQt5 import Qt, QtCore
application = Qt.QApplication(sys.argv)
name, weights, seconds = sys.argv[1:]
module = __import__(name)
flowgraph = getattr(module, name)(weights=weights, seconds=float(seconds))
{prepare}
flowgraph.start()
flowgraph.show()
running = threading.Thread(target=flowgraph.wait)
running.start()
while running.is_alive():
    application.processEvents(QtCore.QEventLoop.AllEvents, 50)
flowgraph.close()
counts = flowgraph.receiver.statistics()
print("windows", counts["windows_seen"], counts["windows_inferred"], flush=True)
os._exit(0)
"""

# Holds the last window of the received stream back until the spectrum has ended: the denoised stream is all there by
# then, and the spectrum takes 8192 samples or none. It goes on once the meter has looked twice at what it has, or has
# ended.
LATE_WINDOW = """
from pathlib import Path
late, meter, looks, goes_on = flowgraph.receiver.overlap_adds[0], flowgraph.snr, [0], threading.Event()
add, forecast, last = late.general_work, meter.forecast, (int(flowgraph.seconds * 1e6) - 1024) // 512

def runs(block):
    for task in Path("/proc/self/task").iterdir():
        try:
            if (task / "comm").read_text().startswith(block):
                return True
        except OSError:  # a thread that ended meanwhile
            pass
    return False

def look(room, inputs):
    looks[0] += room == 1  # it asks for less and less, down to one sample
    return forecast(room, inputs)

def hold(inputs, outputs):
    before = last - late.nitems_read(0)
    if before == 0:
        while runs("freq_sink"):
            goes_on.wait(0.01)
        looks[0] = 0
        while looks[0] < 2 and runs("SNR before"):
            goes_on.wait(0.01)
        print("held", flush=True)
    return add([inputs[0][: before or 1]], outputs)

late.general_work, meter.forecast = hold, look
"""


@pytest.fixture(scope="module")
def unchanging_weights(tmp_path_factory) -> Path:
    """Weights of a very small encoder whose heads change nothing: denoised is the input, separated half of it each."""
    import torch
    from emind.contract.window import HeadSpec, WindowSpec
    from emind.models.checkpoint import save_weights
    from emind.models.emind import EncoderConfig
    from emind.models.heads import MultiHead

    heads = {
        name: HeadSpec(name, "reconstruction", sources=sources, skip=True)
        for name, sources in (("denoise", 1), ("separation", 2))
    }
    model = MultiHead(EncoderConfig(width=32, depth=1, heads=1, patch=16, channels="iq"), heads)
    with torch.no_grad():
        for head in heads:
            model.heads[head].values.weight.zero_()
    path = tmp_path_factory.mktemp("weights") / "unchanging.safetensors"
    save_weights(path, model, WindowSpec(patch=16), {}, {"seed": 1}, {})
    return path


@pytest.fixture
def run_flowgraph(tmp_path, unchanging_weights):
    """Compiles an example and runs it for so many seconds of scene; the lines that it prints."""

    def run_it(name: str, seconds: float, prepare: str = "") -> list[str]:
        compiled = run([*program("grcc"), "--output", str(tmp_path), str(ROOT / "examples" / f"{name}.grc")])
        assert compiled.returncode == 0, compiled.stdout + compiled.stderr
        own = {"QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", DRIVER.replace("{prepare}", prepare), name,
                               str(unchanging_weights), str(seconds)],
                              capture_output=True, text=True, cwd=tmp_path, env={**environment(), **own},
                              timeout=RUN_SECONDS)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run_it


def counts(lines: list[str]) -> tuple[int, int]:
    """Windows seen and inferred."""
    seen, inferred = next(line for line in lines if line.startswith("windows ")).split()[1:]
    return int(seen), int(inferred)


def test_denoise_runs_to_the_end_of_its_scene_and_weights_that_change_nothing_gain_nothing(run_flowgraph):
    lines = run_flowgraph("denoise", 0.4)
    samples, before, after = re.search(
        r"all +(\d+) samples: SNR (\S+) dB as received, (\S+) dB denoised", "\n".join(lines)
    ).groups()
    seen, inferred = counts(lines)
    assert seen == inferred == (400_000 - 1024) // 512 + 1
    assert int(samples) == 512 * seen
    assert float(before) == pytest.approx(4.4, abs=0.3)  # the signal's power is 4, the noise's 1.44
    assert float(after) == pytest.approx(float(before), abs=0.11)


def test_the_meter_of_denoise_reads_to_the_last_sample_where_the_spectrum_ends_before_it(run_flowgraph):
    lines = run_flowgraph("denoise", 0.1, LATE_WINDOW)
    assert "held" in lines
    samples = re.search(r"all +(\d+) samples", "\n".join(lines))[1]
    assert int(samples) == 512 * counts(lines)[0]


def test_separate_runs_to_the_end_of_its_scene_and_weights_that_change_nothing_separate_nothing(run_flowgraph):
    lines = run_flowgraph("separate", 0.4)
    told = re.findall(r"all +(\d+) samples: signal ([AB]) (\S+) dB in the mixture, (\S+) dB on stream ([12])",
                      "\n".join(lines))
    seen, inferred = counts(lines)
    assert seen == inferred == (100_000 - 1024) // 512 + 1
    # Weights that change nothing put half of the mixture on both streams: which of them is A's is a tie.
    assert [(int(samples), name) for samples, name, *_ in told] == [(512 * seen, "A"), (512 * seen, "B")]
    assert {stream for *_, stream in told} == {"1", "2"}
    for _, _, before, after, _ in told:
        assert float(before) == pytest.approx(float(after), abs=0.11)


def test_the_program_in_the_page_on_streams_runs(tmp_path, unchanging_weights):
    page = (ROOT / "docs" / "streams.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert text.count('"emind-nano"') == 1
    text = text.replace('"emind-nano"', repr(str(unchanging_weights)))
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=tmp_path,
                          timeout=RUN_SECONDS, env={**environment(), "XDG_CACHE_HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    as_received, denoised, change = done.stdout.split()
    assert as_received == denoised == "65024" and float(change) < 1e-5


def test_weights_without_the_head_are_refused_in_one_line_that_names_the_heads(small_weights, unchanging_weights):
    pytest.importorskip("gnuradio.gr")
    from emind import receiver
    from emind.contract.errors import EMindError

    cases = (small_weights, "denoise", "modulation"), (unchanging_weights, "technology", "denoise")
    for weights, stream, has in cases:
        with pytest.raises(EMindError) as caught:
            receiver(weights=str(weights), streams=(stream,))
        assert repr(stream) in str(caught.value) and has in str(caught.value) and "\n" not in str(caught.value)
