"""Takes a picture of a flowgraph of examples/ while it runs, for the documentation.

    .venv/bin/python scripts/screenshot.py examples/live_monitor.grc docs/images/live_monitor.png --seconds 8

Without a screen Qt draws into memory (QT_QPA_PLATFORM=offscreen), which is the default here. ``--set name=value`` gives
the flowgraph's parameters. Every window is waited for (``lossless``), so that the picture is the same on a loaded
machine as on one that keeps up; ``--as-it-is`` leaves the policy of the flowgraph.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from smaller import smaller

BLOCKS = Path(sys.prefix) / "share" / "gnuradio" / "grc" / "blocks"


def compiled(flowgraph: Path, folder: Path, waits: bool):
    """The flowgraph's top block class, from what grcc makes of it."""
    environment = {**os.environ, "GRC_BLOCKS_PATH": str(BLOCKS)}
    done = subprocess.run([sys.executable, shutil.which("grcc"), "-o", str(folder), str(flowgraph)],
                          capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{flowgraph}: grcc failed:\n{done.stdout}{done.stderr}")
    made = folder / f"{flowgraph.stem}.py"
    if waits:
        made.write_text(made.read_text().replace("policy='realtime'", "policy='lossless'"))
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location(flowgraph.stem, made)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, flowgraph.stem)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("flowgraph", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--seconds", type=float, default=8.0, help="of samples until the picture is taken")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the flowgraph")
    parser.add_argument("--size", default="900x760", metavar="WxH")
    parser.add_argument("--as-it-is", action="store_true", help="windows may be skipped, as the flowgraph says")
    options = parser.parse_args()
    from PyQt5 import QtCore, QtWidgets

    given = {"seconds": options.seconds}
    for text in options.set:
        name, _, value = text.partition("=")
        given[name] = int(value) if value.lstrip("-").isdigit() else value
    application = QtWidgets.QApplication(["screenshot"])
    with tempfile.TemporaryDirectory() as folder:
        window = compiled(options.flowgraph, Path(folder), not options.as_it_is)(**given)
        window.resize(*map(int, options.size.split("x")))
        ended = threading.Event()
        window.start()
        window.show()
        threading.Thread(target=lambda: (window.wait(), ended.set()), daemon=True).start()
        loop = QtCore.QEventLoop()
        timer = QtCore.QTimer()

        def look() -> None:
            if ended.is_set():
                timer.stop()
                QtCore.QTimer.singleShot(700, loop.quit)  # the last messages are drawn

        timer.timeout.connect(look)
        timer.start(100)
        loop.exec_()
        application.processEvents()
        window.grab().save(str(options.picture))
        window.close()
    smaller(options.picture)
    os._exit(0)  # Qt and GNU Radio disagree about who takes down what


if __name__ == "__main__":
    main()
