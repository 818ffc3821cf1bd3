"""The out-of-tree module as GNU Radio's own tools see it: installed, listed, compiled, described."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock, call

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = None

ROOT = Path(__file__).resolve().parents[1]
EMIND = ROOT / "python" / "emind"
BLOCKS = ("windowing", "inference", "overlap_add", "receiver", "recorder", "display", "label_panel",
          "remote_inference")
NOT_IN_GRC = {"self", "engine"}  # engine is for tests and programs
ONLY_IN_GRC = {"gui_hint"}  # where a window is put
INSTALLED_BLOCKS = Path(sys.prefix) / "share" / "gnuradio" / "grc" / "blocks"
FLOWGRAPHS = sorted((ROOT / "examples").glob("*.grc"))
RUN_SECONDS = 300


def environment() -> dict[str, str]:
    """What `make` gives: no variable of the user's, the installed blocks only."""
    own = {"PYTHONPATH", "GRC_BLOCKS_PATH"}
    return {**{k: v for k, v in os.environ.items() if k not in own}, "GRC_BLOCKS_PATH": str(INSTALLED_BLOCKS)}


def program(name: str) -> list[str]:
    """A program of GNU Radio's, run by this interpreter."""
    path = shutil.which(name)
    assert path, f"{name} is not on the PATH"
    return [sys.executable, path]


def run(command: list[str], cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment(), timeout=RUN_SECONDS)


def constructor(block: str) -> inspect.Signature:
    from gnuradio import emind

    return inspect.signature(getattr(emind, block).__init__)


def description(block: str) -> dict:
    return yaml.safe_load((ROOT / "grc" / f"emind_{block}.block.yml").read_text(encoding="utf-8"))


def test_module_is_installed_under_gnuradio():
    done = run([sys.executable, "-c", "from gnuradio import emind; print(emind.__file__); "
                                      f"print([getattr(emind, b).__name__ for b in {BLOCKS}])"], cwd=Path("/"))
    assert done.returncode == 0, done.stderr
    file, names = done.stdout.splitlines()
    assert Path(file).is_relative_to(sys.prefix)
    assert names == str(list(BLOCKS))


def test_gr_modtool_recognises_the_tree():
    done = run([*program("gr_modtool"), "info", "--python-readable"])
    assert done.returncode == 0, done.stderr
    found = ast.literal_eval(done.stdout.strip())
    assert found["modname"] == "emind"
    assert found["base_dir"] == str(ROOT)


def test_each_example_is_there():
    assert {path.stem for path in FLOWGRAPHS} >= {"classify_file", "classify_scene", "denoise", "receiver_usrp", "separate"}


@pytest.mark.parametrize("flowgraph", FLOWGRAPHS, ids=lambda path: path.stem)
def test_grcc_compiles(flowgraph, tmp_path):
    done = run([*program("grcc"), "--output", str(tmp_path), str(flowgraph)])
    assert done.returncode == 0, done.stdout + done.stderr
    programs = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.py")}
    assert "emind." in programs[f"{flowgraph.stem}.py"]
    for name, text in programs.items():  # grcc does not look whether what it writes is Python
        compile(text, name, "exec")


@pytest.mark.parametrize("clock, pulses", [("", ""), ("external", ""), ("", "gpsdo"), ("gpsdo", "gpsdo")])
def test_live_usrp_sets_the_clock_and_the_pulses_that_are_named_and_no_others(live_usrp, clock, pulses):
    usrp, now = Mock(), 1000.75
    flowgraph = SimpleNamespace(clock_source=clock, time_source=pulses, usrp=usrp)
    names = {"uhd": SimpleNamespace(time_spec=float), "time": SimpleNamespace(time=lambda: now)}
    exec("\n\n".join(live_usrp), names)
    names["snippets_main_after_init"](flowgraph)
    expected = [call.set_clock_source(clock, 0)] if clock else []
    expected += [call.set_time_source(pulses, 0), call.set_time_unknown_pps(1002.0)] if pulses else []
    assert usrp.mock_calls == expected


@pytest.fixture(scope="module")
def live_usrp(tmp_path_factory) -> list[str]:
    """What the compiled flowgraph does once its blocks are there: functions."""
    folder = tmp_path_factory.mktemp("live_usrp")
    done = run([*program("grcc"), "--output", str(folder), str(ROOT / "examples" / "live_usrp.grc")])
    assert done.returncode == 0, done.stdout + done.stderr
    text = (folder / "live_usrp.py").read_text(encoding="utf-8")
    return [ast.get_source_segment(text, node) for node in ast.parse(text).body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("snip")]


def test_grc_lists_the_blocks_under_emind():
    code = """
from gnuradio import gr
from gnuradio.grc.core.platform import Platform
platform = Platform(name='test', prefs=gr.prefs(), version=gr.version(),
                    version_parts=(gr.major_version(), gr.api_version(), gr.minor_version()))
platform.build_library()
for key, block in platform.blocks.items():
    if key.startswith('emind_'):
        print(key, '/'.join(block.category))
"""
    done = run([sys.executable, "-c", code], cwd=Path("/"))
    assert done.returncode == 0, done.stderr
    listed = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith("emind_"))
    assert set(listed) == {f"emind_{block}" for block in BLOCKS}
    assert all(category.startswith("EMind/") for category in listed.values()), listed


