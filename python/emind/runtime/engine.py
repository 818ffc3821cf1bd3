"""From a weights file to a callable on numpy windows, by whichever back end is asked for or fastest."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from ..contract.errors import EMindError, UsageError
from ..contract.window import ANOMALY, CLASSIFICATION, PROTOTYPES, RECONSTRUCTION, Domain, WindowSpec
from ..dsp.normalise import NORMALISE
from ..models.checkpoint import load_weights
from ..models.heads import MultiHead
from .engine_base import Engine, has_bfloat16
from .engine_torch import CompiledEngine, TorchEngine
from .enrolled import enrolled, visible
from .header import check_heads
from .machine import available_threads
from .weights import resolve

AUTO, OPENVINO, COMPILED = "auto", "openvino", "torch-compiled"
BACKENDS = (AUTO, OPENVINO, "openvino-float32", "torch", "torch-float32", "torch-bfloat16", COMPILED)

_log = logging.getLogger("emind")


def load_engine(
    weights: str | Path = "emind-nano", backend: str = AUTO, threads: int = 0, heads: Iterable[str] | None = None
) -> Engine:
    """Engine of a released name or a weights path. ``threads`` 0: all of the machine's, and never more than those.

    ``auto`` is CUDA where there is a device, else OpenVINO where it is installed, else torch. Without a suffix the
    layers run in bfloat16 where the processor multiplies it. ``engine.backend`` says what it came to. ``heads``: names
    of those to run, None for all: heads that make waveforms cost as much as a layer or two.

    Raises UsageError for a back end that is not known, EMindError for one that is not installed and for weights that
    cannot be used or lack a head.
    """
    _known(backend)
    path = resolve(weights)
    model, spec, header = load_weights(path)
    _keep(model, heads, path)
    _check_header(model, spec, header, path)
    engine = engine_of(model, spec, header, path.stem, backend, threads)
    engine.weights = str(weights)
    return engine


def _known(backend: str) -> None:
    if backend not in BACKENDS:
        raise UsageError(f"back end {backend!r} is not known; known: {', '.join(BACKENDS)}")


def engine_of(
    model: MultiHead, spec: WindowSpec, header: dict, name: str, backend: str = AUTO, threads: int = 0
) -> Engine:
    """Engine of a model in memory, its window and its header; else as :func:`load_engine`."""
    _known(backend)
    most = available_threads()
    threads = min(threads, most) if threads > 0 else most
    parts = model, spec, header, name, threads
    half = backend == "torch-bfloat16" or (has_bfloat16() and not backend.endswith("float32"))
    cuda = torch.cuda.is_available()
    if backend in (OPENVINO, "openvino-float32") or (backend == AUTO and not cuda and _has_openvino()):
        if not _has_openvino():
            raise EMindError(f"back end {backend}: openvino is not installed; pip install 'gr-emind[openvino]'")
        from .engine_openvino import OpenVINOEngine

        return OpenVINOEngine(*parts, half, _graph_hash(model, header))
    if backend == COMPILED:
        try:
            return CompiledEngine(*parts, half)
        except EMindError as error:
            _log.warning("%s; the eager torch back end runs instead", error)
    if cuda and backend in (AUTO, "torch"):
        return TorchEngine(*parts, True, "cuda")
    return TorchEngine(*parts, half)


def _keep(model: MultiHead, names: Iterable[str] | None, path: Path) -> None:
    """Leave the model the heads of these names, in the file's order, with the classes enrolled for them."""
    known = visible(model.specs)
    wanted = set(known if names is None else check_heads(names, list(known), path))
    kept = [name for name, spec in model.specs.items() if spec.kind != PROTOTYPES and name in wanted]
    kept += [name for name, spec in enrolled(model.specs).items() if spec.extends in wanted]
    for name in [name for name in model.specs if name not in kept]:
        del model.heads[name], model.specs[name]


def _check_header(model: MultiHead, spec: WindowSpec, header: dict, path: Path) -> None:
    """EMindError where an engine cannot use what the header says of its heads."""
    try:
        Domain.of_heads(model.specs, spec, header["training"])
        for name in model.specs:
            entry = header["calibration"].get(name, {})
            if not float(entry.get("temperature", 1.0)) > 0 or "unknown" in entry:
                float(entry["unknown"]["threshold"])
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        fault = f"{type(error).__name__}: {error}"
        raise EMindError(f"weights {path}: the header does not say what its heads were trained on ({fault})") from None


def _graph_hash(model: MultiHead, header: dict) -> str:
    """Of what a compiled graph is made of: the encoder and heads that make waveforms. Others can come and go."""
    found = hashlib.sha256(repr((header["architecture"], header["window"])).encode())
    waves = [model.heads[name] for name, spec in model.specs.items() if spec.kind == RECONSTRUCTION]
    for module in (model.encoder, *waves):
        for name, tensor in module.state_dict().items():
            found.update(name.encode())
            found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def _has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None


def load_naive(
    weights: str | Path = "emind-nano", heads: Iterable[str] | None = None
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The model as one would obviously call it: eager, float32, one raw window (L,) at a time. For comparison.

    It gives the probabilities of heads that classify or find anomalies, uncalibrated, and what the others put out.
    """
    path = resolve(weights)
    model, spec, _ = load_weights(path)
    _keep(model, heads, path)
    normalise = NORMALISE[spec.normalisation]
    asked = (CLASSIFICATION, ANOMALY)

    @torch.inference_mode()
    def call(window: np.ndarray) -> dict[str, np.ndarray]:
        outputs = model(torch.from_numpy(normalise(window[None])), torch.full((1,), torch.nan))
        return {
            name: (torch.softmax(value[0], dim=-1) if model.specs[name].kind in asked else value[0]).numpy()
            for name, value in outputs.items()
        }

    return call
