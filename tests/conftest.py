"""What the tests share: weights, recordings, and the command line run in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

# Where a test itself is the first to import openvino, that would start a process for each step of a conversion, to
# report it to the library's maker. What the package does about it is tested in a process of its own.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

# A process for inference takes seconds to start: engines run in the tests' own, but for tests of that very thing.
os.environ.setdefault("EMIND_PROCESSES", "0")

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Outcome:
    """What a command gave: exit status, standard output, standard error."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Threads of torch that wait for each other on a busy machine take minutes for what one does in a second."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)


@pytest.fixture
def emind(capsys) -> Callable[..., Outcome]:
    """Runs `emind` with these arguments in this process."""
    from emind.cli import main

    def run(*arguments) -> Outcome:
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as end:  # argparse's way to end
            status = end.code or 0
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory) -> Path:
    """A whole weights file of a very small untrained encoder: for what does not depend on right answers."""
    torch = pytest.importorskip("torch")
    from emind.contract.vocabulary import MODULATIONS
    from emind.contract.window import HeadSpec, WindowSpec
    from emind.models.checkpoint import save_weights
    from emind.models.emind import EncoderConfig
    from emind.models.heads import MultiHead

    torch.manual_seed(1)
    heads = {"modulation": HeadSpec("modulation", "classification", MODULATIONS)}
    model = MultiHead(EncoderConfig(width=32, depth=1, heads=1, patch=16, channels="iq"), heads)
    with torch.no_grad():  # untrained logits hardly differ: spread them, so that windows get different answers
        for parameter in model.heads["modulation"].logits.parameters():
            parameter.mul_(15)
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_weights(path, model, WindowSpec(patch=16), {"modulation": {"temperature": 1.0}}, {"seed": 1}, {})
    return path


@pytest.fixture(scope="session")
def released_weights() -> str:
    """The name of the weights that come with the module."""
    if not (ROOT / "python" / "emind" / "weights" / "emind-nano.safetensors").is_file():
        pytest.skip("the released weights python/emind/weights/emind-nano.safetensors are not in this checkout")
    return "emind-nano"


@pytest.fixture(scope="session")
def captures() -> Path:
    """The folder of real recordings that may lie beside the checkout."""
    folder = ROOT.parent / "shared" / "captures"
    if not (folder / "index.json").is_file():
        pytest.skip("no folder of real recordings beside this checkout (../shared/captures)")
    return folder


def tone_bursts(count: int, seed: int = 7, noise: float = 0.05) -> np.ndarray:
    """Bursts of 3,000 samples with pauses of 2,000, in noise, each at a frequency of its own; complex64 (count,)."""
    generator = np.random.default_rng(seed)
    symbols = np.exp(0.5j * np.pi * generator.integers(0, 4, count // 8 + 1)).repeat(8)[:count]
    time = np.arange(count)
    frequency = generator.uniform(-0.01, 0.01, count // 5000 + 1)[time // 5000]
    hiss = generator.standard_normal((count, 2)) @ [1, 1j]
    bursts = 0.5 * symbols * np.exp(2j * np.pi * frequency * time) * (time % 5000 < 3000)
    return (bursts + noise * hiss).astype(np.complex64)


@pytest.fixture
def raw(tmp_path) -> Callable[..., Path]:
    """Writes complex samples to a raw cf32_le file."""

    def write(samples: np.ndarray, name: str = "recording.cf32") -> Path:
        path = tmp_path / name
        np.asarray(samples, np.complex64).tofile(path)
        return path

    return write


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
