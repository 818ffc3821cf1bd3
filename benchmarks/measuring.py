"""What the benches share: weights of any size, windows to infer, the engine's own rate, and tables in the pages."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "realtime.md"
IMAGES = ROOT / "docs" / "images"
BATCH = 32
RATE_HZ = 1e6  # what the engine is told; it does not change its speed


def add_weights_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", metavar="NAME", help="name or path of a weights file (default: emind-nano)")
    parser.add_argument("--size", choices=("nano", "tiny", "small", "base"),
                        help="instead of --weights: untrained weights of this size with the tokenizer of emind-nano; "
                             "speed does not depend on what was learned")
    parser.add_argument("--threads", type=int, default=0, metavar="N",
                        help="processor threads (default: 0 = all, or where the stream does not wait those that the "
                             "flowgraph leaves)")


def add_apart_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--apart", action="store_true",
                        help="the engine's processes and the flowgraph on cores of their own")


def stream_engine(weights: str, options: argparse.Namespace, backend: str, policy: str):
    """The engine that the inference block would load under that policy."""
    from emind.runtime.policy import LOSSLESS
    from emind.runtime.ready import ready_engine

    waits = policy == LOSSLESS
    return ready_engine(weights, backend, options.threads, options.batch, waits=waits, apart=options.apart)


def placed(engine, options: argparse.Namespace) -> dict:
    """On how much of the machine an engine runs, for figures."""
    from emind.runtime.machine import available_threads

    processes = len(getattr(engine, "processes", ()))
    return {"threads": getattr(engine, "threads", 0), "cores": available_threads(), "processes": processes,
            "apart": options.apart}  # fmt: skip


def in_words(figures: dict) -> str:
    """The same, for a page."""
    where = "cores of their own" if figures["apart"] else "cores shared with the flowgraph"
    return f"{figures['threads']} of {figures['cores']} threads in {figures['processes']} processes, {where}"


@contextmanager
def weights_of(options: argparse.Namespace) -> Iterator[str]:
    """Name or path of the weights that ``--weights`` or ``--size`` ask for; untrained ones last as long as this."""
    from emind.contract.errors import UsageError

    if options.size is None:
        yield options.weights or "emind-nano"
        return
    if options.weights is not None:
        raise UsageError("--size stands for untrained weights: give it or --weights, not both")
    with tempfile.TemporaryDirectory() as folder:
        yield str(write_untrained(options.size, Path(folder)))


def write_untrained(size: str, folder: Path) -> Path:
    """A weights file of that size, initialised only, with the tokenizer and the classes of the released nano."""
    import torch
    from emind.contract.vocabulary import MODULATIONS
    from emind.contract.window import HeadSpec, WindowSpec
    from emind.models.checkpoint import save_weights
    from emind.models.emind import SIZES
    from emind.models.heads import MultiHead

    torch.manual_seed(1)
    config = SIZES[size](patch=16, channels="iq_envelope_phase", spectral=True)
    model = MultiHead(config, {"modulation": HeadSpec("modulation", "classification", MODULATIONS)})
    path = folder / f"untrained-{size}.safetensors"
    save_weights(path, model, WindowSpec(patch=16), {"modulation": {"temperature": 1.0}}, {"seed": 1}, {})
    return path


def noise_windows(length: int, count: int = 4 * BATCH):
    """Windows of white noise, complex64 (count, length)."""
    import numpy as np

    return np.random.default_rng(1).standard_normal((count, 2 * length), np.float32).view(np.complex64)


def engine_rate(engine, windows, seconds: float, batch: int = BATCH) -> float:
    """Windows a second of ``engine.infer`` on batches, outside GNU Radio, for ``seconds``."""
    import numpy as np

    batch = min(batch, len(windows))
    rates = np.full(batch, RATE_HZ)
    batches = [np.ascontiguousarray(windows[i : i + batch]) for i in range(0, len(windows) - batch + 1, batch)]
    done, start = 0, time.perf_counter()
    while done == 0 or time.perf_counter() - start < seconds:
        engine.infer(batches[done // batch % len(batches)], rates)
        done += batch
    return done / (time.perf_counter() - start)


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def _parts(page: str, name: str) -> tuple[str, str, str]:
    """The page up to the opening mark of this name, what stands between the marks, and the rest from the closing one.

    ValueError where there are none.
    """
    begin, end = f"<!-- {name}: written by `emind bench {name} --write` -->", f"<!-- /{name} -->"
    before, mark, rest = page.partition(begin)
    between, closing, after = rest.partition(end)
    if not mark or not closing:
        raise ValueError(f"the page has no marks for {name}")
    return before + begin, between, end + after


def section(page: str, name: str) -> str:
    """What stands between the marks of this name."""
    return _parts(page, name)[1].strip()


def with_section(page: str, name: str, text: str) -> str:
    """The page with what stands between the marks of this name replaced."""
    before, _, after = _parts(page, name)
    return f"{before}\n\n{text.strip()}\n\n{after}"


def write_section(name: str, text: str) -> None:
    """Put a bench's table into docs/realtime.md."""
    PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), name, text), encoding="utf-8")


def hand_out(
    name: str,
    figures: dict,
    options: argparse.Namespace,
    page: Callable[[dict], str],
    plot: Callable[[dict, Path], None],
    shows: str,
) -> None:
    """Give a bench's figures to whoever asked for them: ``--out`` (JSON, table, plot), ``--write`` (the page, with a
    plot that ``shows`` this), and table or JSON on the console."""
    text = page(figures)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
        (options.out / f"{name}.md").write_text(text + "\n")
        plot(figures, options.out / f"{name}.png")
    if options.write:
        plot(figures, IMAGES / f"realtime-{name}.png")
        write_section(name, f"{text}\n\n![{shows}](images/realtime-{name}.png)")
    print(json.dumps(figures) if options.json else text)


def add_output_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """``--out``, ``--json`` and ``--write``, see :func:`hand_out`."""
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"folder for {name}.json, {name}.md, {name}.png")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--write", action="store_true", help="put table and plot into docs/realtime.md")


def new_figure():
    """Figure and axes of the size that the documentation's pictures have."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(8, 4.5), layout="constrained")
