"""What stands between a user and the samples: one line that says what to do, and nothing recorded is lost.

The table of docs/live.md. `emind record` opens the driver without loading any weights, so most cases are shown with
it; `emind live` and `emind scan` open devices by the same code (test_live.py and test_scan.py).
"""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, tone_bursts
from emind.commands.live_source import opening_failed
from emind.commands.usrp_lock import address_of, taken
from emind.contract.errors import EMindError
from emind.storage.parquet import Reader
from emind.storage.recording_files import check_target
from live_run import START_S, Live, driver, run_once
from usrp_emulator import Emulator
from usrp_emulator.receiver import Receiver

CODE = "import sys; from emind.cli import main; sys.exit(main())"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "UHD_LOG_CONSOLE_LEVEL": "error"}


def assert_one_line(done: subprocess.CompletedProcess, *words: str) -> None:
    said = [line for line in done.stderr.splitlines() if line.startswith("emind:") or "Traceback" in line]
    assert done.returncode == 1 and len(said) == 1 and said[0].startswith("emind: error: "), done.stderr
    for word in words:
        assert word in said[0]


def samples_in(folder: Path) -> int:
    assert not list(folder.glob("*.part"))
    return sum(len(row.iq) for file in sorted(folder.glob("*.parquet")) for row in Reader(file))


class Recording:
    """``with Recording(...) as run:`` starts `emind record` as a user's process."""

    def __init__(self, *arguments):
        self._arguments = [*map(str, arguments)]

    def __enter__(self) -> Recording:
        self.process = subprocess.Popen([sys.executable, "-c", CODE, "record", *self._arguments], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=ENVIRONMENT)
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if not pipe.closed:
                pipe.close()

    def finish(self) -> subprocess.CompletedProcess:
        out, err = self.process.communicate(timeout=60)
        return subprocess.CompletedProcess([], self.process.returncode, out, err)


@driver
def test_a_wrong_address_is_named(tmp_path):
    done = run_once("record", tmp_path / "take", "--usrp", "type=usrp2,addr=127.0.0.77", "--freq", 1e9, "--rate", 1e6)
    assert_one_line(done, "no USRP at type=usrp2,addr=127.0.0.77", "uhd_find_devices")
    assert not list(tmp_path.iterdir())


@driver
@pytest.mark.parametrize("kind", ["type=usrp2,", ""], ids=["named", "searched for"])
def test_a_busy_device_is_left_to_the_program_that_has_it(tmp_path, kind):
    """Without its type the driver searches for the device, which takes the other program's mark away for a while."""
    with Emulator() as device, Receiver(device.arguments) as radio:
        held = radio.until(1000)
        for command in ((("record", tmp_path / "take"), ("live",), ("scan", "434e6")) if not kind else
                        (("record", tmp_path / "take"),)):
            done = run_once(*command, "--args", f"{kind}addr={device.address}", "--rate", 1e6)
            assert_one_line(done, "in use by another program", "end that one")
        assert radio.until(held + 500_000) >= held + 500_000  # the other program's stream has gone on
        assert device.status()["chains"][0]["starts"] == 1
    assert not list(tmp_path.iterdir())


@driver
def test_the_mark_of_a_program_that_was_killed_keeps_nobody_out():
    with Emulator() as device:
        assert not taken(device.address)  # nobody has opened it
        with Receiver(device.arguments) as radio:
            radio.until(1000)
            assert taken(device.address, within=20.0)
        assert not taken(device.address)
        device.unplug()
        assert not taken(device.address, within=0.5)
    assert address_of([{"type": "usrp2", "addr": "10.0.0.2"}]) == "10.0.0.2"
    assert address_of([{"type": "x300", "addr": "10.0.0.2"}]) is None and address_of([]) is None


@driver
def test_a_setting_that_the_device_cannot_take_records_nothing(tmp_path):
    """Which settings, and the words for each: test_live.py, through the same code."""
    with Emulator() as device:
        done = run_once("record", tmp_path / "take", "--usrp", device.arguments, "--freq", 9e9, "--rate", 1e6)
    assert_one_line(done, "9000 MHz", "380 to 4420 MHz")
    assert not list(tmp_path.iterdir())


