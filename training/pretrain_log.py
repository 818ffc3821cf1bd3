"""What a pretraining run shows and writes along the way: progress, log.jsonl, TensorBoard, and the probe's picture."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

LOG, TENSORBOARD, PICTURE = "log.jsonl", "tensorboard", "probe.png"


class RunLog:
    """Logs of the one process that logs; in the others nothing is written. Lines carry ``step``: steps done by then."""

    def __init__(self, folder: Path, name: str, step: int, active: bool) -> None:
        """Lines of a killed run that lie behind ``step``, which it resumes from, are dropped."""
        self.active = active
        self.name = name
        if not active:
            return
        from torch.utils.tensorboard import SummaryWriter

        kept = [line for line in read_log(folder / LOG) if line["step"] <= step] if step else []
        (folder / LOG).write_text("".join(json.dumps(line) + "\n" for line in kept))
        self.file = open(folder / LOG, "a")
        self.board = SummaryWriter(str(folder / TENSORBOARD), purge_step=step + 1 if step else None)
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn("{task.percentage:>5.1f} %"),
            TimeRemainingColumn(), console=Console(highlight=False),
        )
        self.task = self.progress.add_task(name, total=1.0)
        self.progress.start()

    def line(self, kind: str, step: int, values: dict, scalars: dict[str, float]) -> None:
        """A line of log.jsonl, and the same as scalars of TensorBoard."""
        if not self.active:
            return
        self.file.write(json.dumps({"kind": kind, "step": step} | values) + "\n")
        self.file.flush()
        for name, value in scalars.items():
            self.board.add_scalar(name, value, step)

    def show(self, share: float, text: str) -> None:
        if self.active:
            self.progress.update(self.task, completed=share, description=f"{self.name} {text}")

    def say(self, text: str) -> None:
        if self.active:
            self.progress.console.print(text)

    def close(self) -> None:
        if self.active:
            self.progress.stop()
            self.file.close()
            self.board.close()
            self.active = False


def read_log(path: Path) -> list[dict]:
    """The whole lines of a log; the last may have been cut short by a kill."""
    lines = []
    if path.exists():
        for text in path.read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                break
    return lines


def draw_probe(path: Path, probes: list[dict], title: str) -> None:
    """Probe accuracy over the steps and signals of pretraining: the paper's figure 10."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    steps = [probe["step"] for probe in probes]
    axes.plot(steps, [100 * probe["accuracy"] for probe in probes], marker="o", color="tab:blue")
    axes.axhline(100 * probes[0]["accuracy"], color="tab:gray", linestyle=":", label=f"after {steps[0]} steps")
    axes.set_xlabel("steps of pretraining")
    axes.set_ylabel("linear probe, % right")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    if steps[-1] > 0:
        each = probes[-1]["signals"] / steps[-1]
        above = axes.secondary_xaxis("top", functions=(lambda s: s * each / 1e3, lambda s: s * 1e3 / each))
        above.set_xlabel("thousand signals, about")
    figure.savefig(path, dpi=120)
