"""What heads say of windows, in words for tables and lines: `LFM 0.93, pri 19.2 µs`.

A head's answer is a dict as its tag has it: label, confidence, score, parameters by name, outside_training.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median

from ..contract.answers import speaks
from ..contract.detection import MAIN_HEAD
from ..contract.tags import CONFIDENCE, FAMILY, LABEL, LENGTH, OUTSIDE, SCORE
from ..contract.vocabulary import UNKNOWN
from ..contract.window import RADAR_PARAMETERS, HeadSpec

OUTSIDE_MARK = "*"
OUTSIDE_NOTE = f"{OUTSIDE_MARK} unlike what the head was trained on (window length or sample rate)"
_UNITS = {parameter.name: parameter.unit for parameter in RADAR_PARAMETERS}
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
_ORDER = (LABEL, FAMILY, CONFIDENCE, SCORE, *_UNITS)
_OWN = {LABEL, CONFIDENCE, FAMILY, LENGTH, SCORE, OUTSIDE}


def add_heads_argument(group) -> None:
    """The option --heads."""
    group.add_argument("--heads", type=_names, metavar="NAME,...",
                       help="heads that answer (default: all of the weights that say something of a window)")


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("names of heads, with commas between them")
    return names


def main_of(heads: Mapping[str, HeadSpec]) -> str:
    """The head whose labels windows are put together by: modulation, or the first that has labels."""
    labelled = [name for name, head in heads.items() if head.labels and speaks(head)]
    return MAIN_HEAD if MAIN_HEAD in labelled or not labelled else labelled[0]


def others_of(heads: Mapping[str, HeadSpec]) -> list[str]:
    """The heads besides the main one that say something."""
    return [name for name, head in heads.items() if speaks(head) and name != main_of(heads)]


def quantity(name: str, value: float) -> str:
    """A parameter's value with its unit: `19.2 µs`; a number where the unit is not known."""
    unit = _UNITS.get(name, "")
    if not unit or not math.isfinite(value):
        return f"{value:.4g}"
    factor, prefix = next(((f, p) for f, p in _PREFIXES if abs(value) >= f), _PREFIXES[-1] if value else (1.0, ""))
    return f"{value / factor:.3g} {prefix}{unit}"


def summary(answers: Sequence[Mapping], names: bool = True) -> str:
    """Of one head's answers to several windows: the commonest label, its share where there are others, its mean
    confidence, and the medians of the parameters, with ``names``."""
    if not answers:
        return "-"
    parts, kept = [], answers
    labels = Counter(answer[LABEL] for answer in answers if LABEL in answer)
    if labels:
        label, count = labels.most_common(1)[0]
        kept = [answer for answer in answers if answer.get(LABEL) == label]
        share = "" if count == len(answers) else f" {100 * count / len(answers):.0f} %"
        parts.append(f"{label}{share} {fmean(answer[CONFIDENCE] for answer in kept):.2f}")
    if labels and parts[0].split()[0] == UNKNOWN:
        kept = []
    for name in sorted({key for answer in kept for key in answer if key not in _OWN}, key=_place):
        value = median(answer[name] for answer in kept if name in answer)
        parts.append(f"{name} {quantity(name, value)}" if names else quantity(name, value))
    mark = OUTSIDE_MARK if any(answer.get(OUTSIDE) for answer in answers) else ""
    return ", ".join(parts) + mark


def shown(answers: Iterable[Mapping], asked: bool) -> list[Mapping]:
    """Those of one head's answers that tables and lines show: all where heads were ``asked`` for by name, else those
    that are not outside of its training. JSON has all."""
    return [answer for answer in answers if asked or not answer.get(OUTSIDE)]


def left_out_note(names: Sequence[str]) -> str:
    """Why these heads stand in no column."""
    return f"not shown, since trained on windows of other lengths or rates: {', '.join(names)} (--heads shows them)"


def rounded(answer: Mapping) -> dict:
    """A head's answer for JSON, always in the same order: probabilities to four digits, no length."""
    out = {key: answer[key] for key in sorted(answer, key=_place) if key != LENGTH}
    for key in (CONFIDENCE, SCORE):
        if key in out:
            out[key] = round(out[key], 4)
    return out


def _place(key: str) -> tuple[int, str]:
    """Where an entry stands: what every head says, a radar's parameters as the paper has them, others by name."""
    return (_ORDER.index(key) if key in _ORDER else len(_ORDER)), key


def any_outside(answers: Iterable[Mapping]) -> bool:
    """Whether a head was asked about what it was not trained on."""
    return any(answer.get(OUTSIDE) for answer in answers)
