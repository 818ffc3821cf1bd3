"""Weights files of pretrained autoencoders."""

import json
import struct

import pytest
import torch
from emind import cli
from emind.contract.errors import EMindError
from emind.contract.window import HeadSpec, WindowSpec
from emind.models.checkpoint import (
    AUTOENCODER, REQUIRED, load_encoder, load_pretrained, load_weights, read_header, save_pretrained, save_weights,
    with_figures)
from emind.models.heads import MultiHead
from emind.models.pretraining import AUTOENCODERS, MaskedAutoencoder
from emind.runtime.engine import load_engine
from safetensors.torch import load_file, save_file

TOKENIZER = {"patch": 16, "channels": "iq_envelope_phase", "spectral": True}
WINDOW = WindowSpec(patch=16, rate_min_hz=1e4, rate_max_hz=5e7)


def saved(path, **changes):
    torch.manual_seed(0)
    config = AUTOENCODERS["nano"](**TOKENIZER)
    model = MaskedAutoencoder(config)
    save_pretrained(path, model, WINDOW, {"seed": 3}, {"loss": 0.5, **changes})
    return model.eval()


@pytest.fixture
def pretrained(tmp_path):
    path = tmp_path / "p.safetensors"
    return path, saved(path)


def same(a, b):
    first, second = a.state_dict(), b.state_dict()
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


def test_a_pretrained_file_brings_back_encoder_decoder_window_and_header(pretrained):
    path, model = pretrained
    loaded, window, header = load_pretrained(path)
    assert same(loaded, model) and window == WINDOW and not loaded.training
    assert loaded.config == model.config
    assert header["heads"] == [] and header["training"] == {"seed": 3} and header["figures"] == {"loss": 0.5}
    assert header[AUTOENCODER]["mask_share"] == model.config.mask_share


def test_the_encoder_alone_comes_from_either_kind_of_file(pretrained, tmp_path):
    path, model = pretrained
    encoder, window, _ = load_encoder(path)
    assert same(encoder, model.encoder) and window == WINDOW and not encoder.training
    heads = MultiHead(model.encoder.config, {"modulation": HeadSpec("modulation", "classification", ("a", "b"))})
    save_weights(tmp_path / "h.safetensors", heads, WINDOW, {}, {}, {})
    encoder, _, header = load_encoder(tmp_path / "h.safetensors")
    assert same(encoder, heads.encoder) and set(header) == set(REQUIRED)


def test_measured_figures_are_added_and_nothing_else_changes(pretrained):
    path, model = pretrained
    header = with_figures(path, {"fewshot": {"a": 1}})
    assert header["figures"] == {"loss": 0.5, "fewshot": {"a": 1}} == read_header(path)["figures"]
    assert same(load_pretrained(path)[0], model)
    assert [p.name for p in path.parent.iterdir()] == ["p.safetensors"]


def test_a_file_with_heads_holds_no_decoder_and_says_so(tmp_path):
    path = tmp_path / "h.safetensors"
    model = MultiHead(AUTOENCODERS["nano"]().encoder, {"modulation": HeadSpec("modulation", "classification", ("a",))})
    save_weights(path, model, WindowSpec(), {}, {}, {})
    with pytest.raises(EMindError, match="h.safetensors: an encoder with heads, .* holds no decoder"):
        load_pretrained(path)


@pytest.mark.parametrize("load", [load_weights, load_engine])
def test_a_pretrained_file_answers_nothing_and_says_what_to_do(pretrained, load):
    with pytest.raises(EMindError, match="without heads.*emind-train finetune --init .*p.safetensors") as caught:
        load(pretrained[0])
    assert "\n" not in str(caught.value)


def test_classify_with_a_pretrained_file_is_one_line_and_status_1(pretrained, tmp_path, capsys):
    (tmp_path / "a.cf32").write_bytes(torch.zeros(8192).numpy().tobytes())
    status = cli.main(["classify", str(tmp_path / "a.cf32"), "--rate", "1e6", "--weights", str(pretrained[0])])
    said = capsys.readouterr().err.strip()
    assert status == 1 and said.count("\n") == 0 and "without heads" in said and "finetune --init" in said


def test_emind_weights_shows_what_a_pretrained_file_is(pretrained, capsys):
    assert cli.main(["weights", "show", str(pretrained[0])]) == 0
    said = capsys.readouterr().out
    assert "autoencoder" in said and "decoder_width = 64" in said and "none: pretrained" in said
    assert cli.main(["weights", "show", str(pretrained[0]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[AUTOENCODER]["decoder_width"] == 64


def rewritten(path, change_metadata=lambda m: m, change_tensors=lambda t: t):
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        metadata = json.loads(file.read(size))["__metadata__"]
    save_file(change_tensors(load_file(path)), path, metadata=change_metadata(metadata))


@pytest.mark.parametrize("load", [load_pretrained, load_encoder])
def test_damage_is_named(pretrained, load):
    path, _ = pretrained
    whole = path.read_bytes()
    rewritten(path, change_tensors=lambda t: {k: v for k, v in t.items() if k != "encoder.class_token"})
    with pytest.raises(EMindError, match="1 tensors are missing, the first is encoder.class_token"):
        load(path)
    path.write_bytes(whole)
    rewritten(path, change_tensors=lambda t: t | {"encoder.class_token": torch.zeros(3)})
    with pytest.raises(EMindError, match=r"encoder.class_token has shape \(3,\)"):
        load(path)
    path.write_bytes(whole[:-1000])
    with pytest.raises(EMindError, match="p.safetensors: not a whole safetensors file"):
        load(path)


def test_a_decoder_that_lacks_a_tensor_is_named(pretrained):
    path, _ = pretrained
    rewritten(path, change_tensors=lambda t: {k: v for k, v in t.items() if k != "decoder.mask_token"})
    with pytest.raises(EMindError, match="decoder.mask_token"):
        load_pretrained(path)
    load_encoder(path)  # the encoder is whole


def test_a_header_that_describes_no_autoencoder_is_an_error_and_not_a_traceback(pretrained):
    path, _ = pretrained
    rewritten(path, change_metadata=lambda m: m | {AUTOENCODER: '{"encoder": {"width": 128}}'})
    with pytest.raises(EMindError, match="does not describe a model"):
        load_pretrained(path)
