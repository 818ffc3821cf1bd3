"""What a window is, given what its neighbours are. numpy only.

A signal mostly lasts longer than a window, and some windows say little by themselves: the preamble of a packet is a
steady alternation, one symbol of a slow OFDM signal may be a chirp. The windows of one stretch are taken as a hidden
Markov chain: from one to the next the class stays, or changes to any other with equal chance. The forward and backward
passes give each window's probabilities with all of the stretch known (Rabiner 1989, section III). What is said is the
likeliest class of the likeliest family: within a family probability is often divided among classes that look alike. A
class that was enrolled stands beside the families' classes, and is said where it is likelier than each of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contract.vocabulary import MODULATION_FAMILY, NOISE, family_of

CHANGE = 0.3  # that the next window is of another class, from generated scenes (`python -m emind_training.scenes`)
LEAST = 0.5  # probability of a family from which on neighbours say what a window of none of the classes is


@dataclass(frozen=True)
class Known:
    """What windows that follow each other say by themselves: probabilities ``rows`` (N, C) of ``labels``, or
    (N, C + 1) with that of `unknown` behind them; ``quiet`` (N,) marks windows known to hold no signal."""

    labels: tuple[str, ...]
    rows: np.ndarray
    quiet: np.ndarray | None = None


def decided(known: Known, change: float | None = CHANGE) -> tuple[np.ndarray, np.ndarray]:
    """Of each window the place of its label in ``labels``, C for `unknown`, and its confidence: int and float (N,).

    Windows between which there is no noise make a stretch, and noise is what a window says by itself: that a signal
    begins and ends is no change of class. A window of none of the classes says nothing; where its neighbours do not
    say enough either it stays `unknown`. ``change`` None: every window by itself.
    """
    classes = len(known.labels)
    own = known.rows[:, :classes]
    strange = known.rows[:, classes] if known.rows.shape[1] > classes else np.zeros(len(own))
    unknown = strange > 0.5
    place = np.where(unknown, classes, own.argmax(axis=1))
    confidence = np.where(unknown, strange, own.max(axis=1))
    if change is None:
        return place, confidence
    noise = known.labels.index(NOISE) if NOISE in known.labels else -1
    quiet = (place == noise) | (False if known.quiet is None else known.quiet)
    evidence = np.where(unknown[:, None], 1 / classes, own)
    for first, end in stretches(~quiet):
        one = slice(first, end)
        if unknown[one].all():
            continue
        given = with_neighbours(evidence[one], change)
        said, share = best_of_best_family(known.labels, given)
        clear = ~unknown[one] | (share >= LEAST)
        place[one] = np.where(clear, said, place[one])
        confidence[one] = np.where(clear, given[np.arange(len(given)), said], confidence[one])
    return place, confidence


def best_of_best_family(labels: tuple[str, ...], given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row of probabilities (N, C) the likeliest class of the likeliest family, and the probability of that
    family: int and float (N,). A class of no family goes before where it is the likeliest class of all."""
    families = [family_of(label) for label in labels]
    member = np.array([[family == one for one in dict.fromkeys(families)] for family in families])
    shares = given @ member
    inside = member[:, shares.argmax(axis=1)].T
    likeliest = given.argmax(axis=1)
    alone = np.array([label not in MODULATION_FAMILY for label in labels])[likeliest]
    place = np.where(alone, likeliest, np.where(inside, given, -1.0).argmax(axis=1))
    return place, np.where(alone, given.max(axis=1), shares.max(axis=1))


def stretches(inside: np.ndarray) -> list[tuple[int, int]]:
    """Runs of True in (N,): first and end."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))


def with_neighbours(own: np.ndarray, change: float = CHANGE) -> np.ndarray:
    """Probabilities (N, C) of N windows that follow each other, from those that each has by itself, (N, C).

    ``change``: chance of another class in the next window, 0 to (C - 1) / C; at the latter a window's neighbours say
    nothing of it. ValueError for a chance outside.
    """
    count, classes = own.shape
    if not 0 <= change <= (classes - 1) / classes + 1e-9:
        raise ValueError(f"change {change} must lie in 0 to {(classes - 1) / classes:.3f}")
    if count < 2:
        return own / own.sum(axis=1, keepdims=True)
    any_other = change / (classes - 1)
    stays = 1 - change - any_other  # beside the chance that all classes share
    own = np.maximum(own.astype(np.float64), 1e-12)
    forward, backward = np.empty_like(own), np.ones_like(own)
    last = np.full(classes, 1 / classes)
    for n in range(count):
        last = (stays * last + any_other) * own[n]  # last sums to one
        last /= last.sum()
        forward[n] = last
    for n in range(count - 2, -1, -1):
        seen = backward[n + 1] * own[n + 1]
        seen /= seen.sum()
        backward[n] = stays * seen + any_other
    both = forward * backward
    return both / both.sum(axis=1, keepdims=True)
