"""`emind doctor`: what is installed, what is wrong, what to do about it.

It must speak where nothing else works, so it imports the standard library only, and everything that can break an
interpreter (GNU Radio, UHD, torch) is asked in a process of its own. It also runs as a plain file:
``python3 python/emind/commands/doctor.py``.
"""

from __future__ import annotations

import argparse
import filecmp
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

OK, NOTE, FAULT = "ok", "note", "fault"  # a note is something that is missing and that not everybody needs
PACKAGE = Path(__file__).resolve().parents[1]
BLOCKS = ("windowing", "inference", "overlap_add", "receiver", "recorder")
DEFAULT_WEIGHTS = "emind-nano"
PACKAGES = ("safetensors", "sigmf", "pyarrow", "scipy", "matplotlib", "rich")
PROGRAMS_OF_GNU_RADIO = ("grcc", "gnuradio-companion", "gr_modtool")
SET_UP = "run `make install` in the gr-emind folder and use its .venv/bin/emind"
ANSWER_SECONDS = 120
NUMPY_CLASH = ("_ARRAY_API not found", "numpy.core.multiarray failed to import", "compiled using NumPy 1.x")


@dataclass(frozen=True)
class Item:
    """One thing that was looked at. ``remedy`` is empty unless ``state`` is a note or a fault."""

    name: str
    state: str
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Answer:
    """What a question to an interpreter gave: its output, or why there is none."""

    ok: bool
    text: str
    clash: bool = False


def ask(code: str, python: str = sys.executable) -> Answer:
    """Runs ``code`` in a new interpreter. ``text`` is what it printed, or the last line of its complaint."""
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=ANSWER_SECONDS, cwd=os.sep)
    except (OSError, subprocess.TimeoutExpired) as fault:
        return Answer(False, str(fault))
    if done.returncode == 0:
        return Answer(True, done.stdout.strip())
    lines = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
    return Answer(False, lines[-1], any(sign in done.stderr for sign in NUMPY_CLASH))


def interpreter_of(program: str) -> str | None:
    """The interpreter that a program names in its first line; None when it names none."""
    try:
        with open(program, encoding="utf-8", errors="replace") as file:
            line = file.readline(512)
    except OSError:
        return None
    words = shlex.split(line[2:]) if line.startswith("#!") else []
    if not words:
        return None
    if os.path.basename(words[0]) == "env":
        return shutil.which(words[-1])
    return words[0]


def owner_of_gnuradio() -> str | None:
    """The interpreter that GNU Radio was installed for; None when GNU Radio's programs are not on the PATH."""
    for name in PROGRAMS_OF_GNU_RADIO:
        program = shutil.which(name)
        owner = interpreter_of(program) if program else None
        if owner:
            return owner
    return None


def is_owner(owner: str) -> bool:
    """Whether this interpreter, or the one its virtual environment was made from, is ``owner``."""
    return os.path.realpath(owner) == os.path.realpath(sys.executable)


def check_interpreter(owner: str | None) -> Item:
    here = f"{sys.executable} (Python {platform.python_version()})"
    if owner is None:
        return Item("interpreter", NOTE, f"{here}; GNU Radio's programs are not on the PATH",
                    "install GNU Radio 3.10 (`make install` does), or use this machine for training only")
    if not is_owner(owner):
        return Item("interpreter", FAULT, f"{here}, but GNU Radio belongs to {owner}", SET_UP)
    return Item("interpreter", OK, f"{here}, the one that owns GNU Radio")


def check_numpy(owner: str | None) -> Item:
    mine = ask("import numpy; print(numpy.__version__)")
    if not mine.ok:
        return Item("numpy", FAULT, mine.text, SET_UP)
    built = ask("import numpy; print(numpy.__version__)", owner) if owner else Answer(False, "")
    if built.ok and built.text.split(".")[0] != mine.text.split(".")[0]:
        return Item("numpy", FAULT, f"{mine.text}, but GNU Radio was built with {built.text}: it cannot be imported",
                    f"{sys.executable} -m pip install 'numpy=={built.text}'" if is_owner(owner) else SET_UP)
    return Item("numpy", OK, mine.text + (", the major version GNU Radio was built with" if built.ok else ""))


def check_gnuradio() -> Item:
    answer = ask("from gnuradio import gr; print(gr.version())")
    if answer.clash:
        return Item("GNU Radio", FAULT, "it cannot be imported beside this numpy",
                    "it needs the numpy that GNU Radio was built with: remove .venv and run `make install`")
    if not answer.ok:
        return Item("GNU Radio", FAULT, answer.text, SET_UP)
    if version(answer.text) < (3, 10):
        return Item("GNU Radio", FAULT, f"{answer.text} is too old", "install GNU Radio 3.10 or later")
    return Item("GNU Radio", OK, answer.text)


