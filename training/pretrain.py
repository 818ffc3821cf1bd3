"""Pretraining of the masked autoencoder on packed rows (EMind, section V).

The loop is all here: draw, forward, loss, backward, clip, step, look, save. What it writes lies in ``runs/<name>/``:
``checkpoint.safetensors`` (resumes to the identical next step), ``best.safetensors`` (the same, at the lowest
validation loss), ``log.jsonl``, ``tensorboard/``, ``probe.png``, and at the end the weights file.

    loader ─► rows ─► error of each signal ─► loss ─► step
       ▲                       └─► losses of each set ─► weights ─┐
       └──────────────────────────────────────────────────────────┘
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from emind.contract.errors import EMindError, UsageError
from emind.models.masking import random_selection
from emind.models.packed_batch import PackedBatch, Patches
from emind.models.pretraining import MaskedAutoencoder
from safetensors.torch import save_file
from torch import Tensor, nn

from .corpus import Corpus
from .finetune import parameter_groups
from .loader import Loader, fixed_batches
from .parallel import Group, gradients_kept, joined, plain, whole
from .pretrain_config import PretrainConfig
from .pretrain_log import PICTURE, RunLog, draw_probe
from .pretrain_state import Progress, check_same_run, read_state, restore, save_state
from .run_control import asked_to_stop, interrupts_left_alone, reproducible
from .weighting import LossHistory, first_weights, next_weights

CHECKPOINT, BEST = "checkpoint.safetensors", "best.safetensors"


@dataclass(frozen=True, eq=False)
class Losses:
    """Sums over signals, by set, all float64 on the processor: squared errors and how many values; and of the
    spectral features the mean squared error of each signal, added up, and how many signals."""

    sums_4K: Tensor

    @classmethod
    def none(cls, sets: int) -> Losses:
        return cls(torch.zeros(4, sets, dtype=torch.float64))

    def add(self, result, source_S: Tensor) -> None:
        spectral_S = torch.zeros_like(result.error_S)
        if result.spectral_error_S is not None:
            spectral_S = result.spectral_error_S / result.spectral_count_S
        rows_4S = torch.stack([result.error_S, result.count_S, spectral_S, torch.ones_like(result.error_S)])
        self.sums_4K.index_add_(1, source_S.cpu(), rows_4S.detach().double().cpu())

    def of_all(self, spectral_weight: float) -> dict[str, float]:
        error, count, spectral, signals = self.sums_4K.sum(dim=1).tolist()
        return _parts(error, count, spectral, signals, spectral_weight)

    def of_sets(self, spectral_weight: float) -> list[float]:
        """Loss of each set; NaN of one without a signal."""
        sets = self.sums_4K.T.tolist()
        return [_parts(*column, spectral_weight)["loss"] if column[3] else math.nan for column in sets]


def _parts(error: float, count: float, spectral: float, signals: float, spectral_weight: float) -> dict[str, float]:
    reconstruction = error / max(count, 1.0)
    if not spectral_weight:
        return {"loss": reconstruction}
    spectral /= signals
    return {"loss": reconstruction + spectral_weight * spectral, "reconstruction": reconstruction, "spectral": spectral}


def learning_rate(share: float, config: PretrainConfig) -> float:
    """``share`` of the run that is done in the middle of the step."""
    o = config.optim
    if share < o.warmup_share:
        return o.learning_rate * share / o.warmup_share
    done = min(1.0, (share - o.warmup_share) / (1 - o.warmup_share))
    return o.learning_rate * (o.final_share + (1 - o.final_share) * 0.5 * (1 + math.cos(math.pi * done)))


def share_done(steps: int, signals: int, epoch: int, config: PretrainConfig) -> float:
    """Of the run. An epoch is as many signals as the corpus' train part has, from whichever sets they were drawn."""
    o = config.optim
    return min(1.0, steps / o.steps if o.steps else signals / (o.epochs * epoch))


def in_parts(batch: PackedBatch, parts: int) -> Iterator[PackedBatch]:
    """The batch in so many batches of equally many of its rows."""
    rows = batch.iq_RC2.shape[0] // parts
    bounds = torch.searchsorted(batch.row_S, torch.arange(parts + 1) * rows).tolist()
    for k, (a, b) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        own = slice(k * rows, (k + 1) * rows)
        yield PackedBatch(
            batch.iq_RC2[own], batch.noise_RN[own], batch.row_S[a:b] - k * rows, batch.start_S[a:b],
            batch.length_S[a:b], batch.rate_S[a:b], batch.source_S[a:b], batch.patch, batch.number,
        )  # fmt: skip


