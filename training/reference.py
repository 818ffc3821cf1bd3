"""`emind-train reference`: windows of known classes into a weights file, so that classes can be enrolled with it.

    known classes ─► encoder ─► features ─┬─► centres of each class
                                          └─► the rest, kept: how many answers an enrolled class would change
    kinds drawn by chance ─► encoder ─► features less the mean of their kind, and of their class ─► whitening

The windows are drawn with seeds of their own: neither training nor validation nor test saw them.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from .synthesis import kinds as drawn_kinds
from .synthesis.air import CLASSES, AirConfig, air_batch

SEED = 0x0EF
KINDS_SEED = 0x0EE
BATCH = 128
PER_CLASS = 6  # centres
COMPONENTS = 64  # of spectral features
OF_COMPONENTS = 4000  # windows that they are found on
TOLD_TWICE = 512  # windows whose features are made at another rate as well


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.epilog = "example: emind-train reference emind-nano"
    p.add_argument("weights", help="released name or path; the file gets the reference, everything in it stays")
    p.add_argument("--windows", type=int, default=6144, help="of the air set (default 6144)")
    p.add_argument("--kept", type=int, default=3072, help="of these, kept in the file (default 3072)")
    p.add_argument("--kinds", type=int, default=16000, metavar="WINDOWS",
                   help="windows of kinds drawn by chance, for the whitening (default 16000)")
    p.add_argument("--json", action="store_true", help="print what was done as JSON")
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from emind.contract.errors import UsageError
    from emind.models.checkpoint import load_weights, save_weights
    from emind.runtime.weights import resolve

    if not 0 < args.kept <= args.windows // 2:
        raise UsageError(f"--kept {args.kept} must be at least 1 and at most half of --windows {args.windows}")
    if args.kinds < drawn_kinds.FAMILY_WINDOWS:
        raise UsageError(f"--kinds {args.kinds} must be at least {drawn_kinds.FAMILY_WINDOWS}")
    begun = time.monotonic()
    path = resolve(args.weights)
    model, window, header = load_weights(path)
    with_reference(model, window, header, args.windows, args.kept, args.kinds)
    save_weights(path, model, window, header["calibration"], header["training"], header["figures"])
    told = {"weights": str(path), **header["training"]["reference"], "seconds": round(time.monotonic() - begun, 1)}
    print(json.dumps(told) if args.json else
          f"{path}: reference of {args.kept} of {args.windows} windows of {len(told['classes'])} classes; "
          f"{told['seconds']:.0f} s, {Path(path).stat().st_size / 1e6:.1f} MB")
    return 0


def with_reference(
    model, window, header: dict, windows: int, kept: int, kinds: int, head: str = "modulation"
) -> None:
    """Give the model a head of prototypes without enrolled classes, in place of those that it has."""
    import torch
    from emind.contract.window import PROTOTYPES, HeadSpec
    from emind.models.prototypes import inside, main_components, reference_head
    from emind.runtime.enrolling import base_name, features_of, spectral_of

    for name in [name for name, spec in model.specs.items() if spec.kind == PROTOTYPES]:
        del model.heads[name], model.specs[name]
    header["figures"].pop("enrolled", None)
    kind_iq, kind_rate, kind = drawn_kinds.windows_of_kinds(
        KINDS_SEED, kinds, window.length, (window.rate_min_hz, window.rate_max_hz))
    component_XY = None
    if model.encoder.spectral_tokens is not None:
        component_XY = main_components(spectral_of(window, kind_iq[:: max(1, len(kind_iq) // OF_COMPONENTS)]), COMPONENTS)

    def seen(iq: np.ndarray, rate: np.ndarray) -> torch.Tensor:
        return features_of(model, window, header, iq, rate, component_XY=component_XY)

    iq, rate, label = air_windows(SEED, windows, window)
    features_NF = seen(iq, rate)
    again = slice(0, min(windows - kept, TOLD_TWICE))
    told = np.random.default_rng(SEED).permutation(rate[again])
    shift_MF = seen(iq[again], told) - features_NF[again]
    inside_KF = inside(seen(kind_iq, kind_rate), torch.from_numpy(kind))
    known = list(CLASSES)
    made = reference_head(model.encoder.config.width, features_NF, torch.from_numpy(label), kept, PER_CLASS, shift_MF,
                          inside_KF, component_XY)
    spec = HeadSpec(base_name(head), PROTOTYPES, (), centres=len(made.known_OF), extends=head, references=kept,
                    components=made.component_XY.shape[1])
    model.specs[spec.name], model.heads[spec.name] = spec, made.eval()
    header["training"]["reference"] = {"set": "Air", "seed": SEED, "windows": windows, "kept": kept, "classes": known,
                                       "kinds": {"seed": KINDS_SEED, "windows": len(kind)}}


def air_windows(seed: int, count: int, window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows (N, L) complex64, rates (N,) in Hz and labels (N,) as numbers in CLASSES, of the air set."""
    limits = {key: value for key, value in (("rate_min_hz", window.rate_min_hz), ("rate_max_hz", window.rate_max_hz))
              if 0 < value < float("inf")}
    config = AirConfig(length=window.length, **limits)
    batches = [air_batch(seed, k, BATCH, config) for k in range(-(-count // BATCH))]
    parts = [np.concatenate([getattr(batch, name) for batch in batches])[:count] for name in ("iq", "rate", "label")]
    return parts[0], parts[1], parts[2]
