"""`emind-train grow`: a larger encoder that answers as the smaller one that it was made from."""

import numpy as np
import pytest
import torch
from emind.contract.errors import UsageError
from emind.contract.window import HeadSpec, Parameter
from emind.models import emind
from emind.models.checkpoint import load_weights, read_header
from emind.models.heads import MultiHead
from emind.runtime.weights import resolve
from emind_training import cli
from emind_training.grow import grown, places
from emind_training.synthesis.air import AirConfig, air_batch
from emind_training.synthesis.build import file_hash

SPECS = (
    HeadSpec("modulation", "classification", labels=("a", "b", "c")),
    HeadSpec("radar", "regression", labels=("a", "b"), parameters=(Parameter("width", "s", 0.0, 1.0),)),
    HeadSpec("denoise", "reconstruction", sources=1, skip=True),
    HeadSpec("separation", "reconstruction", sources=2),
    HeadSpec("probe", "classification", labels=("a", "b"), linear=True),
    HeadSpec("anomaly", "anomaly", labels=("normal", "anomalous"), centres=1),
)


@pytest.fixture
def no_positions(monkeypatch):
    """Positions are the one thing that two widths cannot have alike."""
    monkeypatch.setattr(emind, "positions", lambda count, width, device=None: torch.zeros(count, width))


def trained(norms=0.0, **tokenizer) -> MultiHead:
    """A model whose every layer says something; ``norms``: how far their gains and biases are from those before
    training."""
    torch.manual_seed(0)
    model = MultiHead(emind.nano(patch=16, channels="iq_envelope_phase", **tokenizer), {s.name: s for s in SPECS})
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data += norms * torch.randn_like(parameter)
        else:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


def windows(count=32):
    batch = air_batch(7, 0, count, AirConfig(snr_low_db=5.0))
    scaled = batch.iq / np.abs(batch.iq).max(1, keepdims=True)
    return (torch.from_numpy(np.stack([scaled.real, scaled.imag], -1).astype(np.float32)),
            torch.from_numpy(batch.rate.astype(np.float32)))


@pytest.mark.parametrize("size", ["tiny", "small"])
@pytest.mark.parametrize("tokenizer", [{"spectral": True}, {"stem": "waves"}], ids=["spectral", "waves"])
@pytest.mark.parametrize(("norms", "most"), [(0.0, 1e-2), (0.2, 0.1)], ids=["", "norms"])
def test_but_for_positions_the_larger_one_answers_the_same(no_positions, size, tokenizer, norms, most):
    """To the norms' epsilon while the last norm is as before training; afterwards the heads' norms see nearly the same
    mean."""
    model = trained(norms, **tokenizer)
    larger, left_out = grown(model, size)
    assert left_out == ["anomaly"] and larger.encoder.config.width == emind.SIZES[size]().width
    iq, rate = windows()
    with torch.no_grad():
        small, large = model(iq, rate, larger.specs), larger(iq, rate)
    for name, values in large.items():
        assert values.shape == small[name].shape
        scale = small[name].std()
        difference = (values - small[name]).square().mean().sqrt() if norms else (values - small[name]).abs().max()
        assert scale > 1e-3 and difference < most * scale, name


def test_what_was_added_learns_and_does_not_stay_alike(no_positions):
    larger, _ = grown(trained(spectral=True), "tiny")
    larger.train()
    iq, rate = windows(8)
    optimiser = torch.optim.SGD(larger.parameters(), lr=1e-2)
    before = {name: p.detach().clone() for name, p in larger.named_parameters()}
    for _ in range(2):  # in the first step only what writes to the new places has a gradient
        optimiser.zero_grad()
        sum(values.square().mean() for values in larger(iq, rate).values()).backward()
        optimiser.step()
    now = dict(larger.named_parameters())
    new = np.setdiff1d(np.arange(192), places(128, 192))
    block = "encoder.blocks.{}."
    added = {
        "encoder.patch_layer.weight": lambda w: w[new],
        block.format(0) + "attention.out.weight": lambda w: w[new],
        block.format(0) + "attention.qkv.weight": lambda w: w[:, new],
        block.format(0) + "mlp.0.weight": lambda w: w[512:],
        block.format(0) + "mlp.2.weight": lambda w: w[:, 512:],
        block.format(2) + "attention.out.weight": lambda w: w,  # a new layer
        "heads.modulation.hidden.weight": lambda w: w[:, new],
        "heads.modulation.logits.weight": lambda w: w[:, 128:],
        "heads.denoise.layers.0.0.weight": lambda w: w[:, new],
    }
    for name, part in added.items():
        values = part(now[name].detach())
        assert not torch.equal(values, part(before[name])), name
    rows = now["encoder.patch_layer.weight"].detach()[new]
    assert len(torch.unique(rows, dim=0)) == len(rows)


def test_the_released_weights_grown_answer_nearly_as_they_did():
    model, _, _ = load_weights(resolve("emind-nano"))
    larger, _ = grown(model, "tiny")
    iq, rate = windows(128)
    with torch.no_grad():
        small = model(iq, rate, ["modulation", "sensing"])
        large = larger(iq, rate, ["modulation", "sensing"])
    for name, least in (("modulation", 0.85), ("sensing", 0.95)):
        assert (small[name].argmax(-1) == large[name].argmax(-1)).float().mean() >= least


def test_places_are_pairs_whose_frequencies_are_near():
    at = places(128, 192)
    assert len(set(at.tolist())) == 128 and at.max() < 192
    assert (at[1::2] == at[::2] + 1).all() and (at[::2] % 2 == 0).all()
    frequency = torch.arange(64) / 64, at[::2] / 2 / 96
    assert (frequency[0] - frequency[1]).abs().max() <= 1 / 96


def test_the_command_writes_a_file_that_says_what_it_was_grown_from(tmp_path, capsys):
    out = tmp_path / "new" / "grown.safetensors"
    assert cli.main(["grow", "emind-nano", "--size", "tiny", "--out", str(out)]) == 0
    assert "enrolled-modulation" in capsys.readouterr().out
    header = read_header(out)
    assert header["architecture"]["width"] == 192 and header["architecture"]["depth"] == 6
    assert header["training"]["grown_from"]["sha256"] == file_hash(resolve("emind-nano"))
    assert header["window"] == read_header(resolve("emind-nano"))["window"]
    load_weights(out)


def test_a_size_that_is_no_larger_is_refused(tmp_path):
    larger, _ = grown(trained(spectral=True), "tiny")
    with pytest.raises(UsageError, match="take a larger one"):
        grown(larger, "tiny")


def test_a_grown_file_is_not_measured_and_not_grown_again_before_it_is_trained(tmp_path, capsys):
    out = tmp_path / "grown.safetensors"
    assert cli.main(["grow", "emind-nano", "--size", "tiny", "--out", str(out)]) == 0
    for words in (["evaluate", str(out)], ["grow", str(out), "--size", "small", "--out", str(tmp_path / "x.safetensors")],
                  ["unknown", str(out)]):
        assert cli.main(words) == 1
        assert "grown from emind-nano.safetensors and not trained since" in capsys.readouterr().err
    assert cli.main(["grow", "emind-nano", "--size", "tiny", "--out", str(tmp_path / "x")]) == 2
    assert "must end in .safetensors" in capsys.readouterr().err
