"""The table of tasks: what a head is trained on, what it answers, and where its examples come from.

EMind, section VI-B and Table IV: modulation, radar, interference, fingerprint, separation, denoise. SpectrumFM, section
IV: sensing, anomaly, technology. A task's name is that of its head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emind.contract.errors import UsageError
from emind.contract.vocabulary import MODULATIONS
from emind.contract.window import RADAR_PARAMETERS, HeadSpec, Parameter

from .synthesis import ais, awgn7, radar_sets
from .synthesis.comm_sets import ANOMALIES
from .synthesis.interference_sets import COMM_CLASSES, RADAR_CLASSES
from .synthesis.technologies import TECHNOLOGIES

CLASSIFICATION, REGRESSION, RECONSTRUCTION, ANOMALY = "classification", "regression", "reconstruction", "anomaly"
EMITTERS = tuple(f"{k:03d}" for k in range(ais.EMITTERS))
AIR = "air"  # the air set drawn while training, not a set of files
ANOMALOUS = "anomalous"
NORMAL, CLASSES = "normal", "classes"


@dataclass(frozen=True)
class Task:
    """One head's work.

    ``sets``: those it is known for, the first is the default. ``label``: column of the classes. ``classes``: their
    order where the set is known; of another set those of its training part, sorted. ``parameters``: columns that a
    regression learns beside them. ``roles``: of the linked rows (`recipe.linked`) the input, then what is to be found
    in it. ``normal``: the class that the others are told from, for figures of detection. ``shift``: whether a window
    may be shifted in time in training. ``unknown``: whether its head may say that a window is of none of its classes.
    """

    name: str
    kind: str
    sets: tuple[str, ...]
    label: str = ""
    classes: dict[str, tuple[str, ...]] | None = None
    parameters: tuple[Parameter, ...] = ()
    roles: tuple[str, ...] = ()
    normal: str = ""
    shift: bool = True
    unknown: bool = True

    def set_of(self, name: str) -> str:
        return name or self.sets[0]

    def known_classes(self, name: str) -> tuple[str, ...]:
        """Of a set; empty where they are to be found in its training part."""
        return (self.classes or {}).get(name, ())

    def head(self, classes: Sequence[str], skip: bool = True, detector: str = NORMAL) -> HeadSpec:
        """What the head is, with the classes of its training part.

        ``detector`` of an anomaly head: NORMAL is fitted to normal windows in closed form once the encoder is as it
        will be, CLASSES learns the named anomalies.
        """
        if detector not in (NORMAL, CLASSES):
            raise UsageError(f"task {self.name}: unknown detector {detector!r}; known: {NORMAL}, {CLASSES}")
        if self.kind == ANOMALY and detector == CLASSES:
            return HeadSpec(self.name, CLASSIFICATION, tuple(classes))
        if self.kind == ANOMALY:
            return HeadSpec(self.name, ANOMALY, (self.normal, ANOMALOUS), centres=1)
        if self.kind == RECONSTRUCTION:
            return HeadSpec(self.name, RECONSTRUCTION, sources=len(self.roles) - 1, skip=skip)
        return HeadSpec(self.name, self.kind, tuple(classes), self.parameters)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("modulation", CLASSIFICATION, (AIR, "RML2016.10A-regen", "AWGN-7", "EM-Comm"), "modulation",
             {AIR: MODULATIONS, "AWGN-7": awgn7.CLASSES}),
        Task("radar", REGRESSION, ("RadChar-regen",), "radar_waveform", {"RadChar-regen": radar_sets.RADCHAR},
             RADAR_PARAMETERS),
        Task("interference", CLASSIFICATION, ("EM-Infer-Comm", "EM-Infer-Radar"), "infer_class",
             {"EM-Infer-Comm": COMM_CLASSES, "EM-Infer-Radar": RADAR_CLASSES}),
        # A burst is known by how its transmitter starts: the ramp must stay where it is.
        Task("fingerprint", CLASSIFICATION, ("EM-AIS",), "device_id", {"EM-AIS": EMITTERS}, shift=False),
        Task("separation", RECONSTRUCTION, ("EM-Radar-Mix",), roles=("mix", "source1", "source2")),
        # The noisy row has a carrier offset that the clean one lacks, with no phase at the window's start: shifted,
        # where the two agree could not be known.
        Task("denoise", RECONSTRUCTION, ("EM-Denoise-Signal",), roles=("noisy", "clean"), shift=False),
        Task("sensing", CLASSIFICATION, ("Spectrum-Sensing",), "infer_class",
             {"Spectrum-Sensing": ("noise", "signal")}, normal="noise", unknown=False),
        Task("anomaly", ANOMALY, ("Anomaly",), "infer_class", {"Anomaly": ANOMALIES}, normal="normal", unknown=False),
        Task("technology", CLASSIFICATION, ("Wireless-Technology",), "infer_class",
             {"Wireless-Technology": TECHNOLOGIES}),
    )
}  # fmt: skip
SCORED = {"AWGN-7": awgn7.SEVEN}  # sets that are scored on some of their classes, the others' share given to these


def tasks_named(names: Sequence[str]) -> list[Task]:
    """UsageError for a name that is not known, or stands twice."""
    unknown = [name for name in names if name not in TASKS]
    if unknown:
        raise UsageError(f"unknown task {unknown[0]!r}; known: {', '.join(TASKS)}")
    if len(set(names)) < len(names):
        raise UsageError(f"a task stands twice among {', '.join(names)}")
    return [TASKS[name] for name in names]