def version(text: str) -> tuple[int, int]:
    """Major and minor version: ``3.10.5.1`` or ``v3.10.5.1`` -> (3, 10). What is no number counts as 0."""
    numbers = [int(part) if part.isdigit() else 0 for part in text.lstrip("v").split(".")[:2]]
    return (numbers + [0, 0])[0], (numbers + [0, 0])[1]


def check_uhd() -> Item:
    answer = ask("from gnuradio import uhd; print(uhd.get_version_string())")
    if answer.ok:
        return Item("UHD", OK, answer.text)
    return Item("UHD", NOTE, f"not usable: {answer.text}", "for a USRP: apt install uhd-host gnuradio")


def source_folder() -> Path | None:
    """python/emind of the source tree this installation came from; None when there is no tree."""
    if (PACKAGE.parents[1] / "pyproject.toml").is_file():
        return PACKAGE
    try:
        text = importlib.metadata.distribution("gr-emind").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    url = urlparse(json.loads(text)["url"]) if text else None
    folder = Path(unquote(url.path)) / "python" / "emind" if url and url.scheme == "file" else None
    return folder if folder and folder.is_dir() else None


def is_installed(file: Path) -> bool:
    """Whether the build installs this file of the source tree."""
    return (file.suffix in (".py", ".safetensors", ".md") and not file.name.startswith("qa_")
            and "__pycache__" not in file.parts)


def stale_files(source: Path, installed: Path) -> list[str]:
    """Files, relative to the module, that differ between the source tree and the installed copy or are in one only."""
    names = {str(file.relative_to(folder)) for folder in (source, installed)
             for file in folder.rglob("*") if file.is_file() and is_installed(file)}
    return sorted(name for name in names
                  if not ((source / name).is_file() and (installed / name).is_file()
                          and filecmp.cmp(source / name, installed / name, shallow=False)))


def check_module() -> Item:
    answer = ask("import importlib.util as u; s = u.find_spec('gnuradio.emind'); print(s.origin or '' if s else '')")
    if not answer.ok or not answer.text:
        return Item("module", FAULT, "gnuradio.emind is not installed for this interpreter", SET_UP)
    installed = Path(answer.text).parent
    missing = ask("from gnuradio import emind; "
                  f"print(*[b for b in {BLOCKS} if not callable(getattr(emind, b, None))])")
    if not missing.ok:
        return Item("module", FAULT, f"gnuradio.emind cannot be imported: {missing.text}",
                    "mend what is named above, then `make install`")
    if missing.text:
        return Item("module", FAULT, f"gnuradio.emind in {installed} lacks: {missing.text}", "run `make install`")
    source = source_folder()
    if source is None:
        return Item("module", OK, f"{installed} (no source tree to compare it with)")
    stale = stale_files(source, installed)
    if stale:
        return Item("module", FAULT, f"{installed} is older than the source in {len(stale)} files ({stale[0]} ...)",
                    "run `make install`")
    return Item("module", OK, f"{installed}, the same as the source")


def grc_folders() -> list[Path]:
    """Folders that GNU Radio Companion searches when it is started from this shell."""
    listed = os.environ.get("GRC_BLOCKS_PATH", "").split(os.pathsep)
    answer = ask("from gnuradio import gr; p = gr.prefs(); "
                 "print(p.get_string('grc', 'local_blocks_path', '')); "
                 "print(p.get_string('grc', 'global_blocks_path', ''))")
    if answer.ok:
        listed += [folder for line in answer.text.splitlines() for folder in line.split(os.pathsep)]
    return [Path(os.path.expandvars(folder)).expanduser() for folder in listed if folder.strip()]


def has_blocks(folder: Path) -> bool:
    return all((folder / f"emind_{block}.block.yml").is_file() for block in BLOCKS)


def check_grc() -> Item:
    for folder in grc_folders():
        if has_blocks(folder):
            return Item("GRC blocks", OK, f"{folder}, where GNU Radio Companion searches")
    folder = Path(sys.prefix) / "share" / "gnuradio" / "grc" / "blocks"
    if has_blocks(folder):
        return Item("GRC blocks", OK, f"{folder}; `make grc` starts GNU Radio Companion with them")
    return Item("GRC blocks", FAULT, f"no emind_*.block.yml in {folder} or where GNU Radio Companion searches",
                "run `make install`")


