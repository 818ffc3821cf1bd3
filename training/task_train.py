"""The loop of a fine-tuning run on sets of signals, for one head or several on one encoder.

    step ─► whose turn (by share) ─► its next batch ─► augmented ─► encoder, head ─► loss ─► AdamW ─► running average
    every so many steps: validation of the average ─► the best is kept ─► no better one for `patience` looks: the end

In ``runs/<name>/``: ``checkpoint.safetensors`` (resumes to the identical next step), ``best.safetensors`` (the averaged
weights of the best look), ``log.jsonl``. The test parts are not read here.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from emind.contract.errors import EMindError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor

from .kinds_loss import kinds_batch, kinds_loss
from .run_control import asked_to_stop, reproducible
from .run_state import load_state, save_state
from .task_config import TABLE, TaskFinetuneConfig
from .task_data import TaskBatch
from .task_figures import answers, look, loss_of
from .task_model import Prepared, parameter_groups
from .task_sources import Source, shared_out
from .tasks import ANOMALY, CLASSIFICATION

CHECKPOINT, BEST, LOG, BAD_BATCH = "checkpoint.safetensors", "best.safetensors", "log.jsonl", "bad_batch.npz"
INIT = ("sha256", "fresh", "heads")  # of the file that the run started from: what a resumed run must find again
FIXED = ("model", TABLE, "data", "air", "augment", "optim", "lora", "kinds")  # tables that a resumed run must not change


def learning_rate(step: int, config: TaskFinetuneConfig) -> float:
    """Linear warm-up, then cosine decay to zero."""
    o = config.optim
    if step < o.warmup_steps:
        return o.learning_rate * (step + 1) / o.warmup_steps
    return o.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - o.warmup_steps) / max(1, o.steps - o.warmup_steps)))


def train(own: Prepared, sources: Sequence[Source], config: TaskFinetuneConfig, folder: Path, resume: bool,
          track: str) -> dict:
    """Run to the last step, or until early stopping; ``own.model`` then has the best averaged weights.

    Returns the record: steps, examples of each task, seconds, history of looks, best step.

    Raises
    ------
    EMindError: the loss is not finite; a checkpoint is there without ``resume``, or is of another run
    KeyboardInterrupt: asked to stop; the step was finished and saved
    """
    folder.mkdir(parents=True, exist_ok=True)
    learners = [source for source in sources if own.model.specs[source.task.name].kind != ANOMALY]
    if not learners:
        return {"seconds": 0.0, "steps": 0, "examples": {}, "history": [], "init": own.init, "frozen": own.frozen}
    with reproducible(config.run.seed, config.run.threads, torch.device("cpu")), asked_to_stop() as asked:
        return _Run(own, learners, config, folder, track).loop(resume, asked)


class _Run:
    def __init__(self, own: Prepared, sources: list[Source], config: TaskFinetuneConfig, folder: Path,
                 track: str) -> None:
        self.own, self.sources, self.config, self.folder = own, sources, config, folder
        self.tables = [config.of(source.task.name) for source in sources]
        shares = [table.share for table in self.tables]
        self.kinds = len(sources) if config.kinds.share else -1  # whose turn it is when kinds of signals are told apart
        self.turns = shared_out(shares + [config.kinds.share] * (self.kinds > 0), config.optim.steps)
        self.optimizer = torch.optim.AdamW(parameter_groups(own, config.optim.weight_decay), lr=0.0, betas=(0.9, 0.98))
        self.average = {name: p.detach().clone() for name, p in own.trained().items()}
        self.record: dict = {
            "seconds": 0.0, "history": [], "best": None, "since_best": 0, "track": track, "init": own.init,
            "frozen": own.frozen, "sources": {source.task.name: source.state() for source in sources}}

    def loop(self, resume: bool, asked) -> dict:
        o, run = self.config.optim, self.config.run
        first = self._resumed() if resume else self._fresh()
        record, started, before = self.record, time.monotonic(), self.record["seconds"]
        saved, step = started, first
        done = record["since_best"] >= o.patience > 0
        streams = [self._stream(k, first) for k in range(len(self.sources))]
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
        with Progress(*columns) as progress, open(self.folder / LOG, "a") as log:
            bar = progress.add_task(run.name, total=o.steps, completed=first)
            while step < o.steps and not done:
                k = self.turns[step]
                name = "kinds" if k == self.kinds else self.sources[k].task.name
                loss, norm = self._updated(step, self._kinds(step) if k == self.kinds else self._loss(
                    step, k, next(streams[k])))
                record["seconds"] = before + time.monotonic() - started
                if step % run.log_every == 0:
                    _write(log, {"step": step, "task": name, "loss": round(loss, 5), "norm": round(norm, 3),
                                 "seconds": round(record["seconds"], 1)})
                    progress.update(bar, completed=step, description=f"{run.name} {name} {loss:.3f}")
                step += 1
                last = step == o.steps
                if step % run.validate_every == 0 or last:
                    line = self._look(step)
                    done = record["since_best"] >= o.patience > 0
                    _write(log, line)
                    progress.console.print(_told(line), highlight=False)
                if time.monotonic() - saved >= run.checkpoint_seconds or last or done or asked.is_set():
                    self._save(step)
                    saved = time.monotonic()
                if asked.is_set() and not (last or done):
                    raise KeyboardInterrupt
        self.own.model.load_state_dict(load_file(self.folder / BEST), strict=False)
        self.own.model.eval()
        counts = {source.task.name: self.turns[:step].count(k) * self._size(k) for k, source in enumerate(self.sources)}
        return {key: value for key, value in record.items() if key not in ("since_best", "sources", "track")} | {
            "steps": step, "examples": counts}

    def _loss(self, step: int, k: int, batch: TaskBatch) -> Tensor:
        source, spec = self.sources[k], self.own.model.specs[self.sources[k].task.name]
        generator = _generator(self.config.run.seed, step)
        batch = batch.augmented(source.task, self.config.augment, generator)
        if self.tables[k].any_rate:
            batch = batch.at_any_rate(generator)
        torch.manual_seed(_number(self.config.run.seed, step, 1))  # of dropout: a resumed run draws the same
        self.own.modes()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.optim.bfloat16):
            outputs, latent = self.own.answer(batch.iq_BL2, batch.rate_B, spec.name)
        latent = None if latent is None else latent.float()
        loss = self.tables[k].weight * loss_of(spec, outputs.float(), batch, self.tables[k], self.config, latent)
        if not torch.isfinite(loss):
            np.savez(self.folder / BAD_BATCH, iq=batch.iq_BL2, label=batch.label_B, rate=batch.rate_B, rows=batch.rows)
            raise EMindError(f"loss of {spec.name} is not finite at step {step}; the batch is in "
                             f"{self.folder / BAD_BATCH}")
        return loss

    def _kinds(self, step: int) -> Tensor:
        iq_BL2, rate_B = kinds_batch(_number(self.config.run.seed, step, 3), self.config.kinds, self.config.air)
        torch.manual_seed(_number(self.config.run.seed, step, 1))
        self.own.modes()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.optim.bfloat16):
            pooled_BF = self.own.model.features(iq_BL2, rate_B).pooled_BF
        return self.config.kinds.weight * kinds_loss(pooled_BF.float(), self.config.kinds)

    def _updated(self, step: int, loss: Tensor) -> tuple[float, float]:
        """One step of the optimizer and of the average. The loss, and the gradient's norm before it is clipped."""
        o = self.config.optim
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.config) * (o.encoder_rate if group["encoder"] else 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        trained = self.own.trained()
        norm = torch.nn.utils.clip_grad_norm_(list(trained.values()), o.clip_norm)
        self.optimizer.step()
        # The average starts short, so that early looks are not at the initial weights.
        decay = min(o.average, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, p in trained.items():
                self.average[name].lerp_(p, 1 - decay)
        return loss.item(), float(norm)

    @torch.no_grad()
    def _look(self, step: int) -> dict:
        """Validate the average; keep it where it is the best so far."""
        trained = self.own.trained()
        learning = {name: p.detach().clone() for name, p in trained.items()}
        for name, p in trained.items():
            p.copy_(self.average[name])
        looks = {}
        for source, table in zip(self.sources, self.tables, strict=True):
            found = answers(self.own, source.task.name, source.validating())
            looks[source.task.name] = look(found, table, self.config)
        score = self._score(looks)
        better = self.record["best"] is None or score > self.record["best"]["score"]
        if better:
            self.record["best"], self.record["since_best"] = {"step": step, "score": score}, 0
            _save_tensors(self.folder / BEST, {name: p.detach() for name, p in trained.items()})
        else:
            self.record["since_best"] += 1
        for name, p in trained.items():
            p.copy_(learning[name])
        line = {"step": step, "validation": looks, "score": score, "best": better}
        self.record["history"].append(line)
        return line

    def _score(self, looks: dict[str, dict[str, float]]) -> float:
        """What the best look is chosen by: mean accuracy where every head classifies, else the weighted loss."""
        if all(self.own.model.specs[name].kind == CLASSIFICATION for name in looks):
            return round(float(np.mean([one["accuracy"] for one in looks.values()])), 5)
        weights = {source.task.name: table.weight for source, table in zip(self.sources, self.tables, strict=True)}
        return round(-sum(weights[name] * one["loss"] for name, one in looks.items()), 5)

    def _size(self, k: int) -> int:
        return self.tables[k].batch or self.config.optim.batch

    def _stream(self, k: int, step: int):
        """Batches of a source from the one on that it has reached at ``step``."""
        name = self.sources[k].task.name
        seed = self.config.run.seed if self.sources[k].train is None else _number(self.config.run.seed, zlib.crc32(
            name.encode()), 2)
        return iter(self.sources[k].training(seed, self._size(k), self.turns[:step].count(k), self.turns.count(k)))

    def _fresh(self) -> int:
        if (self.folder / CHECKPOINT).exists():
            raise EMindError(f"{self.folder / CHECKPOINT} exists; give --resume to go on, or remove the folder to "
                             "start anew")
        for name in (LOG, BEST):
            (self.folder / name).unlink(missing_ok=True)
        return 0

    def _resumed(self) -> int:
        path = self.folder / CHECKPOINT
        if not path.exists():
            return self._fresh()
        step, record = load_state(path, self._config(), self.own.model, self.average, self.optimizer, FIXED)
        for key in ("track", "init", "frozen", "sources"):
            before, now = record[key], self.record[key]
            if key == "init" and before and now:  # what else is told of a file may have been other in older versions
                before, now = ({name: init.get(name) for name in INIT} for init in (before, now))
            if before != now:
                raise EMindError(f"checkpoint {path}: the run had another {key} ({json.dumps(record[key])}); give the "
                                 "same as before, or start without --resume")
        self.record = record | {"init": self.record["init"]}
        return step

    def _save(self, step: int) -> None:
        save_state(self.folder / CHECKPOINT, step, self._config(), self.own.model, self.average, self.optimizer,
                   self.record)

    def _config(self) -> dict:
        return json.loads(json.dumps(self.config.to_dict()))  # as it comes back from a file


def _save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    temporary = path.with_suffix(".part")
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, temporary)
    temporary.replace(path)


def _number(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]) >> 1


def _generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(_number(seed, step, 0))


def _told(line: dict) -> str:
    looks = "; ".join(f"{name} " + ", ".join(f"{key} {value:.4f}" for key, value in one.items())
                      for name, one in line["validation"].items())
    return f"step {line['step']}: {looks}" + (", the best so far" if line["best"] else "")


def _write(log, line: dict) -> None:
    log.write(json.dumps(line) + "\n")
    log.flush()