@driver
def test_a_rate_that_the_device_coerces_is_said_and_stands_in_the_files(tmp_path):
    with Emulator() as device:
        done = run_once("record", tmp_path / "take", "--usrp", device.arguments, "--freq", 1e9, "--rate", 699e3,
                        "--seconds", 0.1)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("emind:")]
    assert said == ["emind: rate 694444.4444 instead of 699000"]
    file, = tmp_path.glob("*.parquet")
    assert all(row.sampling_rate == pytest.approx(100e6 / 144) for row in Reader(file))
    assert samples_in(tmp_path) == round(0.1 * 100e6 / 144)


@driver
@pytest.mark.parametrize("refuse", [False, True], ids=["answers nothing", "sends fail"])
def test_a_device_that_goes_ends_the_recording_with_all_that_came(tmp_path, refuse):
    with Emulator() as device, Recording(tmp_path / "take", "--usrp", device.arguments, "--freq", 1e9, "--rate", 5e5,
                                         "--json") as run:
        device.wait_for(within=START_S, samples_sent=200_000)
        sent = device.status()["chains"][0]["samples_sent"]
        device.unplug(refuse=refuse)
        done = run.finish()
    assert_one_line(done, "does not answer", "cable", "recorded")
    counts = json.loads(done.stdout)
    assert counts["samples_written"] == samples_in(tmp_path) == counts["samples_seen"] - counts["samples_dropped"]
    assert counts["samples_seen"] >= sent - 200_000 // 10 and counts["samples_dropped"] == 0


@driver
def test_a_stream_that_halts_is_started_again_and_recorded_on(tmp_path):
    with Emulator() as device, Recording(tmp_path / "take", "--usrp", device.arguments, "--freq", 1e9, "--rate", 5e5,
                                         "--json") as run:
        device.overflow(at=100_000, halt=True)
        device.wait_for(within=START_S, overflows=1)
        device.wait_for(within=START_S, starts=2)
        device.wait_for(samples_sent=device.status()["chains"][0]["samples_sent"] + 100_000)
        run.process.send_signal(signal.SIGINT)
        done = run.finish()
    assert done.returncode == 0, done.stderr
    assert "the stream was started again" in done.stderr
    counts = json.loads(done.stdout)
    assert counts["gaps"] == 1 and counts["samples_written"] == samples_in(tmp_path) > 100_000


@pytest.fixture
def closed_folder(tmp_path):
    """A folder that nobody may write to: by its mode, or for root by a read-only file system."""
    folder = tmp_path / "closed"
    folder.mkdir()
    if os.geteuid():
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_folder_that_cannot_be_written_is_said_before_any_device_is_opened(emind, closed_folder):
    for arguments in (("record", closed_folder / "take", "--freq", 1e9, "--rate", 1e6),
                      ("live", "--record", closed_folder / "take")):
        outcome = emind(*arguments)
        assert outcome.status == 1 and len(outcome.err.splitlines()) == 1
        assert f"{closed_folder}: cannot be recorded into" in outcome.err and "another folder" in outcome.err
    missing = emind("live", "--record", closed_folder / "none" / "take")
    assert missing.status == 1 and "no such folder" in missing.err and len(missing.err.splitlines()) == 1


def test_asking_whether_a_folder_takes_files_leaves_nothing_there(tmp_path):
    check_target(tmp_path / "take")
    assert not list(tmp_path.iterdir())
    with pytest.raises(EMindError, match="is a folder"):
        check_target(tmp_path)


@pytest.mark.parametrize("text, words", [
    ("EnvironmentError: IOError: USB open failed: insufficient permissions.\nSee the application notes.", "udev rules"),
    ("RuntimeError: usb_open error -3", "udev rules"),
    ("RuntimeError: USB claim failed: LIBUSB_ERROR_BUSY", "another program"),
    ("RuntimeError: Someone tried to claim this device again: already claimed", "another program"),
    ("RuntimeError: no samples on a Sunday", "no samples on a Sunday"),
])
def test_no_permission_and_a_busy_usb_device_come_with_what_to_do(text, words):
    said = str(opening_failed("the USRP", RuntimeError(text)))
    assert words in said and "\n" not in said and said.startswith("the USRP cannot be opened (")


def test_a_disk_that_fills_up_while_recording_is_one_line_and_what_was_written_is_whole(raw, tmp_path):
    pytest.importorskip("gnuradio")
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        samples = tone_bursts(1_500_000)
        done = run_once("record", folder / "take", "--from", raw(samples), "--rate", 1e6, "--no-measure",
                        "--rotate-mb", 2, "--json")
        kept = samples_in(folder)
        rows = sum(len(Reader(file)) for file in folder.glob("*.parquet"))
        got = np.concatenate([row.iq for file in sorted(folder.glob("*.parquet")) for row in Reader(file)])
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    assert_one_line(done, "take", "No space left on device")
    assert len(done.stderr.splitlines()) == 1  # GNU Radio's log does not say it a second time
    counts = json.loads(done.stdout)
    assert (counts["rows"], counts["samples_written"]) == (rows, kept)
    assert 500_000 < kept < len(samples)
    np.testing.assert_array_equal(got, samples[:kept])


