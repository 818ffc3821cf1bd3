"""The air set and the training run on it."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from emind.contract.errors import EMindError, UsageError
from emind.contract.vocabulary import FAMILIES, MODULATIONS
from emind.models.checkpoint import read_header
from emind_training import cli, finetune
from emind_training.config import FinetuneConfig, OptimConfig, RunConfig, read_config
from emind_training.evaluate import figures_of, temperature_of
from emind_training.stream import air_batches
from emind_training.synthesis import air
from emind_training.synthesis.air import CLASSES, AirConfig, air_batch, window_and_rate
from safetensors import safe_open
from safetensors.torch import save_file


def test_the_generators_make_every_class_of_the_vocabulary_and_no_other():
    assert set(CLASSES) == set(MODULATIONS) and len(CLASSES) >= 20 and len(FAMILIES) == 10


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_gives_finite_windows_that_differ(name):
    rng = np.random.default_rng(3)
    windows = [window_and_rate(rng, name)[0] for _ in range(12)]
    assert all(w.shape == (1024,) and w.dtype == np.complex64 and np.isfinite(w).all() for w in windows)
    assert all(np.any(np.abs(w) > 0) for w in windows)
    assert not np.array_equal(windows[0], windows[1])


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
@pytest.mark.parametrize("name", ["QPSK", "GFSK", "OFDM", "NFM"])
def test_the_snr_is_what_the_window_has(monkeypatch, name, snr_db):
    """Signal and noise are measured apart where they are added, before the receiver's filter."""
    seen = {}

    def noise(rng, n, power=1.0):
        seen.setdefault("noise", power)
        return np.sqrt(power / 2) * (rng.standard_normal(n) + 1j * rng.standard_normal(n))

    def propagated(rng, x, bandwidth, multicarrier):
        seen["signal"] = np.mean(np.abs(x[air.MARGIN : -air.MARGIN]) ** 2)
        return x

    monkeypatch.setattr(air.ch, "complex_noise", noise)
    monkeypatch.setattr(air, "_propagated", propagated)
    monkeypatch.setattr(air, "_burst", lambda rng, x, bursty: (x, np.arange(len(x)) // air.MARGIN % 10 % 9 > 0))
    monkeypatch.setattr(air, "PAIRED", {})  # a pair is two emitters, each with a power of its own
    monkeypatch.setattr(air, "TUNED_SHARE", 0.0)  # there the SNR holds after the tuner: test_air_receiver.py
    rng = np.random.default_rng(5)
    measured = []
    for _ in range(10):
        seen.clear()
        window_and_rate(rng, name, snr_db=snr_db)
        measured.append(10 * np.log10(seen["signal"] / seen["noise"]))
    assert np.mean(measured) == pytest.approx(snr_db, abs=0.5)


def test_a_batch_depends_on_seed_and_number_alone():
    a, b, other = air_batch(1, 5, 8), air_batch(1, 5, 8), air_batch(1, 6, 8)
    assert np.array_equal(a.iq, b.iq) and np.array_equal(a.label, b.label)
    assert not np.array_equal(a.iq, other.iq)


@pytest.mark.parametrize("producers", [1, 2])
def test_producers_deliver_the_same_batches_in_order(producers):
    direct = [b for _, b in air_batches(9, 2, 7, 4, AirConfig(), 0)]
    numbers, produced = zip(*air_batches(9, 2, 7, 4, AirConfig(), producers))
    assert numbers == (2, 3, 4, 5, 6)
    assert all(np.array_equal(a.iq, b.iq) for a, b in zip(direct, produced))


def test_rates_lie_in_the_stated_range_and_some_are_withheld():
    rate = air_batch(1, 0, 200).rate
    known = rate[np.isfinite(rate)]
    assert 0 < len(known) < 200 and known.min() >= AirConfig().rate_min_hz and known.max() <= AirConfig().rate_max_hz


# ------------------------------------------------------------------------------------------------ training runs


def small(steps=6, **run):
    return FinetuneConfig(
        optim=OptimConfig(steps=steps, batch=8, warmup_steps=2, bfloat16=False),
        run=RunConfig(
            producers=0, threads=1, validation_windows=16, test_windows=16, validate_every=100,
            checkpoint_seconds=0.0, **run,
        ),
    )  # fmt: skip


class Killed(Exception):
    """Stands for the end of the process."""


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, monkeypatch):
    whole, _ = finetune.train(small(), tmp_path / "whole", resume=False)
    save = finetune.save_state

    def save_and_die(path, step, *rest):
        save(path, step, *rest)
        if step == 3:
            raise Killed

    monkeypatch.setattr(finetune, "save_state", save_and_die)
    with pytest.raises(Killed):
        finetune.train(small(), tmp_path / "cut", resume=False)
    monkeypatch.setattr(finetune, "save_state", save)
    resumed, _ = finetune.train(small(), tmp_path / "cut", resume=True)
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values()):
        assert torch.equal(a, b), name


