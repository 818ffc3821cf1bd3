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
from emind.runtime.weights import FOLDER
from emind_training import cli as train_cli
from emind_training import finetune
from emind_training import pretrained_card as cards
from emind_training.config import FinetuneConfig, ModelConfig, OptimConfig, RunConfig
from emind_training.synthesis.build import file_hash
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


# ------------------------------------------------------------------------------------------------- finetune --init


def config(learning_rate=1e-9, **model):
    fields = {"channels": "iq_envelope_phase", "spectral": True, "patch": 16} | model
    return FinetuneConfig(
        model=ModelConfig(**fields),
        optim=OptimConfig(steps=1, batch=4, warmup_steps=1, learning_rate=learning_rate, weight_decay=0.0),
        run=RunConfig(name="t", threads=1, producers=0, validate_every=1, validation_windows=8, log_every=1),
    )  # fmt: skip


def test_fine_tuning_starts_from_the_encoder_of_the_file_and_says_so(pretrained, tmp_path):
    path, model = pretrained
    tuned, record = finetune.train(config(), tmp_path / "run", False, path)
    for name, value in model.encoder.state_dict().items():
        torch.testing.assert_close(tuned.encoder.state_dict()[name], value, atol=1e-6, rtol=0)
    own = {"name": "p.safetensors", "sha256": file_hash(path)}
    assert record["init"] == own | {"pretrained": own, "fresh": []}
    scratch, record = finetune.train(config(), tmp_path / "scratch", False)
    weight = scratch.encoder.state_dict()["patch_layer.weight"]
    assert (weight - model.encoder.state_dict()["patch_layer.weight"]).abs().max() > 1e-3 and "init" not in record


def test_spectral_tokens_that_the_file_lacks_start_fresh(tmp_path):
    path = tmp_path / "plain.safetensors"
    model = MaskedAutoencoder(AUTOENCODERS["nano"](patch=16, channels="iq_envelope_phase"))
    save_pretrained(path, model, WINDOW, {}, {})
    tuned = finetune.build_model(config())
    before = tuned.encoder.spectral_tokens.weight.clone()
    assert finetune.start_from(path, tuned.encoder)["fresh"] == ["spectral_tokens"]
    assert torch.equal(tuned.encoder.spectral_tokens.weight, before)
    assert torch.equal(tuned.encoder.patch_layer.weight, model.encoder.patch_layer.weight)


@pytest.mark.parametrize("model, fault", [
    ({"size": "tiny"}, "the encoder has width 128, the configuration asks for 192"),
    ({"patch": 8}, "the encoder has patch 16, the configuration asks for 8"),
    ({"channels": "iq"}, "the encoder has channels iq_envelope_phase, the configuration asks for iq"),
    ({"spectral": False}, "the encoder has spectral True, the configuration asks for False"),
])  # fmt: skip
def test_another_architecture_is_refused(pretrained, model, fault):
    with pytest.raises(EMindError, match=f"p.safetensors: {fault}"):
        finetune.start_from(pretrained[0], finetune.build_model(config(**model)).encoder)


def test_a_resumed_run_must_start_from_the_same_file(pretrained, tmp_path):
    finetune.train(config(), tmp_path / "run", False, pretrained[0])
    with pytest.raises(EMindError, match="the run started from p.safetensors, not from random weights"):
        finetune.train(config(), tmp_path / "run", True)
    _, record = finetune.train(config(), tmp_path / "run", True, pretrained[0])
    assert record["init"]["name"] == "p.safetensors"


def test_the_command_records_the_file_in_header_and_card(pretrained, tmp_path, capsys):
    toml = tmp_path / "c.toml"
    toml.write_text('[model]\npatch = 16\n[optim]\nsteps = 1\nbatch = 4\n[run]\nname = "c"\nproducers = 0\n'
                    "threads = 1\nvalidation_windows = 64\ntest_windows = 256\n")
    out = tmp_path / "c.safetensors"
    assert train_cli.main(["finetune", "--config", str(toml), "--runs", str(tmp_path / "runs"), "--out", str(out),
                           "--init", str(pretrained[0])]) == 0
    digest = file_hash(pretrained[0])
    assert read_header(out)["training"]["init"]["sha256"] == digest
    card = out.with_suffix(".md").read_text()
    assert "- Made by: `.venv/bin/emind-train finetune --task modulation " in card
    assert f"--init {pretrained[0]}" in card and digest in card
    capsys.readouterr()
    status = train_cli.main(["finetune", "--config", str(toml), "--runs", str(tmp_path / "other"),
                             "--init", str(tmp_path / "none.safetensors")])
    assert status == 1 and "none.safetensors: no such file" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


# ------------------------------------------------------------------------------------------------- released files

# A file whose card, pictures or place in the documentation do not belong to its header is found by `faults`. It is
# tried on a file made here, so that it cannot pass for want of released ones.


def faults(path):
    """What does not belong to a pretrained weights file beside it."""
    header, found = read_header(path), []
    load_pretrained(path)
    if not path.with_suffix(".md").is_file() or path.with_suffix(".md").read_text() != cards.card(path.stem, header):
        found.append("card")
    pictures = ["loss"] + ["probe"] * bool(header["training"]["probes"]) + ["fewshot"] * ("fewshot" in header["figures"])
    return found + [name for name in pictures if not path.with_name(f"{path.stem}-{name}.png").is_file()]


def made_file(folder):
    path = folder / "made-pretrained.safetensors"
    saved(path)
    look = {"signals": 0, "validation": 0.9, "sets": {"A": 0.9}, "weights": {"A": 1.0}, "step": 0}
    training = {
        "config": {"run": {"seed": 1, "name": "x"}, "probe": {"set": "S", "train": 1, "test": 1}}, "code": "abc",
        "corpus": {"files": {"A-train.parquet": "12ab"}, "sets": {"A": {"signals": 5, "drawn": 7}}, "signals": 5,
                   "skipped": ["skipped: B"]},
        "parameters": {"autoencoder": 20, "encoder": 10},
        "machine": {"processor": "p", "torch": "t", "threads": 1, "processes": 1, "parallel": "none"},
        "steps": 3, "signals": 7, "samples": 700, "epochs": 1.4, "seconds": 60.0,
        "best": {"step": 3, "validation": 0.7}, "history": [look, look],
        "probes": [{"step": 0, "signals": 0, "accuracy": 0.25}],
    }  # fmt: skip
    save_pretrained(path, load_pretrained(path)[0], WINDOW, training, {})
    return path


def test_a_card_is_that_of_its_header_or_is_found_out(tmp_path):
    path = made_file(tmp_path)
    assert faults(path) == ["card", "loss", "probe"]
    cards.write_card(path)
    assert faults(path) == []
    card = path.with_suffix(".md")
    for stated in ("| A-train.parquet | `12ab` |", "3 steps, 7 signals", "[run]\nname = \"x\"\nseed = 1", "skipped: B",
                   "| 0 | 0 | 25.0 |", "| A | 5 | 7 | 0.9000 | 0.9000 | 1 |"):
        assert stated in card.read_text()
    card.write_text(card.read_text().replace("25.0", "35.0"))
    assert faults(path) == ["card"]


def test_released_pretrained_files_belong_to_their_cards():
    assert {path.name: found for path in FOLDER.glob(cards.RELEASED) if (found := faults(path))} == {}


def test_the_documentation_has_the_figures_of_the_released_files_and_no_others():
    page = cards.PAGE.read_text()
    assert page == cards.with_section(page, cards.section(cards.released_headers(FOLDER)))
