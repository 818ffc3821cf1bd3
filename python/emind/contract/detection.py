"""Which answers count: as events and labels of a recorder, and in a display. The one rule of all blocks.

Most heads were trained on their own kind of signal alone. Shown noise, or a rate that their training never had, they
name one of their classes all the same. So an answer counts where its head was trained on such windows, knows the class
and is sure of it; what other heads say of windows that are noise to the main one does not count.

``answers`` are those to one window: head -> what its tag says, a mapping by the keys of ``contract/tags.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from numbers import Real

from .tags import CONFIDENCE, LABEL, OUTSIDE
from .vocabulary import NOISE, UNKNOWN

MAIN_HEAD = "modulation"  # says of every window whether there is a signal, and which
SENSING_HEAD = "sensing"  # is asked for signals too weak to be named, and knows noise itself
QUIET = frozenset({NOISE, "none", "normal"})  # answers that say that nothing is there
LEAST_CONFIDENCE = 0.5


def counts(answer: Mapping, confidence: float = LEAST_CONFIDENCE) -> bool:
    """Whether one head's answer is a class that it knows, of a window like its training's, and that sure."""
    sure = answer.get(CONFIDENCE, 1.0)
    return (isinstance(answer.get(LABEL), str) and answer[LABEL] != UNKNOWN and not answer.get(OUTSIDE)
            and isinstance(sure, Real) and sure >= confidence)


def is_noise(answers: Mapping[str, Mapping]) -> bool:
    """Whether the main head hears noise."""
    main = answers.get(MAIN_HEAD, {})
    return main.get(LABEL) == NOISE and not main.get(OUTSIDE)


def counting(answers: Mapping[str, Mapping], confidence: float = LEAST_CONFIDENCE) -> dict[str, Mapping]:
    """The answers that count, a quiet one among them."""
    noise = is_noise(answers)
    return {head: answer for head, answer in answers.items()
            if counts(answer, confidence) and (not noise or head in (MAIN_HEAD, SENSING_HEAD))}


def detected(answers: Mapping[str, Mapping], labels: Collection[str] = (),
             confidence: float = LEAST_CONFIDENCE) -> list[str]:
    """Heads whose answers make an event: those that give one of ``labels``, ``unknown`` too if it is one. Without
    labels the main head alone decides, by anything but noise, and where there is no main head any head that says that
    something is there."""
    if UNKNOWN in labels and answers.get(MAIN_HEAD, {}).get(LABEL) == UNKNOWN and not answers[MAIN_HEAD].get(OUTSIDE):
        return [MAIN_HEAD]
    valid = counting(answers, confidence)
    if labels:
        return [head for head, answer in valid.items() if answer[LABEL] in labels]
    if MAIN_HEAD in answers:
        valid = {head: answer for head, answer in valid.items() if head == MAIN_HEAD}
    return [head for head, answer in valid.items() if answer[LABEL] not in QUIET]
