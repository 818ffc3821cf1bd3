"""Is pretraining worth anything? A pretrained encoder against a random one, on a set that was not pretrained on.

    set ─► pool, validation, test (no transmission in two of them)
    both arms ─► the same k windows a class, the same recipe ─► validation chooses rate and length ─► test
                                                                                                └─► kept

Three tracks of the paper's section VI-B: a linear probe on frozen features with many labels, the same with few, and
fine-tuning of everything with few. The arms differ in the encoder's first weights and in nothing else; each seed draws
other windows, another head, and for the random arm another encoder.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from emind.contract.errors import EMindError
from emind.dsp.normalise import max_abs
from emind.models.emind import Encoder, EncoderConfig, pooled
from emind.models.heads import ClassificationHead
from sklearn.metrics import accuracy_score, cohen_kappa_score
from torch import Tensor, nn
from torch.nn import functional

from .features import encoder_features
from .fewshot_kept import Kept
from .finetune import parameter_groups
from .probe import SNR_STEP_DB, ProbeSet, Windows, balanced, linear_answers

ARMS = ("pretrained", "random")
CLEAR_DB = 0.0  # windows from here on are measured by themselves as well: far below it all that is left is chance


@dataclass(frozen=True)
class Recipe:
    """A fine-tuning of ``steps``. The learning rate is that of ``rates`` with the most right answers on validation."""

    steps: int = 3000
    batch: int = 32
    rates: tuple[float, ...] = (1e-4, 5e-4, 2e-3)
    warmup_share: float = 0.1
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    bfloat16: bool = True


@dataclass(frozen=True)
class Plan:
    """What is compared: windows a class (``per_snr``: a class and SNR label), seeds, windows of the linear probe.

    ``steps``: lengths of the fine-tuning, among which validation chooses for each model. Each arm needs what the other
    does without. Random weights need many steps: with 200 those of nano were still at chance with 100 windows a class
    of RadChar-regen, with 600 not at their end. Pretrained ones did with 10 windows a class a little better after 600
    steps than after 3,000."""

    shots: tuple[int, ...] = (10, 50, 100)
    per_snr: bool = False
    seeds: tuple[int, ...] = (0, 1, 2)
    probe_windows: int = 1000
    steps: tuple[int, ...] = (600, 3000)
    recipe: Recipe = Recipe()


def shots_of(pool: Windows, classes: int, k: int, per_snr: bool, seed: int, where: str) -> Windows:
    """k windows of each class, spread over its SNR labels, or k of each class and SNR label."""
    rng = np.random.default_rng([seed, 3])
    if not per_snr:
        return pool.take(balanced(pool.label, pool.snr, k * classes, classes, rng, where))
    level = np.round(pool.snr / SNR_STEP_DB)
    if np.isnan(level).any():
        raise EMindError(f"{where}: some windows have no SNR label; take k of a class, not of a class and SNR")
    chosen = []
    for value in np.unique(level):
        own = np.flatnonzero(level == value)
        at = f"{where} at {SNR_STEP_DB * value:g} dB"
        chosen.append(own[balanced(pool.label[own], pool.snr[own], k * classes, classes, rng, at)])
    return pool.take(np.sort(np.concatenate(chosen)))


def scores(answer: np.ndarray, test: Windows) -> dict[str, float]:
    """Share right, Cohen's kappa, and the share right among windows of ``CLEAR_DB`` and above where SNR is known."""
    found = {"accuracy": float(accuracy_score(test.label, answer)),
             "kappa": float(cohen_kappa_score(test.label, answer))}
    clear = test.snr >= CLEAR_DB
    if clear.any():
        found["accuracy_clear"] = float(accuracy_score(test.label[clear], answer[clear]))
    return {name: round(value, 4) for name, value in found.items()}


