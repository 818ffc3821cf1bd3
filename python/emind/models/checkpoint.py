"""Weights files: safetensors with everything needed to use them in the header. Loading runs no code from the file.

Two kinds share one format: an encoder with its heads, which the block loads, and a pretrained masked autoencoder, which
has no heads yet; its header has the entry ``autoencoder`` besides.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..contract.errors import EMindError
from ..contract.window import HeadSpec, WindowSpec
from .emind import Encoder, EncoderConfig
from .heads import HEADS, MultiHead

if TYPE_CHECKING:
    from .pretraining import MaskedAutoencoder

FORMAT = "gr-emind-weights"
VERSION = 1
REQUIRED = ("architecture", "window", "heads", "calibration", "training", "figures")
AUTOENCODER = "autoencoder"  # only in the header of a pretrained file
ENCODER = "encoder."  # what the names of the encoder's tensors begin with, in both kinds


def save_weights(
    path: str | Path, model: MultiHead, window: WindowSpec, calibration: dict, training: dict, figures: dict
) -> None:
    """Write the weights file, under its final name only when it is whole.

    ``calibration`` maps a head to ``{"temperature": float}`` and, where it may answer ``unknown``, ``"unknown":
    {"threshold": float}`` on :func:`~.heads.energy` beside it; ``training`` says how the weights were made
    (configuration, seed, data, code version); ``figures`` holds what was measured.
    """
    _save(path, model, {
        "architecture": model.encoder.config.to_dict(),
        "window": window.to_dict(),
        "heads": [spec.to_dict() for spec in model.specs.values()],
        "calibration": calibration,
        "training": training,
        "figures": figures,
    })  # fmt: skip


def save_pretrained(
    path: str | Path, model: MaskedAutoencoder, window: WindowSpec, training: dict, figures: dict
) -> None:
    """Write the weights file of a pretrained autoencoder: encoder and decoder, no heads.

    ``window`` is what a head on top of it starts from; ``training`` and ``figures`` as in :func:`save_weights`.
    """
    _save(path, model, {
        "architecture": model.encoder.config.to_dict(),
        "window": window.to_dict(),
        "heads": [],
        "calibration": {},
        "training": training,
        "figures": figures,
        AUTOENCODER: model.config.to_dict(),
    })  # fmt: skip


def with_figures(path: str | Path, figures: dict) -> dict:
    """Put measured figures into the header of a finished weights file; those of other names stay. The new header."""
    with _opened(path) as file:
        header = _parse(path, file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    header["figures"] = {**header["figures"], **figures}
    _write(Path(path), tensors, header)
    return header


def read_header(path: str | Path) -> dict:
    """The header of a weights file as a dict with the keys of ``REQUIRED``, parsed; of a pretrained one also
    ``autoencoder``."""
    with _opened(path) as file:
        return _parse(path, file.metadata())


def load_weights(path: str | Path) -> tuple[MultiHead, WindowSpec, dict]:
    """Model in evaluation mode, its window and the parsed header. EMindError for a file without heads."""
    header, found = _read(path)
    if AUTOENCODER in header:
        raise EMindError(f"weights {path}: a pretrained encoder without heads, which answers nothing yet; train heads "
                         f"with `emind-train finetune --init {path}`")

    def build() -> MultiHead:
        heads = {fields["name"]: HeadSpec.from_dict(fields) for fields in header["heads"]}
        unknown = [spec.kind for spec in heads.values() if spec.kind not in HEADS]
        if unknown:
            raise ValueError(f"unknown head kind {unknown[0]!r}")
        return MultiHead(EncoderConfig(**header["architecture"]), heads)

    model, window = _built(path, header, build)
    return _filled(path, model, found), window, header


def load_pretrained(path: str | Path) -> tuple[MaskedAutoencoder, WindowSpec, dict]:
    """Autoencoder in evaluation mode, its window and the parsed header. EMindError for a file that holds no decoder."""
    from .pretraining import AutoencoderConfig, MaskedAutoencoder  # the block, which loads this module, needs neither

    header, found = _read(path)
    if AUTOENCODER not in header:
        raise EMindError(f"weights {path}: an encoder with heads, not a pretrained autoencoder: it holds no decoder")

    model, window = _built(path, header, lambda: MaskedAutoencoder(AutoencoderConfig.from_dict(header[AUTOENCODER])))
    return _filled(path, model, found), window, header


def load_encoder(path: str | Path) -> tuple[Encoder, WindowSpec, dict]:
    """The encoder alone, in evaluation mode, of a file of either kind; window and parsed header."""
    header, found = _read(path)
    encoder, window = _built(path, header, lambda: Encoder(EncoderConfig(**header["architecture"])))
    own = {name: tensor for name, tensor in found.items() if name.startswith(ENCODER)}
    return _filled(path, encoder, own, ENCODER), window, header


def _save(path: str | Path, model: nn.Module, header: dict) -> None:
    _write(Path(path), {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}, header)


def _write(path: Path, tensors: dict[str, Tensor], header: dict) -> None:
    metadata = {"format": FORMAT, "version": str(VERSION)}
    metadata |= {key: json.dumps(value, sort_keys=True) for key, value in header.items()}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata=metadata)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _read(path: str | Path) -> tuple[dict, dict[str, Tensor]]:
    with _opened(path) as file:
        return _parse(path, file.metadata()), {name: file.get_tensor(name) for name in file.keys()}


def _built(path: str | Path, header: dict, build: Callable[[], nn.Module]) -> tuple[nn.Module, WindowSpec]:
    try:
        return build(), WindowSpec.from_dict(header["window"])
    except (TypeError, KeyError, ValueError) as error:
        raise EMindError(f"weights {path}: the header does not describe a model of this version ({error})") from None


def _filled(path: str | Path, model: nn.Module, found: dict[str, Tensor], prefix: str = "") -> nn.Module:
    """The model with the file's tensors, in evaluation mode; ``prefix``: what stands before their names in the file."""
    wanted = {prefix + name: tensor.shape for name, tensor in model.state_dict().items()}
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
    model.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in found.items()})
    return model.eval()


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
        return {key: json.loads(metadata[key]) for key in (*REQUIRED, AUTOENCODER) if key in metadata}
    except json.JSONDecodeError as error:
        raise EMindError(f"weights {path}: the header is damaged ({error})") from None