def test_a_checkpoint_is_neither_overwritten_nor_used_for_another_model(tmp_path):
    finetune.train(small(2), tmp_path, resume=False)
    with pytest.raises(EMindError, match="--resume"):
        finetune.train(small(2), tmp_path, resume=False)
    with pytest.raises(EMindError, match=r"another \[optim\]"):
        finetune.train(small(3), tmp_path, resume=True)
    [path] = tmp_path.rglob("checkpoint.safetensors")
    with safe_open(str(path), framework="pt") as file:
        state, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    lost = next(name for name in tensors if name.startswith("average."))
    save_file({name: value for name, value in tensors.items() if name != lost}, path, metadata=state)
    with pytest.raises(EMindError, match=f"not that of this run \\('{lost}'\\)"):
        finetune.train(small(2), tmp_path, resume=True)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "loss_of", lambda logits, label, config: logits.sum() * torch.nan)
    with pytest.raises(EMindError, match="not finite at step 0"):
        finetune.train(small(), tmp_path, resume=False)
    assert np.load(tmp_path / "bad_batch.npz")["iq"].shape == (8, 1024)


def test_training_learns_a_batch_that_it_sees_again_and_again(tmp_path, monkeypatch):
    batch = air_batch(1, 0, 16)
    monkeypatch.setattr(finetune, "air_batches", lambda seed, first, stop, *rest: ((k, batch) for k in range(first, stop)))
    monkeypatch.setattr(finetune, "fixed_batches", lambda *rest: [batch])
    optim = OptimConfig(steps=40, batch=16, warmup_steps=4, learning_rate=2e-3, average=0.5, bfloat16=False)
    _, record = finetune.train(dataclasses.replace(small(), optim=optim), tmp_path, resume=False)
    assert record["history"][-1]["accuracy"] > 0.8


def test_the_debug_configuration_runs_from_the_command_to_the_card(tmp_path, capsys):
    config = finetune.Path(finetune.__file__).parent / "configs" / "debug.toml"
    out = tmp_path / "w.safetensors"
    assert cli.main(["finetune", "--config", str(config), "--runs", str(tmp_path / "runs"), "--out", str(out)]) == 0
    header = read_header(out)
    assert header["training"]["windows"] == 96 and header["figures"]["modulation"]["windows"] == 256
    text = out.with_suffix(".md").read_text()
    assert str(config) in text and "w-snr.png" in text and (tmp_path / "w-snr.png").stat().st_size > 1000
    capsys.readouterr()
    assert cli.main(["evaluate", str(out), "--json", "--no-map", "--out", str(tmp_path)]) == 0
    head = json.loads(capsys.readouterr().out)["heads"]["modulation"]
    assert head["figures"] == header["figures"]["modulation"] and head["differs"] == []


@pytest.mark.parametrize(
    "text, fault",
    [
        ("[model]\nsise = 'nano'", "unknown key 'sise'"),
        ("[optim]\nsteps = 'many'", "steps must be int, not str"),
        ("[optim", "not valid TOML"),
        ("model = 3", r"\[model\] must be a table"),
    ],
)
def test_a_faulty_configuration_is_named(tmp_path, text, fault):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=fault):
        read_config(path)


def test_a_configuration_that_is_not_there_exits_with_2(tmp_path, capsys):
    assert cli.main(["finetune", "--config", str(tmp_path / "none.toml")]) == 2
    assert capsys.readouterr().err == f"emind-train: error: configuration {tmp_path / 'none.toml'}: no such file\n"


def test_the_temperature_recovers_the_one_that_was_applied():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 5, generator=generator) * 2
    label = torch.multinomial((logits / 3).softmax(-1), 1, generator=generator)[:, 0]
    assert temperature_of(logits, label) == pytest.approx(3, rel=0.05)


def test_figures_count_what_they_say():
    label = torch.arange(len(MODULATIONS))
    logits = torch.eye(len(MODULATIONS)) * 20
    logits[MODULATIONS.index("QPSK")] = 20 * torch.eye(len(MODULATIONS))[MODULATIONS.index("8PSK")]
    snr = np.where(label == 0, np.nan, 12.0)
    figures = figures_of(logits, label, snr, FinetuneConfig())
    assert figures["accuracy"] == pytest.approx(1 - 1 / len(MODULATIONS), abs=1e-4)
    assert figures["family_accuracy"] == 1.0 and figures["by_class"]["QPSK"] == 0.0
    assert [row["windows"] for row in figures["by_snr"] if row["windows"]] == [len(MODULATIONS) - 1]
    assert np.trace(figures["family_confusion"]) == len(MODULATIONS)
