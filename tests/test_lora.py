"""Low-rank adapters: what learns, and what is left when they are merged."""

import pytest
import torch
from emind.contract.window import HeadSpec, WindowSpec
from emind.models.checkpoint import load_weights, save_weights
from emind.models.emind import Encoder, EncoderConfig, nano
from emind.models.heads import MultiHead
from emind.models.lora import LAYERS, inject, merge

SMALL = EncoderConfig(width=32, depth=2, heads=2, patch=16)
HEAD = {"modulation": HeadSpec("modulation", "classification", ("a", "b", "c"))}


def windows():
    return torch.randn(8, 64, 2, generator=torch.Generator().manual_seed(0)), torch.full((8,), 1e6)


def trained(model, steps=5):
    """A few steps of the adapters and the head, on labels at random."""
    label = torch.arange(8) % 3
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(*windows())["modulation"], label).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MultiHead(SMALL, HEAD)


def test_fresh_adapters_change_nothing(model):
    with torch.no_grad():
        before = model(*windows())["modulation"]
        inject(model.encoder, rank=4)
        assert torch.equal(model(*windows())["modulation"], before)


@pytest.mark.parametrize("layers, width_sums", [
    (("qkv",), 1 + 3), (("out",), 1 + 1), (("mlp",), (1 + 4) + (4 + 1)),
    (LAYERS, (1 + 3) + (1 + 1) + (1 + 4) + (4 + 1)),
])  # fmt: skip
def test_adapters_of_rank_r_learn_r_times_the_widths_of_their_layers(layers, width_sums):
    encoder = Encoder(nano())
    learn = inject(encoder, rank=8, layers=layers)
    assert learn == 4 * 8 * 128 * width_sums  # depth, rank, width
    assert learn == sum(p.numel() for p in encoder.parameters() if p.requires_grad)


def test_only_adapters_and_head_learn(model):
    inject(model.encoder, rank=4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained(model)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    adapters = {name for name in before if name.endswith((".up", ".down"))}
    assert len(adapters) == 2 * 4 * 2  # two matrices, four layers, two blocks
    assert changed == adapters | {name for name in before if name.startswith("heads.")}


def test_merged_answers_as_unmerged_and_the_file_is_an_ordinary_one(model, tmp_path):
    ordinary = set(model.state_dict())
    inject(model.encoder, rank=4)
    with torch.no_grad():
        start = model(*windows())["modulation"]
    trained(model)
    with torch.no_grad():
        expected = model(*windows())["modulation"]
        merge(model.encoder)
        torch.testing.assert_close(model(*windows())["modulation"], expected, atol=1e-5, rtol=0)
    assert (expected - start).abs().max() > 0.1  # it did learn
    assert set(model.state_dict()) == ordinary
    path = tmp_path / "merged.safetensors"
    save_weights(path, model, WindowSpec(64, 64, 16), {}, {}, {})
    loaded, _, _ = load_weights(path)
    with torch.no_grad():
        assert torch.equal(loaded(*windows())["modulation"], model(*windows())["modulation"])


def test_after_merging_the_whole_encoder_may_learn_and_be_adapted_again(model):
    inject(model.encoder)
    merge(model.encoder)
    assert all(p.requires_grad for p in model.parameters())
    assert inject(model.encoder, rank=2) > 0


@pytest.mark.parametrize("arguments, message", [
    ({"rank": 0}, "rank 0"), ({"layers": ("qkv", "norm")}, "known: qkv, out, mlp"), ({"layers": ()}, "known: qkv"),
])  # fmt: skip
def test_what_cannot_be_adapted_is_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        inject(model.encoder, **arguments)


def test_adapters_are_not_put_on_adapters(model):
    inject(model.encoder)
    with pytest.raises(ValueError, match="merge them first"):
        inject(model.encoder)
