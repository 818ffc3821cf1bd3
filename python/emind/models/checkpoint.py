"""Weights files: safetensors with everything needed to use them in the header. Loading runs no code from the file."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..contract.errors import EMindError
from ..contract.window import HeadSpec, WindowSpec
from .emind import EncoderConfig
from .heads import HEADS, MultiHead

FORMAT = "gr-emind-weights"
VERSION = 1
REQUIRED = ("architecture", "window", "heads", "calibration", "training", "figures")


def save_weights(
    path: str | Path, model: MultiHead, window: WindowSpec, calibration: dict, training: dict, figures: dict
) -> None:
    """Write the weights file, under its final name only when it is whole.

    ``calibration`` maps a head to ``{"temperature": float}``; ``training`` says how the weights were made
    (configuration, seed, data, code version); ``figures`` holds what was measured.
    """
    path = Path(path)
    header = {
        "architecture": model.encoder.config.to_dict(),
        "window": window.to_dict(),
        "heads": [asdict(spec) for spec in model.specs.values()],
        "calibration": calibration,
        "training": training,
        "figures": figures,
    }
    metadata = {"format": FORMAT, "version": str(VERSION)}
    metadata |= {key: json.dumps(value, sort_keys=True) for key, value in header.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata=metadata)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_header(path: str | Path) -> dict:
    """The header of a weights file as a dict with the keys of ``REQUIRED``, parsed."""
    with _opened(path) as file:
        return _parse(path, file.metadata())


def load_weights(path: str | Path) -> tuple[MultiHead, WindowSpec, dict]:
    """Model in evaluation mode, its window and the parsed header."""
    with _opened(path) as file:
        header = _parse(path, file.metadata())
        found = {name: file.get_tensor(name) for name in file.keys()}
    try:
        config = EncoderConfig(**header["architecture"])
        window = WindowSpec.from_dict(header["window"])
        heads = {h["name"]: HeadSpec(h["name"], h["kind"], tuple(h["labels"])) for h in header["heads"]}
        unknown = [spec.kind for spec in heads.values() if spec.kind not in HEADS]
        if unknown:
            raise ValueError(f"unknown head kind {unknown[0]!r}")
        model = MultiHead(config, heads)
    except (TypeError, KeyError, ValueError) as error:
        raise EMindError(f"weights {path}: the header does not describe a model of this version ({error})") from None
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise EMindError(f"weights {path}: {len(missing)} tensors are missing, the first is {missing[0]}")
    foreign = sorted(set(found) - set(wanted))
    if foreign:
        raise EMindError(f"weights {path}: tensor {foreign[0]} does not belong to the model in its header")
    wrong = sorted(name for name in wanted if wanted[name] != found[name].shape)
    if wrong:
        raise EMindError(
            f"weights {path}: tensor {wrong[0]} has shape {tuple(found[wrong[0]].shape)}, "
            f"the header asks for {tuple(wanted[wrong[0]])}"
        )
    model.load_state_dict(found)
    return model.eval(), window, header


def _opened(path: str | Path):
    if not Path(path).is_file():
        raise EMindError(f"weights {path}: no such file")
    try:
        return safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as error:
        raise EMindError(f"weights {path}: not a whole safetensors file ({error}); get the file again") from None


def _parse(path: str | Path, metadata: dict | None) -> dict:
    metadata = metadata or {}
    if metadata.get("format") != FORMAT:
        raise EMindError(f"weights {path}: a safetensors file, but not one of gr-emind")
    if metadata.get("version") != str(VERSION):
        raise EMindError(f"weights {path}: version {metadata.get('version')}; this gr-emind reads version {VERSION}")
    absent = [key for key in REQUIRED if key not in metadata]
    if absent:
        raise EMindError(f"weights {path}: the header lacks {', '.join(absent)}")
    try:
        return {key: json.loads(metadata[key]) for key in REQUIRED}
    except json.JSONDecodeError as error:
        raise EMindError(f"weights {path}: the header is damaged ({error})") from None