def masked_values(batch: PackedBatch, mask_share: float) -> int:
    """How many values will be reconstructed: the loss divides by those of all processes and parts, so they are
    counted before any of them computes."""
    patches = Patches.of(batch)
    masked_M = random_selection(batch, patches, mask_share).index_M
    return 2 * int(patches.holds_signal(batch.patch)[masked_M].sum())


def backward(model: nn.Module, batch: PackedBatch, count: float, signals: float, group: Group,
             config: PretrainConfig, losses: Losses) -> None:
    """Gradients of the whole batch's loss, from this process's rows. ``count`` and ``signals`` are of all processes."""
    weight = config.model.spectral_weight
    for k, part in enumerate(parts := list(in_parts(batch, config.optim.accumulate))):
        part = part.to(group.device)
        with gradients_kept(model, k + 1 < len(parts)):
            with torch.autocast(group.device.type, torch.bfloat16, enabled=config.optim.bfloat16):
                result = model(part)
            loss = result.error_S.sum() / max(count, 1.0)
            if result.spectral_error_S is not None:
                loss = loss + weight * (result.spectral_error_S / result.spectral_count_S).sum() / signals
            (loss * group.world).backward()  # processes' gradients are averaged
        losses.add(result, part.source_S)


@torch.no_grad()
def validate(model: nn.Module, batches: list[PackedBatch], sets: int, group: Group, config: PretrainConfig) -> Losses:
    """Losses of the fixed batches, each computed by one process."""
    losses = Losses.none(sets)
    model.eval()
    # A model whose parameters are shared is computed by all processes together: those without work repeat some.
    for turn in range(-(-len(batches) // group.world)):
        index = turn * group.world + group.rank
        batch = batches[min(index, len(batches) - 1)].to(group.device)
        with torch.autocast(group.device.type, torch.bfloat16, enabled=config.optim.bfloat16):
            result = model(batch)
        if index < len(batches):
            losses.add(result, batch.source_S)
    model.train()
    return Losses(group.sum(losses.sums_4K))


def whole_model(model: nn.Module, config: PretrainConfig, keep: bool) -> MaskedAutoencoder | None:
    """A copy on the processor, gathered. All processes must call it; None where not ``keep``."""
    tensors = {name: whole(value) for name, value in plain(model).state_dict().items()}
    if not keep:
        return None
    with torch.random.fork_rng(devices=[]):
        copy = MaskedAutoencoder(config.autoencoder())
    copy.load_state_dict(tensors)
    return copy.eval()


def probed(model: MaskedAutoencoder, probe_set) -> float:
    """Accuracy of a linear classifier on the frozen encoder."""
    from .probe import linear_probe

    with torch.random.fork_rng(devices=[]):
        return linear_probe(model.encoder, probe_set, seed=0)


def next_batch(loader: Loader, stop: threading.Event, group: Group) -> PackedBatch | None:
    """The next batch; None where the run is to stop and has no need of it, or its producers were ended as well."""
    if stop.is_set() and group.world == 1:
        return None
    try:
        return next(loader)
    except RuntimeError:
        if stop.is_set():
            return None
        raise


def opened(config: PretrainConfig) -> tuple[Corpus, Corpus]:
    """Train and validation part of the corpus, of the same sets."""
    c = config.corpus
    train = Corpus.open(c.folder, "train", c.snr_above, c.skip_damaged, c.sets or None)
    validation = Corpus.open(c.folder, "validation", c.snr_above, c.skip_damaged, train.names)
    if missing := sorted({*train.names} - {*validation.names}):
        raise EMindError(f"{c.folder}: the validation file of {missing[0]} is damaged; mend it, or leave the set out "
                         "([corpus] sets)")
    for part in (train, validation):
        part.require_capacity(c.capacity)
    return train, validation


def identity(corpus: Corpus) -> dict:
    """What a checkpoint knows its corpus by."""
    return {"digest": corpus.digest(), **{name: corpus.signals(name) for name in corpus.names}}


def parts_of_a_step(config: PretrainConfig, world: int) -> None:
    """UsageError where processes or parts would get unequal numbers of rows."""
    rows, parts = config.corpus.rows, config.optim.accumulate
    if rows % (world * parts):
        raise UsageError(f"[corpus] rows {rows} cannot be shared equally by {world} processes in {parts} parts each "
                         "([optim] accumulate)")


def train(
    config: PretrainConfig, folder: Path, resume: bool, probe_set=None
) -> tuple[MaskedAutoencoder | None, Progress]:
    """Run to the last step. Returns the model, in the first process only, and what was run.

    ``probe_set`` is asked every ``config.probe.every`` steps, from the random initialisation on; only the first process
    needs one.

    Raises
    ------
    KeyboardInterrupt: asked to stop; the run is saved
    EMindError: a loss is not finite, the run exists already or is another, a fault of the corpus
    """
    run = config.run
    with joined(run.parallel) as group, reproducible(run.seed, run.threads, group.device), asked_to_stop() as stop:
        parts_of_a_step(config, group.world)
        return _train(config, folder, resume, probe_set, group, stop)


def _train(
    config: PretrainConfig, folder: Path, resume: bool, probe_set, group: Group, stop: threading.Event
) -> tuple[MaskedAutoencoder | None, Progress]:
    c, o, run = config.corpus, config.optim, config.run
    corpus, held_out = opened(config)
    names, epoch = corpus.names, len(corpus)
    own = identity(corpus)
    checkpoint, best = folder / CHECKPOINT, folder / BEST
    bare = MaskedAutoencoder(config.autoencoder(), checkpointing=run.recompute).to(group.device)
    model = group.wrapped(bare)
    optimizer = torch.optim.AdamW(parameter_groups(bare, o.weight_decay), lr=0.0, betas=o.betas)
    progress = Progress(weights=first_weights(names, c.weighting), losses={name: LossHistory() for name in names})
    if checkpoint.exists():
        if not resume:
            raise EMindError(f"{checkpoint} exists; give --resume to go on, or remove the folder to start anew")
        state, tensors = read_state(checkpoint)
        check_same_run(checkpoint, state, config.to_dict(), own)
        progress = restore(checkpoint, state, tensors, bare, optimizer)
    group.wait()  # the first process must not write before the others have looked
    folder.mkdir(parents=True, exist_ok=True)
    since_look = Losses(torch.tensor(progress.since_look, dtype=torch.float64)) if progress.since_look else \
        Losses.none(len(names))
    validation = list(fixed_batches(held_out, c.validation_signals, min(8, c.rows), c.capacity, config.model.patch))
    log = RunLog(folder, run.name, progress.step, group.first)
    with interrupts_left_alone():
        loader = Loader(corpus, c.rows, c.capacity, config.model.patch, run.seed, progress.weights, c.open_rows,
                        group.rank, group.world, run.producers, progress.loader)
    for line in corpus.skipped + held_out.skipped:
        log.say(line)

    def look(weigh: bool) -> bool:
        """Validate; where ``weigh``, let the weights follow. Whether this is the best so far."""
        of_sets = validate(model, validation, len(names), group, config)
        valid, trained = (dict(zip(names, one.of_sets(config.model.spectral_weight), strict=True))
                          for one in (of_sets, since_look))
        there = [loss for loss, signals in zip(valid.values(), of_sets.sums_4K[3].tolist(), strict=True) if signals]
        mean = sum(there) / len(there)
        if weigh:
            for name in names:
                progress.losses[name].train.append(trained[name])
                progress.losses[name].validation.append(valid[name])
            since_look.sums_4K.zero_()
            if c.weighting == "adaptive":
                progress.weights = next_weights(progress.losses, progress.weights)
                loader.set_weights(progress.weights)
        values = {"validation": mean, "sets": valid, "weights": progress.weights}
        progress.history.append({"step": progress.step, "signals": progress.signals, **values})
        scalars = {f"{kind}/{name}": value for kind, per_set in
                   (("validation", valid), ("training", trained), ("weight", progress.weights))
                   for name, value in per_set.items() if math.isfinite(value)}
        log.line("look", progress.step, values, scalars | {"validation": mean})
        log.say(f"step {progress.step}: validation {mean:.4f}; "
                + ", ".join(f"{name} {valid[name]:.3f} ×{progress.weights[name]:g}" for name in names))
        if progress.step == 0 or not mean < (math.inf if progress.best_loss is None else progress.best_loss):
            return False
        progress.best_loss, progress.best_step = mean, progress.step
        return True

    def probe() -> None:
        copy = whole_model(model, config, group.first)
        if group.first:
            accuracy = probed(copy, probe_set)
            progress.probes.append({"step": progress.step, "signals": progress.signals, "accuracy": accuracy})
            log.line("probe", progress.step, progress.probes[-1], {"probe/accuracy": accuracy})
            log.say(f"step {progress.step}: linear probe {100 * accuracy:.1f} % right")
            draw_probe(folder / PICTURE, progress.probes, f"{run.name}: linear probe on {probe_set.name}")
        group.wait()

    def save(paths: list[Path]) -> None:
        progress.loader = loader.state()
        progress.since_look = since_look.sums_4K.tolist()
        save_state(paths, config.to_dict(), own, bare, optimizer, progress, group.first)

    started = saved = time.monotonic()
    before, waited = progress.seconds, progress.waited
    try:
        if progress.step == 0:
            look(weigh=False)  # how far off a random start is says nothing about a set
            if config.probe.every:
                probe()
        model.train()
        share = share_done(progress.step, progress.signals, epoch, config)
        lap = time.monotonic(), progress.signals, progress.samples
        while share < 1:
            batch = next_batch(loader, stop, group)
            if batch is None:
                if group.world == 1:  # saving may take all processes, and here they cannot agree on it
                    save([checkpoint])
                raise KeyboardInterrupt
            # Sums that every process needs before the step: values, signals, samples, is it time to save, or to stop.
            due = group.first and time.monotonic() - saved > run.checkpoint_seconds
            count, signals, samples, due, stopped = group.sum(torch.tensor([
                masked_values(batch, config.model.mask_share), batch.signals, int(batch.length_S.sum()), due,
                stop.is_set()], dtype=torch.float64)).tolist()  # fmt: skip
            begun, share = share, share_done(progress.step + 1, progress.signals + int(signals), epoch, config)
            rate = learning_rate((begun + share) / 2, config)
            for parameters in optimizer.param_groups:
                parameters["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            losses = Losses.none(len(names))
            backward(model, batch, count, signals, group, config, losses)
            losses = Losses(group.sum(losses.sums_4K))
            norm = float(whole(nn.utils.clip_grad_norm_(bare.parameters(), o.clip_norm)))
            values = losses.of_all(config.model.spectral_weight)
            if not math.isfinite(values["loss"]) or not math.isfinite(norm):
                raise EMindError(f"the loss or its gradient is not finite at step {progress.step + 1} (loss "
                                 f"{values['loss']}, gradient {norm}); the batch is in {_bad(folder, batch, group)}")
            optimizer.step()
            since_look.sums_4K.add_(losses.sums_4K)
            progress.step += 1
            progress.signals += int(signals)
            progress.samples += int(samples)
            for name, signals in zip(names, losses.sums_4K[3].tolist(), strict=True):
                progress.drawn[name] = progress.drawn.get(name, 0) + int(signals)
            now = time.monotonic()
            progress.seconds, progress.waited = before + now - started, waited + loader.wait_seconds
            step, last = progress.step, share >= 1
            if step % run.log_every == 0 or last:
                speed = [count / (now - lap[0]) for count in (progress.signals - lap[1], progress.samples - lap[2])]
                wait = progress.waited / progress.seconds
                lap = now, progress.signals, progress.samples
                line = values | {"norm": norm, "learning_rate": rate, "signals": progress.signals}
                timing = {"signals_per_s": speed[0], "samples_per_s": speed[1], "wait_share": wait}
                log.line("step", step, line | {"seconds": round(progress.seconds, 2), "wait_share": round(wait, 4)},
                         {f"train/{name}": value for name, value in (line | timing).items()})
                log.show(share, f"loss {values['loss']:.4f}, {speed[0]:.0f} signals/s, {speed[1] / 1e6:.2f} MS/s")
            weigh = step % c.weighting_every == 0
            better = look(weigh) if weigh or last or step % run.validate_every == 0 else False
            if config.probe.every and (last or step % config.probe.every == 0):
                probe()
            if better or due or stopped or last:
                save([best, checkpoint] if better else [checkpoint])
                saved = time.monotonic()
            lap = lap[0] + time.monotonic() - now, *lap[1:]  # the rate is that of steps
            if stopped and not last:
                raise KeyboardInterrupt
        return whole_model(model, config, group.first), progress
    finally:
        loader.close()
        log.close()


def _bad(folder: Path, batch: PackedBatch, group: Group) -> Path:
    """Save this process's rows of a batch; the name of the file."""
    path = folder / (f"bad_batch-{group.rank}.safetensors" if group.world > 1 else "bad_batch.safetensors")
    tensors = {name: value.contiguous() for name, value in vars(batch).items() if isinstance(value, Tensor)}
    save_file(tensors, path, metadata={"patch": str(batch.patch), "number": str(batch.number)})
    return path
