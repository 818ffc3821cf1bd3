"""Pictures of GNU Radio Companion for the documentation: its window step by step, and the canvas of each example.

    .venv/bin/python scripts/grc_pictures.py FOLDER WORK [FLOWGRAPH.grc ...]  # needs a screen: `make screenshots` has one

With flowgraphs named, the canvases of those and no more. What is made on the way lies in WORK. The radio is an emulated
one that plays what `make demo` has made.

The clicks of a person are the program's own actions here, so that no picture depends on where a button lies.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("GRC_BLOCKS_PATH", str(Path(sys.prefix) / "share" / "gnuradio" / "grc" / "blocks"))

sys.path.insert(0, str(ROOT / "tests"))

import cairo
import gi

gi.require_version("Gtk", "3.0")
gi.require_version("PangoCairo", "1.0")
from gi.repository import Gdk, GLib
from gnuradio import gr
from gnuradio.grc.gui.Platform import Platform  # isort: skip  (its modules import each other: this one comes first)
from gnuradio.grc.gui import Actions, Utils
from gnuradio.grc.gui.Application import Application
from smaller import smaller
from usrp_emulator import Emulator

PAUSE_MS = 400  # until the screen has followed, besides GTK's own queue
RADIO_RATE = 250e3
RADIO_SECONDS = 12  # of samples, until the picture of what the radio receives is taken
RADIO_WITHIN = 300 * 1000 // PAUSE_MS  # steps


class Companion:
    """The program and what is done in it."""

    def __init__(self, folder: Path, work: Path, only: list[Path]) -> None:
        self.folder, self.work, self.only = folder, work, only
        platform = Platform(version=gr.version(), prefs=gr.prefs(), install_prefix=gr.prefix(),
                            version_parts=(gr.major_version(), gr.api_version(), gr.minor_version()))
        platform.build_library()
        self.application = Application([str(ROOT / "examples" / "live_monitor.grc")], platform)

    def save(self, window, name: str) -> None:
        """What the window draws; not from the screen, where another window may lie above it."""
        width, height = window.get_size()
        surface = cairo.ImageSurface(cairo.FORMAT_RGB24, width, height)
        window.draw(cairo.Context(surface))
        path = self.folder / f"{name}.png"
        surface.write_to_png(str(path))
        smaller(path)

    def steps(self) -> Iterator[None]:
        """One step after the other; each `yield` lets the program draw."""
        yield
        if not self.only:
            yield from self.walk()
        for path in self.only or sorted((ROOT / "examples").glob("*.grc")):
            self.application.main_window.new_page(str(path.resolve()), show=True)
            yield
            graph = self.application.main_window.current_flow_graph
            self.faultless(graph, path.name)
            picture = self.folder / f"{path.stem}_grc.png"
            Utils.make_screenshot(graph, str(picture))
            smaller(picture)

    def walk(self) -> Iterator[None]:
        """The steps of docs/walk-through.md."""
        main = self.application.main_window
        main.resize(1580, 720)
        for panel in (main.CONSOLE, main.VARIABLES):  # which show where this copy lies on the disk
            main.update_panel_visibility(panel, False)
        yield
        yield
        main.main.set_position(1360)
        yield
        Actions.FIND_BLOCKS()
        main.btwin.search_entry.set_text("emind")
        yield
        yield
        self.save(main, "walk_open")
        main.new_page("", show=True)
        main.resize(1300, 520)
        yield
        yield
        main.main.set_position(1060)
        yield
        graph = main.current_flow_graph
        self.place(graph, "emind_receiver", 400, 140)
        yield
        self.save(main, "walk_drag")
        source = self.place(graph, "uhd_usrp_source", 72, 160)
        shown = self.place(graph, "emind_display", 860, 250)
        receiver = next(block for block in graph.blocks if block.key == "emind_receiver")
        rate = next(block for block in graph.blocks if block.name == "samp_rate")
        for block, values in ((rate, {"value": f"{RADIO_RATE:g}"}), (shown, {"span_s": "2"}),
                              (source, {"dev_addr": '"addr=127.0.0.1"', "center_freq0": "868.3e6"})):
            for name, value in values.items():
                block.params[name].set_value(value)
        graph.connect(source.sources[0], receiver.sinks[0])
        graph.connect(receiver.sources[0], shown.sinks[0])
        for port in ("detections", "statistics"):
            graph.connect(*(next(one for one in ports if one.key == port)
                            for ports in (receiver.sources, shown.sinks)))
        graph.connect(next(one for one in source.sources if one.domain == "message"),
                      next(one for one in shown.sinks if one.key == "async_msgs"))
        graph.unselect()
        graph.update()
        self.faultless(graph, "UHD, receiver and display")
        yield
        self.save(main, "walk_connected")
        yield from self.receive(graph, receiver)
        for name, tab in (("walk_parameters", 0), ("walk_documentation", "Documentation")):
            self.application.dialog = None
            graph.selected_elements = {receiver}
            Actions.BLOCK_PARAM_MODIFY.set_enabled(True)
            GLib.idle_add(lambda: Actions.BLOCK_PARAM_MODIFY(receiver) and False)
            while (dialog := self.application.dialog) is None:
                yield
            book = dialog.notebook
            if tab:
                tab = next(k for k in range(book.get_n_pages())
                           if book.get_tab_label(book.get_nth_page(k)).get_text() == tab)
            dialog.resize(680, 560)
            book.set_current_page(tab)
            yield
            yield
            self.save(dialog, name)
            dialog.response(-2)  # Cancel
            yield

    def receive(self, graph, receiver) -> Iterator[None]:
        """Run the flowgraph from here with an emulated radio: picture of the screen with the program and the window."""
        main, page = self.application.main_window, self.application.main_window.current_page
        page.file_path = str(self.work / "monitor.grc")
        receiver.params["policy"].set_value("lossless")  # as all pictures: on a busy machine the same as on another
        options = graph.options_block.params
        options["id"].set_value("monitor")
        options["title"].set_value("monitor")
        options["run_command"].set_value("{python} -u {filename} -qwindowgeometry +400+500")
        graph.update()
        main.resize(1300, 1230)
        Actions.FLOW_GRAPH_SAVE()
        with Emulator(str(ROOT / "build" / "demo" / "scene.sigmf-data")) as device:
            Actions.FLOW_GRAPH_EXEC()
            for _ in range(RADIO_WITHIN):
                yield
                if device.status()["chains"][0]["samples_sent"] > RADIO_SECONDS * RADIO_RATE:
                    break
            else:
                sys.exit("the flowgraph with the emulated radio receives nothing")
            screen = Gdk.pixbuf_get_from_window(Gdk.get_default_root_window(), 0, 0, 1300, 1230)
            path = self.folder / "walk_radio.png"
            screen.savev(str(path), "png", [], [])
            smaller(path)
            process = page.process
            Actions.FLOW_GRAPH_KILL()
            while process.poll() is None:
                yield

    @staticmethod
    def place(graph, key: str, x: int, y: int):
        """A block as it comes from the tree, at a place of the canvas."""
        graph.add_new_block(key, (x, y))
        return next(block for block in graph.blocks if block.key == key)

    @staticmethod
    def faultless(graph, name: str) -> None:
        graph.validate()
        faults = [f"{element}: {text}" for element, text in graph.iter_error_messages()]
        if faults:
            sys.exit(f"{name}: {'; '.join(faults)}")

    def run(self) -> None:
        steps = self.steps()

        def step() -> bool:
            try:
                next(steps)
            except StopIteration:
                os._exit(0)  # without the question what to save
            except BaseException as fault:
                print(f"{type(fault).__name__}: {fault}", file=sys.stderr, flush=True)
                os._exit(1)
            # Behind everything that GTK has still to do, drawing included.
            GLib.timeout_add(PAUSE_MS, lambda: GLib.idle_add(step, priority=GLib.PRIORITY_LOW) and False)
            return False

        GLib.timeout_add(PAUSE_MS, step)
        self.application.run()


if __name__ == "__main__":
    Companion(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]]).run()
