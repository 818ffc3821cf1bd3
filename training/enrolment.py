"""How well few windows of a class do: episodes of enrolment on classes that the weights never saw.

    set, or recordings ─► windows ─► features, once
    episode: some classes ─► a few windows of each, and views of these, are enrolled ─► the others are answered
                                                  known classes' windows ─► how many changed

What enrols and what answers is what `emind enrol` and the block use (`models/prototypes.py`). Two figures: of the
enrolled classes only, as papers count N-way accuracy, and in the head that they were added to, where a window counts as
right only if it also got past the threshold that keeps old answers as they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path

import numpy as np
import torch
from emind.contract.errors import EMindError, UsageError
from emind.contract.schema import Signal
from emind.dsp.cutting import tuned, windows_of, with_signal
from emind.models.heads import shrunk_covariance
from emind.models.prototypes import Enrolled, PrototypeHead, inside, with_windows
from torch import Tensor

CLEAR_DB = 0.0  # windows above are what the figure is of; windows to enrol are taken from these
SNR_STEP_DB = 4.0
PROBED = 40
LABELS = ("infer_class", "radar_waveform", "modulation", "device_id")
READ = 1 << 24  # samples of a recording that are looked at


@dataclass(frozen=True)
class Examples:
    """windows (N, L) complex64, rate (N,) Hz, label (N,) names, snr (N,) dB or NaN, late (N,) bool: from the later part
    of a recording, so to be asked and not to be enrolled; where all is drawn independently any may be either."""

    name: str
    windows: np.ndarray
    rate: np.ndarray
    label: np.ndarray
    snr: np.ndarray
    late: np.ndarray | None = None
    by: str = ""  # what a class is


def fitted(iq: np.ndarray, length: int) -> np.ndarray:
    """The first ``length`` samples, with zeros behind them where there are fewer."""
    return np.pad(iq[:length], (0, max(0, length - len(iq)))).astype(np.complex64)


def drawn(name: str, count: int, length: int, seed: int, column: str | None = None, ways: int = 2) -> Examples:
    """Windows of a set of `synthesis.sets`; classes by ``column``, or the first column with as many as ``ways``."""
    from .synthesis.sets import chosen

    recipe, signals = chosen([name])[0], []
    for item in range(count):
        signals += recipe.rows(seed, item)[:1]
    column = column or _column(signals, ways, name)
    kept = [signal for signal in signals if getattr(signal, column) is not None]
    return Examples(
        name, np.stack([fitted(signal.iq, length) for signal in kept]),
        np.array([signal.sampling_rate or math.nan for signal in kept]),
        np.array([str(getattr(signal, column)) for signal in kept]),
        np.array([math.nan if signal.snr is None else signal.snr for signal in kept]), by=column)


def _column(signals: list[Signal], ways: int, name: str) -> str:
    for column in LABELS:
        if len({getattr(signal, column) for signal in signals} - {None}) >= ways:
            return column
    raise UsageError(f"{name}: no label has {ways} classes; ask for fewer ways")


def recorded(paths: list[Path], length: int, most: int) -> Examples:
    """Windows that hold a signal, tuned as `emind classify` does; each recording is a class. Half of them are late.

    A recording without a stated rate, or with fewer than ``most`` such windows in all, gives what it has."""
    from emind.dsp.band import MAX_STRETCHES, fft_size, occupied_band, plan_tuning
    from emind.storage.recording import open_recording

    parts = []
    for path in paths:
        try:
            recording = open_recording(path)
            unknown = False
        except UsageError:
            recording, unknown = open_recording(path, rate=1e6), True
        count = min(recording.count, READ)
        band = occupied_band(recording.loud_and_spread(fft_size(recording.count), MAX_STRETCHES), recording.rate)
        samples, rate = recording.read(0, count), recording.rate
        if band is not None:
            samples, rate = tuned(samples, rate, plan_tuning(band, rate, recording.count, length))
        windows = windows_of(samples, length)
        windows = windows[with_signal(windows)]
        windows = windows[np.linspace(0, len(windows) - 1, min(most, len(windows))).astype(int)]
        late = np.arange(len(windows)) >= len(windows) // 2
        title = path.name.removesuffix(".sigmf-meta")
        parts.append((windows, np.full(len(windows), math.nan if unknown else rate),
                      np.full(len(windows), title, object), late))
    windows, rate, label, late = (np.concatenate(each) for each in zip(*parts, strict=True))
    name = commonprefix([path.name for path in paths]).removesuffix(".sigmf-meta") + ("*" if len(paths) > 1 else "")
    return Examples(name, windows, rate, label.astype(str), np.full(len(windows), math.nan), late, "recording")


@dataclass(frozen=True)
class Plan:
    ways: int = 5
    shots: int = 5
    queries: int = 15
    episodes: int = 200
    seed: int = 0
    several: int = 5  # windows of a class whose answers are put together, for the figure beside


@dataclass(frozen=True)
class Episode:
    """Places of windows, a row a class: shots (ways, shots); of the queries the first ``Plan.queries`` are clear."""

    shots: np.ndarray
    queries: list[np.ndarray]


def episodes_of(examples: Examples, plan: Plan) -> tuple[list[str], list[Episode]]:
    """Classes with enough windows, and the episodes. UsageError where too few classes have them."""
    rng = np.random.default_rng([plan.seed, 11])
    clear = ~(examples.snr <= CLEAR_DB)
    late = np.zeros(len(clear), bool) if examples.late is None else examples.late
    early = clear & ~late if examples.late is not None else clear
    asked = clear & late if examples.late is not None else clear
    names = [name for name in np.unique(examples.label)
             if _enough(early, asked, examples.label == name, plan, examples.late is not None)]
    if len(names) < plan.ways:
        raise UsageError(f"{examples.name}: {len(names)} classes have the {plan.shots} + {plan.queries} clear windows "
                         f"that an episode takes; {plan.ways} are wanted: fewer --ways, --shots or --queries, or more "
                         "--windows")
    found = []
    for _ in range(plan.episodes):
        classes = rng.choice(names, plan.ways, replace=False)
        shots, queries = [], []
        for name in classes:
            mine = examples.label == name
            first = rng.choice(np.flatnonzero(mine & early), plan.shots, replace=False)
            rest = np.setdiff1d(np.flatnonzero(mine & asked), first)
            shots.append(first)
            queries.append(rng.choice(rest, plan.queries, replace=False))
            noisy = np.setdiff1d(np.flatnonzero(mine & ~clear), first)
            if len(noisy):
                queries[-1] = np.concatenate([queries[-1], rng.choice(noisy, min(plan.queries, len(noisy)), False)])
        found.append(Episode(np.stack(shots), queries))
    return names, found


def measured(
    reference: PrototypeHead, feature_NF: Tensor, seen: Callable[[np.ndarray], Tensor], examples: Examples,
    old_NF: Tensor, plan: Plan = Plan(),
) -> dict:
    """Figures over episodes. ``seen``: places of windows to features (n, V, F) of views of them. ``old_NF``: features
    of windows of known classes that the reference does not hold."""
    names, episodes = episodes_of(examples, plan)
    shot_S = np.unique(np.concatenate([episode.shots.ravel() for episode in episodes]))
    seen_SVF = reference.whitened(seen(shot_S))
    whitened_NF, old_NF = reference.whitened(feature_NF), reference.whitened(old_NF)
    rows = []  # (right among the enrolled, right in the head, snr) of each query
    mistakes = Mistakes(names)
    of_episode = []  # accuracy among enrolled, in the head, of several, changed, of a probe
    for episode in episodes:
        queries = episode.queries
        head = with_windows(reference, [Enrolled(whitened_NF[own], seen_SVF[np.searchsorted(shot_S, own)])
                                        for own in episode.shots])
        right, passed = [], []
        for k, own in enumerate(queries):
            logit_BC = head.of_whitened(whitened_NF[own])
            said_B = logit_BC.argmax(-1).numpy()
            mistakes.add(examples.label[episode.shots[:, 0]], k, said_B[: plan.queries])
            right.append(said_B == k)
            passed.append((logit_BC[:, k] > 0).numpy())
            rows += zip(right[-1], passed[-1], examples.snr[own], strict=True)
        n, m = plan.queries, min(plan.several, plan.queries)
        votes = [_majority(head.of_whitened(whitened_NF[own[: n // m * m]]), m) == k for k, own in enumerate(queries)]
        changed = (head.of_whitened(old_NF).amax(-1) > 0).float().mean().item()
        of_episode.append((np.mean([r[:n] for r in right]), np.mean([p[:n] for p in passed]),
                           np.mean(np.concatenate(votes)), changed, _probe(whitened_NF, examples, episode, plan)))
    return _figures(examples, names, plan, np.array(of_episode), rows) | {"by_class": mistakes.by_class()}


class Mistakes:
    """Which enrolled class is answered for which, counted where both were enrolled."""

    def __init__(self, names: list[str]) -> None:
        self._names = [str(name) for name in names]
        self._said_CC, self._asked_CC = np.zeros((2, len(names), len(names)), int)

    def add(self, enrolled: np.ndarray, own: int, said_B: np.ndarray) -> None:
        """Answers ``said_B`` to windows of class ``own``, both places in the names ``enrolled``."""
        place = np.array([self._names.index(name) for name in enrolled])
        np.add.at(self._said_CC[place[own]], place[said_B], 1)
        self._asked_CC[place[own], place] += len(said_B)

    def by_class(self) -> list[dict]:
        """The worst class first: its accuracy, and what it was mistaken for most where that was enrolled beside it."""
        share_CC = self._said_CC / np.maximum(self._asked_CC, 1)
        out = []
        for k, name in enumerate(self._names):
            others = np.where(np.arange(len(share_CC)) == k, -1.0, share_CC[k])
            most = int(others.argmax())
            if self._asked_CC[k, k]:
                out.append({"class": name, "accuracy": float(share_CC[k, k]), "windows": int(self._asked_CC[k, k]),
                            "mistaken_for": self._names[most], "share": float(others[most])})
        return sorted(out, key=lambda row: row["accuracy"])


def _probe(whitened_NF: Tensor, examples: Examples, episode: Episode, plan: Plan) -> float:
    """Accuracy on the same queries of a linear discriminant that knows all other clear windows of the same classes:
    what the features resolve. NaN where a class has fewer than ``PROBED`` others."""
    asked = [own[: plan.queries] for own in episode.queries]
    clear = ~(examples.snr <= CLEAR_DB)
    others = [np.setdiff1d(np.flatnonzero((examples.label == examples.label[own[0]]) & clear), own) for own in asked]
    if min(map(len, others)) < PROBED:
        return math.nan
    owner = torch.arange(len(others)).repeat_interleave(torch.tensor([len(own) for own in others]))
    known_NF = whitened_NF[np.concatenate(others)].double()
    mean_CF = torch.stack([known_NF[owner == k].mean(0) for k in range(len(others))])
    weight_FC = torch.linalg.solve(shrunk_covariance(inside(known_NF, owner)), mean_CF.T)
    score_BC = whitened_NF[np.concatenate(asked)].double() @ weight_FC - (mean_CF.T * weight_FC).sum(0) / 2
    truth = torch.arange(len(asked)).repeat_interleave(plan.queries)
    return (score_BC.argmax(-1) == truth).double().mean().item()


def _enough(early: np.ndarray, asked: np.ndarray, mine: np.ndarray, plan: Plan, apart: bool) -> bool:
    shots, queries = int((mine & early).sum()), int((mine & asked).sum())
    return shots >= plan.shots and queries >= plan.queries + (0 if apart else plan.shots)


def _majority(logit_BC: Tensor, several: int) -> np.ndarray:
    """The class that most of each ``several`` windows are nearest to, (B / several,)."""
    votes = torch.nn.functional.one_hot(logit_BC.argmax(-1), logit_BC.shape[1])
    return votes.unflatten(0, (-1, several)).sum(1).argmax(-1).numpy()


def _figures(examples: Examples, names: list, plan: Plan, of_episode: np.ndarray, rows: list) -> dict:
    def mean(column: int) -> dict:
        values = of_episode[:, column]
        spread = 1.96 * values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else None
        return {"mean": float(values.mean()), "interval_95": None if spread is None else float(spread)}

    right, passed, snr = (np.array(column, float) for column in zip(*rows, strict=True))
    by_snr = []
    for low in np.arange(-20.0, 32.0, SNR_STEP_DB):
        inside = (snr > low) & (snr <= low + SNR_STEP_DB)
        if inside.any():
            by_snr.append({"snr_db": low + SNR_STEP_DB / 2, "windows": int(inside.sum()),
                           "accuracy": float(right[inside].mean()), "in_the_head": float(passed[inside].mean())})
    return {"set": examples.name, "by": examples.by, "classes": [str(name) for name in names],
            "ways": plan.ways, "shots": plan.shots, "queries": plan.queries, "episodes": plan.episodes,
            "accuracy": mean(0), "in_the_head": mean(1),
            "probe": mean(4) if np.isfinite(of_episode[:, 4]).all() else None,
            "several": min(plan.several, plan.queries), "accuracy_several": mean(2), "old_changed": mean(3),
            "old_changed_worst": float(of_episode[:, 3].max()), "by_snr": by_snr}


def reference_in(model) -> PrototypeHead:
    from emind.runtime.enrolling import reference_of

    found = reference_of(model)
    if found is None:
        raise EMindError("these weights carry no reference; `emind-train reference WEIGHTS` puts it there")
    return found[1]