@driver
def test_a_recording_of_a_radio_ends_when_the_disk_is_full(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        with Emulator() as device:
            done = run_once("record", folder / "take", "--usrp", device.arguments, "--freq", 1e9, "--rate", 1e6,
                            "--json")
        kept = samples_in(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    assert_one_line(done, "take", "No space left on device")
    counts = json.loads(done.stdout)
    assert counts["samples_written"] == kept > 100_000
    assert counts["samples_seen"] == kept + counts["samples_dropped"]


# A session of its own whose terminal is standard input, as a terminal window gives it.
IN_A_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); " + CODE


def close_terminal_on(*arguments, ready) -> int:
    """Run a command in a terminal, close that once ``ready()`` holds; the command's status."""
    master, slave = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", IN_A_TERMINAL, *map(str, arguments)], stdin=slave, stdout=slave,
                               stderr=slave, start_new_session=True, env={**ENVIRONMENT, "TERM": "xterm"})
    os.close(slave)
    os.set_blocking(master, False)
    try:
        end = time.monotonic() + START_S
        shown = b""
        while not ready():
            assert process.poll() is None and time.monotonic() < end, shown[-2000:]
            try:
                shown += os.read(master, 65536)
            except BlockingIOError:
                os.sched_yield()
        os.close(master)
        return process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@driver
def test_closing_the_terminal_ends_a_recording_with_whole_files(tmp_path):
    with Emulator() as device:
        status = close_terminal_on(
            "record", tmp_path / "take", "--usrp", device.arguments, "--freq", 1e9, "--rate", 5e5,
            ready=lambda: device.status()["chains"][0]["samples_sent"] > 300_000)
        sent = device.status()["chains"][0]["samples_sent"]
    assert status >= 0  # it ended by itself
    assert sent * 0.5 < samples_in(tmp_path) <= sent


@driver
def test_closing_the_terminal_of_live_ends_what_it_records_with_whole_files(small_weights, tmp_path):
    with Emulator() as device:
        close_terminal_on(
            "live", "--args", device.arguments, "--rate", 5e5, "--weights", small_weights, "--backend",
            "torch-float32", "--threads", 1, "--record", tmp_path / "take",
            ready=lambda: device.status()["chains"][0]["samples_sent"] > 300_000)
        sent = device.status()["chains"][0]["samples_sent"]
    assert sent * 0.5 < samples_in(tmp_path) <= sent


@driver
def test_a_reader_of_live_that_goes_away_costs_nothing_that_was_recorded(small_weights, tmp_path):
    with Emulator() as device, Live("--args", device.arguments, "--rate", 5e5, "--weights", small_weights, "--backend",
                                    "torch-float32", "--threads", 1, "--record", tmp_path / "take") as run:
        run.until_event("opened", within=START_S)
        device.wait_for(within=START_S, samples_sent=300_000)
        os.kill(run.process.pid, signal.SIGKILL)  # the worst way: it cannot say good-bye to the radio's process
        run.process.wait()
        end = time.monotonic() + 30
        while list(tmp_path.glob("*.part")) or not list(tmp_path.glob("*.parquet")):
            assert time.monotonic() < end
            os.sched_yield()
    assert samples_in(tmp_path) > 0


class Still:
    """A source whose stream the test lets stand still; ``there``: whether it answers."""

    has_time = True

    def __init__(self):
        self.there, self.restarts = True, 0

    def alive(self) -> bool:
        return self.there

    def restart(self) -> None:
        self.restarts += 1