@pytest.mark.parametrize("block", BLOCKS)
def test_grc_parameters_are_the_constructor_s(block):
    shown = {p["id"]: p for p in description(block)["parameters"] if p["id"] not in ONLY_IN_GRC}
    taken = {name: p for name, p in constructor(block).parameters.items() if name not in NOT_IN_GRC}
    assert list(shown) == list(taken)
    for name, parameter in shown.items():
        if parameter["default"] == "samp_rate":  # the variable that every new flowgraph has
            continue
        default = taken[name].default
        assert parameter["default"] == (default if isinstance(default, str) else str(default)), name


def test_grc_offers_what_the_blocks_know():
    from emind import inference
    from emind.runtime import engine
    from emind.storage.part_file import FLOAT32, INT16
    from emind.storage.recording_files import FILE_FORMATS

    policies = set(sys.modules[inference.__module__].POLICIES)
    known = {"policy": policies, "backend": set(engine.BACKENDS)}
    recorders = {"policy": {"lossless", "realtime"}, "file_format": set(FILE_FORMATS), "iq_format": {FLOAT32, INT16},
                 "trigger": {"none", "detection", "energy"}}
    offered = {(block, p["id"]): set(p["options"]) for block in BLOCKS
               for p in description(block)["parameters"] if p["dtype"] == "enum"}
    streams = [offered.pop((block, "streams")) for block in ("inference", "receiver")]
    assert streams[0] == streams[1]
    assert set().union(*map(ast.literal_eval, streams[0])) == {"denoise", "separation"}
    assert offered == {(block, name): known[name] for block in ("inference", "receiver") for name in known} | {
        ("remote_inference", "policy"): policies} | {
        ("recorder", name): values for name, values in recorders.items()}


@pytest.mark.parametrize("block", BLOCKS)
def test_grc_makes_the_block_with_named_arguments_one_a_line(block):
    shown = [p["id"] for p in description(block)["parameters"] if p["id"] not in ONLY_IN_GRC]
    text = description(block)["templates"]["make"]
    if "gui_hint" in text:  # what names the window, the call, and what puts the window into its place
        text = re.search(rf"^emind\.{block}\(.*?\)$", text, re.MULTILINE | re.DOTALL)[0]
    first, *lines = text.splitlines()
    assert first == f"emind.{block}("
    assert [line.strip().split("=")[0] for line in lines] == shown


@pytest.mark.parametrize("block", BLOCKS)
def test_grc_callbacks_are_methods(block):
    from gnuradio import emind

    for callback in description(block)["templates"].get("callbacks", []):
        name, first = re.match(r"(\w+)\('?(\w*)", callback).groups()
        for method in (name, first) if name == "told" else (name,):  # told calls the setter that it names
            assert callable(getattr(getattr(emind, block), method))


@pytest.mark.parametrize("block", BLOCKS)
def test_grc_documentation_has_the_fixed_shape(block):
    text = description(block)["documentation"]
    places = [text.index(f"{heading}:\n") for heading in ("Input", "Output", "Parameters")]
    assert places == sorted(places)
    listed = re.findall(r"^- ([^:]+):", text[places[-1]:], re.MULTILINE)
    assert len(listed) == len(description(block)["parameters"])


def test_manifest_is_filled_in():
    head = (ROOT / "MANIFEST.md").read_text(encoding="utf-8").split("---")[0]
    fields = yaml.safe_load(head)
    for key in ("title", "brief", "tags", "author", "copyright_owner", "license", "gr_supported_version"):
        assert fields[key], key
    assert "Author Name" not in head and "Short description" not in head


def test_every_flat_module_is_installed():
    listed = (EMIND / "CMakeLists.txt").read_text(encoding="utf-8")
    for file in EMIND.glob("*.py"):
        if not file.name.startswith("qa_"):
            assert re.search(rf"^\s+{re.escape(file.name)}$", listed, re.MULTILINE), file.name


def test_every_folder_of_the_module_is_installed():
    listed = (EMIND / "CMakeLists.txt").read_text(encoding="utf-8")
    folders = re.search(r"^\s+DIRECTORY ([\w ]+)$", listed, re.MULTILINE).group(1).split()
    assert set(folders) == {path.name for path in EMIND.iterdir() if path.is_dir() and path.name != "__pycache__"}


@pytest.mark.skipif(tomllib is None, reason="tomllib came with Python 3.11")
def test_every_package_is_in_pyproject():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    there = {".".join([name, *init.parent.relative_to(ROOT / folder).parts])
             for name, folder in setuptools["package-dir"].items() for init in (ROOT / folder).rglob("__init__.py")}
    assert set(setuptools["packages"]) == there
