"""A class added to a head from a handful of windows, or taken away again; what it would be confused with.

The weights must carry a reference, windows of known classes (`emind-train reference` puts it there): it says what known
signals look like, and how many of their answers would change.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..contract.errors import EMindError
from ..contract.window import CLASSIFICATION, PROTOTYPES, HeadSpec, WindowSpec
from ..dsp.normalise import NORMALISE
from ..dsp.views import views
from ..models.checkpoint import load_weights, save_weights
from ..models.emind import SPECTRUM, spectral_features
from ..models.heads import Features, MultiHead
from ..models.prototypes import Enrolled, PrototypeHead, joined, nearest, with_windows
from .engine import AUTO, engine_of
from .engine_base import NumpyOrdering
from .weights import resolve

REFERENCE = "reference"  # entry in the header's "training"
ENROLLED = "enrolled"  # entry in the header's "figures"
LONGEST_NAME = 64  # characters
LEAST = 2  # windows from which a class can be made, and its reach be known
MOST_CHANGED = 0.005
VIEWS = 8  # of a window
ALL_VIEWS = 256  # of a class: who brings many windows needs few views
_BATCH = 32


@dataclass(frozen=True)
class Report:
    """What is known of a class at its enrolment. Shares are 0 to 1, of windows.

    ``recognised``: of the enrolled windows, each judged by a head made without it. ``before``: what the head said
    of them until now. ``resembles``: the known classes whose centres lie nearest, and how far from them the windows
    lie, as multiples of the distance to their own centre: near 1 they can hardly be told apart. ``taken_for``:
    other enrolled classes that windows of this one are nearer to, and ``takes``: whose windows are nearer to this
    one. ``changed``: of the reference windows of known classes those that an enrolled class now takes;
    ``taken_from``: by class, those that this one takes.
    """

    name: str
    head: str
    windows: int
    recognised: float
    before: dict[str, float]
    resembles: dict[str, float]
    taken_for: dict[str, float]
    takes: dict[str, float]
    changed: float
    taken_from: dict[str, float]
    remarks: list[str] = field(default_factory=list)

    def to_dict(self) -> dict:
        return asdict(self)


def base_name(head: str) -> str:
    return f"enrolled-{head}"


def reference_of(model: MultiHead) -> tuple[HeadSpec, PrototypeHead] | None:
    """A head of prototypes of the model, for its reference."""
    return next(((spec, model.heads[name]) for name, spec in model.specs.items() if spec.kind == PROTOTYPES), None)


class _Pass(nn.Module):
    """Pooled features as they are, in memory of their own."""

    def forward(self, pooled_BF: Tensor) -> Tensor:
        return pooled_BF.clone()

    def answer(self, features: Features) -> Tensor:
        return self(features.pooled_BF)


def features_of(
    model: MultiHead, window: WindowSpec, header: dict, windows: np.ndarray, rates_hz: np.ndarray, backend: str = AUTO,
    component_XY: Tensor | None = None,
) -> Tensor:
    """Pooled features (N, 2 D) of raw windows (N, L) complex64 at these rates in Hz, NaN where unknown, as the
    back end that answers has them; with ``component_XY`` what a head of prototypes sees, (N, F)."""
    bare = MultiHead(model.encoder.config, {}).eval()
    bare.encoder = model.encoder
    bare.heads["features"], bare.specs["features"] = _Pass(), HeadSpec("features", CLASSIFICATION, ("features",))
    engine = engine_of(bare, window, header, "features", backend, 1)
    normalise, parts = NORMALISE[window.normalisation], []
    with torch.inference_mode():
        for k in range(0, len(windows), _BATCH):
            iq_BL2 = torch.from_numpy(normalise(windows[k : k + _BATCH]))
            pooled_B2D = engine._outputs(iq_BL2, np.asarray(rates_hz[k : k + _BATCH], np.float32))["features"]
            spectral_BSP = None if component_XY is None or not component_XY.numel() else _spectral(iq_BL2)
            parts.append(joined(pooled_B2D.cpu().float(), spectral_BSP, component_XY))
    engine.close()
    return torch.cat(parts)


def _spectral(iq_BL2: Tensor) -> Tensor:
    return spectral_features(iq_BL2, torch.hann_window(SPECTRUM, periodic=True), NumpyOrdering)


def spectral_of(window: WindowSpec, windows: np.ndarray) -> Tensor:
    """Spectral features (N, X) of raw windows."""
    normalise = NORMALISE[window.normalisation]
    return torch.cat([_spectral(torch.from_numpy(normalise(windows[k : k + _BATCH]))).flatten(1)
                      for k in range(0, len(windows), _BATCH)])


def enrol(
    model: MultiHead, window: WindowSpec, header: dict, name: str, windows: np.ndarray, rates_hz: np.ndarray,
    head: str = "modulation", backend: str = AUTO,
) -> Report:
    """Add the class ``name`` to a head of the model, in place, and tell what it would be confused with.

    ``windows`` (N, L) complex64 as received. The header's figures get the report. EMindError where the weights carry no
    reference, the name is taken, or the windows are too few.
    """
    component_XY = _checked(model, name, len(windows), head)[1].component_XY
    features_NF = features_of(model, window, header, windows, rates_hz, backend, component_XY)
    count = min(VIEWS, ALL_VIEWS // len(windows))
    seen_NVF = features_of_views(model, window, header, windows, rates_hz, count, backend, component_XY)
    return enrol_features(model, header, name, features_NF, seen_NVF, head)


def features_of_views(
    model: MultiHead, window: WindowSpec, header: dict, windows: np.ndarray, rates_hz: np.ndarray, count: int = VIEWS,
    backend: str = AUTO, component_XY: Tensor | None = None,
) -> Tensor:
    """Features (N, count, F) of views of windows, as :func:`features_of`."""
    if not count:
        return torch.zeros(len(windows), 0, 2 * model.encoder.config.width
                           + (0 if component_XY is None else component_XY.shape[1]))
    seen, rates_hz = views(windows, count).reshape(-1, windows.shape[1]), np.repeat(rates_hz, count)
    return features_of(model, window, header, seen, rates_hz, backend, component_XY).unflatten(0, (-1, count))


def _checked(model: MultiHead, name: str, count: int, head: str) -> tuple[HeadSpec, PrototypeHead]:
    """Specification and head of prototypes to enrol in."""
    found = reference_of(model)
    if found is None:
        raise EMindError("these weights carry no reference of what known signals look like; put it there with "
                         "`emind-train reference WEIGHTS`")
    own = model.specs.get(head)
    if own is not None and own.kind != CLASSIFICATION:
        raise EMindError(f"head {head} is of kind {own.kind}: classes can be enrolled for a head that classifies, or "
                         "for one of a new name")
    if not (0 < len(name) <= LONGEST_NAME and name.isprintable() and name == name.strip()):
        raise EMindError(f"{name[:LONGEST_NAME]!r} cannot be the name of a class: 1 to {LONGEST_NAME} characters that "
                         "can be printed, no blanks around them")
    if name == "unknown" or (own is not None and name in own.labels):
        raise EMindError(f"{name!r} cannot be enrolled: head {head} has that label already; choose another name")
    spec, old = next(((s, model.heads[n]) for n, s in model.specs.items() if n == base_name(head)),
                     (replace(found[0], name=base_name(head), extends=head, labels=(), windows=0, views=0), found[1]))
    if name in spec.labels:
        raise EMindError(f"{name!r} is enrolled in head {head} already; take it away first (--remove) to enrol it anew")
    if count < LEAST:
        raise EMindError(f"{count} window: a class needs {LEAST} at least, better 5 or more")
    return spec, old


def enrol_features(
    model: MultiHead, header: dict, name: str, features_NF: Tensor, seen_NVF: Tensor, head: str = "modulation"
) -> Report:
    """As :func:`enrol`, of features (N, F) of windows and (N, V, F) of views of them."""
    spec, old = _checked(model, name, len(features_NF), head)
    before = _answers(model, head, features_NF[:, : 2 * model.encoder.config.width])
    kept = [] if not spec.labels else _by_class(old)
    new = with_windows(old, [*kept, Enrolled(old.whitened(features_NF), old.whitened(seen_NVF))])
    labels = (*spec.labels, name)
    _put(model, spec, labels, new)
    report = _report(name, head, labels, new, before, header["training"].get(REFERENCE, {}).get("classes", []))
    header["figures"].setdefault(ENROLLED, {}).setdefault(head, {})[name] = report.to_dict()
    return report


def remove(model: MultiHead, header: dict, name: str, head: str = "modulation") -> None:
    """Take an enrolled class away again. EMindError where there is none of that name."""
    spec = model.specs.get(base_name(head))
    if spec is None or name not in spec.labels:
        known = ", ".join(spec.labels) if spec is not None and spec.labels else "none"
        raise EMindError(f"{name!r} is not enrolled in head {head}; enrolled there: {known}")
    place = spec.labels.index(name)
    rest = [own for k, own in enumerate(_by_class(model.heads[spec.name])) if k != place]
    new = with_windows(model.heads[spec.name], rest)
    labels = tuple(label for label in spec.labels if label != name)
    if not labels and len([s for s in model.specs.values() if s.kind == PROTOTYPES]) > 1:
        del model.heads[spec.name], model.specs[spec.name]  # another one carries the reference
    else:
        _put(model, spec, labels, new)
    header["figures"].get(ENROLLED, {}).get(head, {}).pop(name, None)


def _put(model: MultiHead, spec: HeadSpec, labels: tuple[str, ...], module: PrototypeHead) -> None:
    windows, seen = len(module.window_WF), len(module.view_VF)
    model.specs[spec.name] = replace(spec, labels=labels, windows=windows, views=seen)
    model.heads[spec.name] = module.eval()


def _by_class(head: PrototypeHead) -> list[Enrolled]:
    return [Enrolled.of(head, k) for k in range(len(head.centre_CF))]


def _answers(model: MultiHead, head: str, features_NF: Tensor) -> dict[str, float]:
    if head not in model.specs:
        return {}
    with torch.inference_mode():
        picked = model.heads[head](features_NF).argmax(-1).tolist()
    counts = Counter(model.specs[head].labels[k] for k in picked)
    return {label: count / len(picked) for label, count in counts.most_common()}


@torch.no_grad()
def _report(
    name: str, head: str, labels: tuple[str, ...], new: PrototypeHead, before: dict[str, float], known: list[str]
) -> Report:
    mine = len(labels) - 1
    owner_W, left = new.window_class_W.long(), new.left_out()
    own = owner_W == mine
    accepted_W = (left.nearest_W == owner_W) & (left.margin_W > 0) & (left.distance_W <= new.reach_C[owner_W])
    adapted_WF = new.window_WF[own] @ new.adapted_FF
    distance_WO = torch.cdist(adapted_WF, new.centre_known_OF) / left.distance_W[own, None]
    apart = {int(k): distance_WO[:, new.known_class_O == k].amin(-1).median().item()
             for k in new.known_class_O.unique()}
    nearest_known = sorted(apart, key=apart.get)[:3]

    def title(k: int) -> str:
        return known[k] if k < len(known) else f"class {k}"

    reference_NF = new.reference_NF.float() @ new.adapted_FF
    taken_N = new._logits(reference_NF).amax(-1) > 0
    by_me_N = taken_N & (nearest(reference_NF, new.centre_CF) == mine)
    taken_from = {}
    for k in new.reference_class_N[by_me_N].unique().tolist():
        taken_from[title(k)] = by_me_N[new.reference_class_N == k].float().mean().item()
    others = [k for k in range(len(labels)) if k != mine]
    taken_for = {labels[k]: (left.nearest_W[own] == k).float().mean().item() for k in others}
    takes = {labels[k]: (left.nearest_W[owner_W == k] == mine).float().mean().item() for k in others}
    report = Report(
        name, head, int(own.sum()), accepted_W[own].float().mean().item(), before,
        {title(k): apart[k] for k in nearest_known}, {k: v for k, v in taken_for.items() if v},
        {k: v for k, v in takes.items() if v}, taken_N.float().mean().item(),
        dict(sorted(taken_from.items(), key=lambda pair: -pair[1])))
    if report.recognised < 0.5:
        report.remarks.append(f"too much like {title(nearest_known[0])}: {report.recognised:.0%} of its own windows "
                              "would be recognised; more windows, or a purer recording, may help")
    for other, share in (report.taken_for | report.takes).items():
        if share >= 0.2:
            report.remarks.append(f"hard to tell from {other}, which is enrolled too")
    return report


def load(weights: str | Path) -> tuple[Path, MultiHead, WindowSpec, dict]:
    """Path, model, window and header of a released name or a weights path."""
    path = resolve(weights)
    return path, *load_weights(path)


def save(path: str | Path, model: MultiHead, window: WindowSpec, header: dict) -> None:
    """Write the weights file; EMindError where that cannot be."""
    try:
        save_weights(path, model, window, header["calibration"], header["training"], header["figures"])
    except OSError as fault:
        raise EMindError(f"{path}: cannot be written ({fault.strerror or fault})") from None