def test_the_watchdog_of_a_recording_restarts_a_silent_stream_and_gives_up_in_the_end():
    pytest.importorskip("gnuradio.uhd")
    from emind.commands.record_radio import MOST_RESTARTS, Watchdog

    source, clock, count = Still(), [100.0], [0]
    watchdog = Watchdog(source, lambda: count[0], lambda: clock[0])

    def later(seconds: float, samples: int = 0) -> str | None:
        clock[0] += seconds
        count[0] += samples
        return watchdog.look()

    assert later(50.0) is None and later(0.9) is None  # loading before the first look is no silence
    assert "started again" in later(0.2) and source.restarts == 1
    assert later(0.9) is None and later(0.0, samples=5) is None and later(0.9) is None
    for _ in range(MOST_RESTARTS):
        assert "started again" in later(1.1)
    assert later(1.1) is None and "another program" in watchdog.lost and source.restarts == 1 + MOST_RESTARTS
    gone = Watchdog(source, lambda: 7, lambda: clock[0])
    source.there = False
    assert gone.look() is None and not gone.lost
    clock[0] += 1.5
    assert gone.look() is None and "does not answer" in gone.lost and "recorded" in gone.lost
    source.there, source.has_time = True, False  # SoapySDR: cannot be asked, and is not started again
    mute = Watchdog(source, lambda: 7, lambda: clock[0])
    assert mute.look() is None and not mute.lost
    clock[0] += 1.5
    assert mute.look() is None and "stopped sending" in mute.lost and source.restarts == 1 + MOST_RESTARTS


# Closes the window of a flowgraph that still runs, as a person would.
CLOSE = """
import importlib, json, os, sys
from PyQt5 import QtCore, QtWidgets
folder, name, path = sys.argv[1:]
sys.path.insert(0, folder)
application = QtWidgets.QApplication([name])
window = getattr(importlib.import_module(name), name)(seconds=1e6, path=path, start_recording=1)
window.start()
window.show()
while window.recorder.statistics()["samples_written"] < 50_000:
    application.processEvents(QtCore.QEventLoop.AllEvents, 50)
window.close()
print(json.dumps(window.recorder.statistics() | {"file_names": window.recorder.files()}), flush=True)
os._exit(0)
"""


def compiled_record(folder: Path) -> dict[str, str]:
    """The example as a program in ``folder``; the environment to run it in."""
    blocks = Path(sys.prefix) / "share" / "gnuradio" / "grc" / "blocks"
    environment = {**ENVIRONMENT, "GRC_BLOCKS_PATH": str(blocks), "QT_QPA_PLATFORM": "offscreen",
                   "XDG_CONFIG_HOME": str(folder)}
    compiled = subprocess.run([sys.executable, shutil.which("grcc"), "-o", str(folder),
                               str(ROOT / "examples" / "record.grc")], capture_output=True, text=True, timeout=120,
                              env=environment)
    assert compiled.returncode == 0, compiled.stdout + compiled.stderr
    return environment


def test_closing_the_window_of_a_flowgraph_that_records_leaves_whole_files(tmp_path, released_weights):
    for module in ("gnuradio", "PyQt5"):
        pytest.importorskip(module)
    environment = compiled_record(tmp_path)
    folder = tmp_path / "out"
    folder.mkdir()
    done = subprocess.run([sys.executable, "-c", CLOSE, str(tmp_path), "record", str(folder / "take")],
                          capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["samples_written"] >= 50_000 and counts["samples_queued"] == 0 and not counts["error"]
    assert samples_in(folder) == counts["samples_written"]


# Runs until it is ended from outside.
ENDLESS = CLOSE.replace('window.close()', 'application.exec_()')


def test_a_screen_that_dies_under_a_flowgraph_leaves_files_that_can_be_finished(emind, tmp_path, released_weights):
    for module in ("gnuradio", "PyQt5"):
        pytest.importorskip(module)
    if shutil.which("Xvfb") is None:
        pytest.skip("no Xvfb")
    reading, writing = os.pipe()
    screen = subprocess.Popen(["Xvfb", "-displayfd", str(writing), "-nolisten", "tcp"], pass_fds=[writing],
                              stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as told:
        display = f":{told.readline().strip()}"
    folder = tmp_path / "out"
    folder.mkdir()
    environment = compiled_record(tmp_path) | {"QT_QPA_PLATFORM": "xcb", "DISPLAY": display}
    try:
        process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path), "record", str(folder / "take")],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
        end = time.monotonic() + START_S
        while not any(part.stat().st_size > 2_000_000 for part in folder.glob("take-*.parquet.part")):
            assert process.poll() is None and time.monotonic() < end
            os.sched_yield()
    finally:
        screen.terminate()
        screen.wait()
    assert process.wait(60) != 0 and "X11" in process.stderr.read()
    process.stderr.close()
    left = sorted(folder.glob("*.part"))
    assert left and emind("record", "--recover", *left).status == 0
    assert samples_in(folder) > 2_000_000 // 8 * 0.8
