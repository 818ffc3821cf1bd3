"""The import rules of docs/design.md, read from the syntax tree of every module, functions' insides included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EMIND = ROOT / "python" / "emind"
TRAINING = ROOT / "training"
BENCHMARKS = ROOT / "benchmarks"

# part -> parts it may import. `blocks` are the flat files of python/emind, `cli` is cli.py with the commands.
MAY_IMPORT = {
    "contract": set(),
    "models": {"contract"},
    "storage": {"contract"},
    "dsp": {"contract"},
    "runtime": {"models", "dsp", "contract"},
    "blocks": {"runtime", "storage", "dsp", "contract"},
    "cli": {"blocks", "runtime", "storage", "dsp", "contract", "benchmarks"},
    "training": {"models", "runtime", "storage", "dsp", "contract"},
    "benchmarks": {"blocks", "cli", "models", "runtime", "storage", "dsp", "contract"},
}
GNU_RADIO = {"gnuradio", "pmt"}
MAY_USE_GNU_RADIO = {"blocks", "cli", "benchmarks"}
GNU_RADIO_RECIPES = {"emind_training.synthesis.rml2016"}  # a published recipe that is made of GNU Radio's blocks
NEVER = {"contract": {"torch", "pyarrow"}, "dsp": {"torch", "pyarrow"}}
FOLDERS = {"contract", "dsp", "models", "runtime", "storage"}


def part_of_module(name: str) -> str | None:
    """Part that an absolute module name of this repository belongs to; None for anybody else's module."""
    words = name.split(".")
    if words[:2] == ["gnuradio", "emind"]:
        words = words[1:]
    if words[0] == "emind_training":
        return "training"
    if words[0] == "emind_benchmarks":
        return "benchmarks"
    if words[0] != "emind":
        return None
    if len(words) == 1:
        return "blocks"  # the package itself offers the blocks
    if words[1] in FOLDERS:
        return words[1]
    return "cli" if words[1] in ("cli", "commands") else "blocks"


def module_name(path: Path) -> str:
    """Absolute name of a file of this repository, a package's __init__ included as such."""
    for folder, name in ((EMIND, "emind"), (TRAINING, "emind_training"), (BENCHMARKS, "emind_benchmarks")):
        if path.is_relative_to(folder):
            return ".".join([name, *path.relative_to(folder).with_suffix("").parts])
    raise ValueError(path)


def imported(tree: ast.AST, name: str) -> set[str]:
    """Absolute names of all modules that a module called ``name`` imports, wherever in it the import stands.

    Of ``from X import a`` both X and X.a are given: ``a`` may be a module.
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = name.split(".")[:-node.level] if node.level else []
            base += node.module.split(".") if node.module else []
            names.update(".".join([*base, alias.name]) for alias in node.names)
            if node.module:
                names.add(".".join(base))
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if function in ("import_module", "__import__") and not str(node.args[0].value).startswith("."):
                names.add(str(node.args[0].value))
    return names


def faults(source: str, name: str) -> list[str]:
    """What a module called ``name`` with this source imports and must not."""
    part = part_of_module(name)
    assert part is not None, name
    found = []
    for target in sorted(imported(ast.parse(source), name)):
        top = target.split(".")[0]
        other = part_of_module(target)
        if other is None:
            if top in GNU_RADIO and part not in MAY_USE_GNU_RADIO and name not in GNU_RADIO_RECIPES:
                found.append(f"{name} ({part}) imports {target}: only blocks and commands may use GNU Radio")
            if top in NEVER.get(part, ()):
                found.append(f"{name} ({part}) imports {target}: {part} does without it")
        elif other != part and other not in MAY_IMPORT[part]:
            found.append(f"{name} ({part}) imports {target} ({other})")
    return found


def modules() -> list[Path]:
    return sorted(path for folder in (EMIND, TRAINING, BENCHMARKS) for path in folder.rglob("*.py")
                  if not path.name.startswith("qa_"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_what_its_part_may(path):
    assert faults(path.read_text(encoding="utf-8"), module_name(path)) == []


def test_every_part_was_looked_at():
    assert {part_of_module(module_name(path)) for path in modules()} == set(MAY_IMPORT)


@pytest.mark.parametrize("name, source", [
    ("emind.dsp.energy", "import torch"),
    ("emind.contract.window", "from pyarrow import parquet"),
    ("emind.runtime.engine", "from gnuradio import gr"),
    ("emind.models.heads", "def forward():\n    import pmt"),
    ("emind.models.heads", "from ..runtime import engine"),
    ("emind.models.heads", "from .. import runtime"),
    ("emind.storage.sigmf", "def later():\n    from emind.dsp import energy"),
    ("emind.windowing", "from .models import heads"),
    ("emind.windowing", "import emind_training.finetune"),
    ("emind.inference", "from .cli import main"),
    ("emind.cli", "import importlib\nimportlib.import_module('emind_training.cli')"),
    ("emind_training.finetune", "from gnuradio.emind import windowing"),
    ("emind_training.finetune", "import gnuradio.digital"),
])
def test_a_forbidden_import_is_found(name, source):
    assert len(faults(source, name)) >= 1


@pytest.mark.parametrize("name, source", [
    ("emind.windowing", "import numpy as np\nimport pmt\nfrom gnuradio import gr\nfrom .contract import tags"),
    ("emind.runtime.engine", "import torch\nfrom ..models.emind import EMind\nfrom .weights import read"),
    ("emind.commands.classify", "from gnuradio import blocks\nfrom ..inference import inference"),
    ("emind_training.finetune", "from emind.models import emind\nfrom .synthesis import scene"),
])
def test_an_allowed_import_is_not_called_a_fault(name, source):
    assert faults(source, name) == []