def check_torch() -> list[Item]:
    """torch, OpenVINO, and what the back end `auto` comes to."""
    answer = ask("import torch; c = torch.cpu; print(torch.__version__, "
                 "c._is_avx512_bf16_supported() or c._is_amx_tile_supported(), torch.cuda.is_available())")
    if not answer.ok:
        return [Item("torch", FAULT, answer.text, SET_UP),
                Item("back ends", FAULT, "none: no weights can be run", "mend torch, see above")]
    number, *told = answer.text.split()
    half, cuda = (word == "True" for word in told)
    openvino = check_openvino()
    library = "openvino" if openvino.state == OK else "torch"
    auto = "torch on the graphics device" if cuda else f"{library} in {'bfloat16' if half else 'float32'}"
    why = "" if cuda else ", which this processor multiplies by itself" if half else ""
    if openvino.state == FAULT and not cuda:
        ends = Item("back ends", FAULT, "auto comes to openvino, which cannot be imported",
                    "mend OpenVINO, see above, or give --backend torch")
    else:
        ends = Item("back ends", OK, f"auto comes to {auto}{why}")
    return [Item("torch", OK, number), openvino, ends]


def check_openvino() -> Item:
    """The library that `auto` takes on processors. Its import would report to its maker: that is kept from it."""
    install = f"{shlex.quote(sys.executable)} -m pip install 'gr-emind[openvino]'"
    answer = ask("import sys; sys.modules['openvino_telemetry'] = None; import openvino; "
                 "print(openvino.__version__.split('-')[0])")
    if answer.ok:
        return Item("OpenVINO", OK, f"{answer.text}; {kept_graphs(cache_folder())}")
    if "No module named 'openvino'" in answer.text:
        return Item("OpenVINO", NOTE, "not installed: torch, which is slower, infers on processors", install)
    return Item("OpenVINO", FAULT, f"it cannot be imported: {answer.text}", install + " --force-reinstall")


def cache_folder() -> Path:
    """Where the back end keeps compiled graphs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gr-emind"


def kept_graphs(folder: Path) -> str:
    sizes = [file.stat().st_size for file in folder.glob("*.blob")]
    held = f"compiled graphs in {folder} ({len(sizes)}, {sum(sizes) / 1e6:.0f} MB)"
    there = next(one for one in (folder, *folder.parents) if one.exists())
    return held if os.access(there, os.W_OK) else f"{held}, where nothing can be written: each start compiles"


def check_packages() -> Item:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Item("packages", FAULT, f"missing: {', '.join(missing)}", SET_UP)
    return Item("packages", OK, ", ".join(found))


def weights_fault(file: Path) -> str:
    """What is wrong with a weights file by its outside (header and length); empty when nothing is.

    A safetensors file is the header's length (8 bytes, little endian), the header (JSON) and the tensors' bytes.
    """
    try:
        size = file.stat().st_size
        with open(file, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > size - 8:
                return "the file is cut off in its header"
            header = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except OSError as fault:
        return f"it cannot be read: {fault.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "its header is damaged"
    if size - 8 - length != max(ends, default=0):
        return f"its tensors take {max(ends, default=0)} bytes and the file holds {size - 8 - length}"
    return ""


def check_weights(folder: Path = PACKAGE / "weights") -> list[Item]:
    remedy = "restore it from the repository: git checkout -- python/emind/weights, then `make install`"
    items = []
    for file in sorted(folder.glob("*.safetensors")):
        name = f"weights {file.stem}"
        fault = weights_fault(file)
        if fault:
            items.append(Item(name, FAULT, f"{file}: {fault}", remedy))
        else:
            items.append(Item(name, OK, f"{file} ({file.stat().st_size / 1e6:.1f} MB)"))
    if not any(item.name == f"weights {DEFAULT_WEIGHTS}" for item in items):
        items.append(Item(f"weights {DEFAULT_WEIGHTS}", FAULT, f"not in {folder}", remedy))
    return items


def examine() -> list[Item]:
    """Looks at everything, in the order in which faults should be mended."""
    owner = owner_of_gnuradio()
    return [check_interpreter(owner), check_numpy(owner), check_gnuradio(), check_uhd(), check_module(), check_grc(),
            check_packages(), *check_torch(), *check_weights()]


def report(items: list[Item]) -> str:
    """One line an item, and under a note or a fault one line that says what to do."""
    lines = []
    for item in items:
        lines.append(f"{item.state:<5}  {item.name:<18}  {item.detail}")
        if item.remedy:
            lines.append(f"{'':<5}  {'':<18}  -> {item.remedy}")
    faults = sum(item.state == FAULT for item in items)
    lines.append(f"{faults} fault{'s' if faults != 1 else ''}" if faults else "all is well")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(options: argparse.Namespace) -> int:
    """Prints what was found. Exit status: 0 without a fault, else 1."""
    items = examine()
    healthy = all(item.state != FAULT for item in items)
    print(json.dumps({"ok": healthy, "items": [asdict(item) for item in items]}, indent=2) if options.json
          else report(items))
    return 0 if healthy else 1


if __name__ == "__main__":
    command = argparse.ArgumentParser(prog="doctor", description=__doc__.splitlines()[0])
    add_arguments(command)
    sys.exit(run(command.parse_args()))
