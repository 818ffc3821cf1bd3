"""Makes all pictures of the documentation again, without a screen: `make screenshots`, or ONLY="live_monitor record".

They are small (scripts/smaller.py). What needs weights with a head that the released ones lack is left out, and said.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from safetensors import safe_open
from smaller import smaller
from terminal_picture import terminal_picture

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from usrp_emulator import Emulator
from usrp_emulator.__main__ import DEFAULT_SCENE
IMAGES = ROOT / "docs" / "images"
WORK = ROOT / "build" / "screenshots"


def companion() -> None:
    """GNU Radio Companion step by step, and the canvas of each example, under a virtual screen."""
    if not (ROOT / "build" / "demo" / "scene.sigmf-data").is_file():
        run("../examples/demo.py")  # which the emulated radio plays
    shutil.rmtree(WORK / "config", ignore_errors=True)
    reading, writing = os.pipe()
    screen = subprocess.Popen(["Xvfb", "-displayfd", str(writing), "-screen", "0", "1600x1240x24", "-nolisten", "tcp"],
                              pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        with os.fdopen(reading) as told:
            display = told.readline().strip()
        if not display:
            sys.exit("make screenshots: no virtual screen: apt-get install xvfb")
        # Settings of its own: window sizes and colours of whoever runs this shall not be in the pictures.
        own = {"HOME": str(WORK), "XDG_CONFIG_HOME": str(WORK / "config"), "XDG_CACHE_HOME": str(WORK / "cache"),
               "GR_CONF_GRC_XTERM_EXECUTABLE": "/"}
        run("grc_pictures.py", IMAGES, WORK, **own, DISPLAY=f":{display}")
    finally:
        screen.terminate()
        screen.wait()


def live_monitor() -> None:
    window("live_monitor", "--seconds", "11")


def record() -> None:
    """The window, and in a terminal the check of what it recorded."""
    for old in WORK.glob("recording-*"):
        old.unlink()
    window("record", "--seconds", "7", "--size", "900x900", "--set", f"path={WORK / 'recording'}",
           "--set", "start_recording=1", "--set", "from_tags=1")
    files = sorted(file.name for file in WORK.glob("recording-*.parquet"))
    terminal_picture("emind-train dataset check recording-*.parquet", ["emind-train", "dataset", "check", *files],
                     IMAGES / "check.png", WORK)


def radio() -> None:
    """In a terminal, with the emulated radio: what is where, what is heard, and a new signal."""
    for old in WORK.glob("node-*"):
        old.unlink()
    at, node = ["--args", "addr=127.0.0.1"], ["--freq", "868.3e6"]
    with Emulator(DEFAULT_SCENE):
        terminal("scan", "emind scan 433e6:435e6 868.3e6 --args addr=127.0.0.1",
                 ["emind", "scan", "433e6:435e6", "868.3e6", *at])
        terminal("live", "emind live --args addr=127.0.0.1 --freq 434.2e6 --bandwidth 100e3 --heads modulation",
                 ["emind", "live", *at, "--freq", "434.2e6", "--bandwidth", "100e3", "--heads", "modulation",
                  "--duration", "8"], True)
        terminal("record_radio", "emind record node --args addr=127.0.0.1 --freq 868.3e6 --seconds 2",
                 ["emind", "record", "node", *at, *node, "--seconds", "2"])
        files = sorted(file.name for file in WORK.glob("node-*.parquet"))
        terminal("enrol", 'emind enrol "my node" node-*.parquet --out mine.safetensors',
                 ["emind", "enrol", "my node", *files, "--out", "mine.safetensors"])
        terminal("enrolled", "emind live --weights mine.safetensors --args addr=127.0.0.1 --freq 868.3e6",
                 ["emind", "live", "--weights", "mine.safetensors", *at, *node, "--duration", "8"], True)


def closed_loop() -> None:
    """The script, with the emulated radio."""
    command = ["examples/closed_loop.py", "--usrp", "addr=127.0.0.1", "--rate", "1e6", "--new", "node", "868.3e6",
               "--other", "noise", "900e6"]
    shutil.rmtree(ROOT / "build" / "closed-loop", ignore_errors=True)
    with Emulator(DEFAULT_SCENE):
        terminal("closed_loop", " ".join(command), [sys.executable, *command], folder=ROOT)


def terminal(name: str, shown: str, command: list[str], has_one: bool = False, folder: Path = WORK) -> None:
    made = WORK / f"{name}.png"
    if status := terminal_picture(shown, command, made, folder, has_one):
        sys.exit(f"make screenshots: {shown} ended with status {status}: see {made}")
    shutil.copy(made, IMAGES)


def denoise() -> None:
    if has_head("emind-nano", "denoise"):
        window("denoise", "--seconds", "2")


def separate() -> None:
    if has_head("emind-separation", "separation"):
        window("separate", "--seconds", "0.2", "--size", "900x900")


def demo() -> None:
    """What `make demo` writes."""
    run("../examples/demo.py")
    (made,) = (ROOT / "build" / "demo").glob("*.png")
    shutil.copy(made, IMAGES / "demo.png")
    smaller(IMAGES / "demo.png")


def has_head(weights: str, head: str) -> bool:
    path = ROOT / "python" / "emind" / "weights" / f"{weights}.safetensors"
    there = path.is_file() and f'"{head}"' in json.dumps(safe_open(path, "np").metadata()).replace('\\"', '"')
    if not there:
        print(f"left out: there are no weights {weights} with the head {head}", file=sys.stderr)
    return there


def window(name: str, *options: str) -> None:
    run("screenshot.py", ROOT / "examples" / f"{name}.grc", IMAGES / f"{name}.png", *options)


def run(script: str, *arguments: str | Path, **environment: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **environment})


PICTURES = {one.__name__: one for one in (companion, live_monitor, record, radio, closed_loop, denoise, separate, demo)}


def main() -> None:
    wanted = sys.argv[1:] or list(PICTURES)
    if unknown := set(wanted) - set(PICTURES):
        sys.exit(f"make screenshots: no picture {', '.join(sorted(unknown))}; there are {', '.join(PICTURES)}")
    WORK.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        try:
            PICTURES[name]()
        except subprocess.CalledProcessError as fault:
            sys.exit(f"make screenshots: {name} ended with status {fault.returncode}")


if __name__ == "__main__":
    main()