def augmented(iq_BL2: Tensor, generator: torch.Generator) -> Tensor:
    """Each window turned by a random phase and shifted in time by a random number of samples, around its end."""
    batch, length, _ = iq_BL2.shape
    angle_B11 = 2 * math.pi * torch.rand(batch, 1, 1, generator=generator)
    start_B1 = torch.randint(length, (batch, 1), generator=generator)
    index_BL = (torch.arange(length) + start_B1) % length
    shifted_BL2 = iq_BL2.gather(1, index_BL.unsqueeze(-1).expand(-1, -1, 2))
    i_BL1, q_BL1 = shifted_BL2.split(1, dim=-1)
    cos, sin = torch.cos(angle_B11), torch.sin(angle_B11)
    return torch.cat([i_BL1 * cos - q_BL1 * sin, i_BL1 * sin + q_BL1 * cos], dim=-1)


class Classifier(nn.Module):
    """An encoder with a new classification head."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = ClassificationHead(encoder.config.width, classes)

    def forward(self, iq_BL2: Tensor, rate_B: Tensor) -> Tensor:
        return self.head(pooled(self.encoder(iq_BL2, rate_B)).float())


def fine_tuned(encoder: Encoder, few: Windows, classes: int, rate: float, seed: int, recipe: Recipe) -> Classifier:
    """A copy of the encoder and a new head, trained on ``few`` windows of one length by the recipe."""
    iq_NL2, rate_N, label_N = tensors(few)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(copy.deepcopy(encoder), classes).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, recipe.weight_decay), lr=0.0, betas=(0.9, 0.98))
    warmup = max(1, round(recipe.warmup_share * recipe.steps))
    order = torch.zeros(0, dtype=torch.int64)
    for step in range(recipe.steps):
        while len(order) < min(recipe.batch, len(few)):  # each window once before any a second time
            order = torch.cat([order, torch.randperm(len(few), generator=generator)])
        index, order = order[: recipe.batch], order[recipe.batch :]
        done = (step - warmup) / max(1, recipe.steps - warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate * ((step + 1) / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * done)))
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
            logits_BC = model(augmented(iq_NL2[index], generator), rate_N[index])
        loss = functional.cross_entropy(logits_BC.float(), label_N[index])
        if not torch.isfinite(loss):
            raise EMindError(f"few-shot: the loss is not finite at step {step} with a learning rate of {rate:g}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
    return model.eval()


def answers(model: Classifier, windows: Windows, bfloat16: bool) -> np.ndarray:
    """The class that the model gives each window."""
    features = encoder_features(model.encoder, windows.iq, windows.rate, bfloat16)
    with torch.inference_mode():
        return model.head(torch.from_numpy(features)).argmax(-1).numpy()


def tensors(windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
    """IQ (N, L, 2) normalised as in the block, rates and labels (N,). EMindError for windows of several lengths."""
    if len({len(one) for one in windows.iq}) != 1:
        raise EMindError("few-shot: windows of several lengths; give a set of one length")
    return (torch.from_numpy(max_abs(np.stack(windows.iq))), torch.from_numpy(windows.rate.astype(np.float32)),
            torch.from_numpy(windows.label))


def random_encoder(config: EncoderConfig, seed: int) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(config).eval()


def compare(
    encoder: Encoder, probe_set: ProbeSet, plan: Plan = Plan(), say: Callable[[str], None] = lambda line: None,
    kept: Kept | None = None,
) -> dict:
    """Both arms on all tracks. ``probe_set.train`` is the pool that windows are drawn from; its ``validation`` chooses
    learning rates; its ``test`` is read once a model. Every list in the result is by seed. Fine-tunings that ``kept``
    holds are not made again, and those that are made are put there."""
    if not len(probe_set.validation):
        raise EMindError(f"{probe_set.name}: no validation windows to choose the learning rates on")
    digest = probe_set.digest()
    recipe, classes, where = plan.recipe, len(probe_set.classes), probe_set.name
    encoders = {"pretrained": lambda seed: encoder, "random": lambda seed: random_encoder(encoder.config, seed)}
    many: dict[str, dict] = {arm: {} for arm in ARMS}
    few: dict[int, dict[str, dict]] = {k: {arm: {} for arm in ARMS} for k in plan.shots}
    tuned: dict[int, dict[str, dict]] = {k: {arm: {} for arm in ARMS} for k in plan.shots}
    for arm in ARMS:
        features: dict[str, np.ndarray] = {}
        for seed in plan.seeds:
            start = encoders[arm](seed)
            if arm == "random" or not features:
                features = {part: encoder_features(start, own.iq, own.rate, recipe.bfloat16)
                            for part, own in (("train", probe_set.train), ("test", probe_set.test))}
            number = Windows(probe_set.train.iq, probe_set.train.rate, probe_set.train.label, probe_set.train.snr,
                             np.arange(len(probe_set.train)))  # so that a choice of windows is one of features too

            def probed(chosen: Windows) -> dict[str, float]:
                answer = linear_answers(features["train"][chosen.group], chosen.label, features["test"], seed)
                return scores(answer, probe_set.test)

            own = balanced(number.label, number.snr, min(plan.probe_windows, len(number)), classes,
                           np.random.default_rng([seed, 4]), where)
            _append(many[arm], probed(number.take(own)))
            for k in plan.shots:
                shots = shots_of(number, classes, k, plan.per_snr, seed, where)
                _append(few[k][arm], probed(shots))
                result = tuned[k][arm]
                asked = {**probe_set.to_dict(), "digest": digest, "per_snr": plan.per_snr, "arm": arm,
                         "seed": seed, "k": k}
                if arm == "random":  # whatever the file holds: its shape is all that this arm has of it
                    asked |= {"weights": None, "architecture": asdict(encoder.config)}
                tried = []
                for steps in plan.steps:
                    own = replace(recipe, steps=steps)
                    asked["recipe"] = asdict(own)
                    if (found := kept and kept.get(asked)) is None:
                        found = _fine_tuning(start, shots, probe_set, seed, own)
                        if kept:
                            kept.put(asked, found)
                    tried.append(found | {"steps": steps})
                _append(result, _preferred(tried))
                result["windows"] = len(shots)
                say(f"{where}: {arm}, seed {seed}, {k} a class: fine-tuned {result['accuracy'][-1]:.3f} right "
                    f"({result['steps'][-1]} steps, rate {result['learning_rate'][-1]:g}), linear "
                    f"{few[k][arm]['accuracy'][-1]:.3f}")
            say(f"{where}: {arm}, seed {seed}: linear probe {many[arm]['accuracy'][-1]:.3f} right")
    return {
        **probe_set.to_dict(), "probe_windows": min(plan.probe_windows, len(probe_set.train)),
        "clear_db": CLEAR_DB, "per_snr": plan.per_snr, "seeds": list(plan.seeds), "steps": list(plan.steps),
        "recipe": asdict(recipe),
        "probe": many, "few": [{"k": k, "linear": few[k], "fine_tuned": tuned[k]} for k in plan.shots],
    }  # fmt: skip


def _append(into: dict, found: dict) -> None:
    for name, value in found.items():
        into.setdefault(name, []).append(value)


def _preferred(tried: list[dict]) -> dict:
    """The one with the most right answers on validation, the first of equals; its seconds are those of all."""
    best = max(tried, key=lambda one: one["validation"][f"{one['learning_rate']:g}"])
    return best | {"validation": {str(one["steps"]): one["validation"] for one in tried},
                   "seconds": round(sum(one["seconds"] for one in tried), 1)}


def _fine_tuning(start: Encoder, shots: Windows, probe_set: ProbeSet, seed: int, recipe: Recipe) -> dict:
    """A model for each learning rate; of the one with the most right answers on validation, how it does on test."""
    begun = time.monotonic()
    shares: dict[str, float] = {}
    best: tuple[float, float, Classifier] | None = None
    for rate in recipe.rates:
        model = fine_tuned(start, shots, len(probe_set.classes), rate, seed, recipe)
        answer = answers(model, probe_set.validation, recipe.bfloat16)
        share = round(float(np.mean(answer == probe_set.validation.label)), 4)
        shares[f"{rate:g}"] = share
        if best is None or share > best[0]:
            best = share, rate, model
    _, rate, model = best
    return {"learning_rate": rate, "validation": shares, "seconds": round(time.monotonic() - begun, 1),
            **scores(answers(model, probe_set.test, recipe.bfloat16), probe_set.test)}
