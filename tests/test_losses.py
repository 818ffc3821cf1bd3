"""Losses: what they count, what they do not, and that silence breaks none."""

import pytest
import torch
from emind.models.losses import (
    LIMIT_DB,
    WAVEFORM_LOSSES,
    best_order,
    classification_loss,
    denoising_loss,
    family_scores,
    pair_losses,
    regression_loss,
    reordered,
    separation_loss,
    si_error_db,
    si_sdr_db,
)
from torch.nn import functional


def signals(*shape, seed=0):
    return torch.randn(*shape, 2, generator=torch.Generator().manual_seed(seed))


FAMILY = torch.tensor([0, 0, 1])


# ------------------------------------------------------------------------------------------------ classes


def test_families_add_up_the_probabilities_of_their_classes():
    logits = torch.tensor([[1.0, 2.0, 0.5]])
    p = logits.softmax(-1)[0]
    assert family_scores(logits, FAMILY).exp()[0].tolist() == pytest.approx([(p[0] + p[1]).item(), p[2].item()])


def test_a_miss_inside_the_family_costs_less():
    logits = torch.tensor([[3.0, 0.0, 0.0]])
    inside, outside = (classification_loss(logits, torch.tensor([k]), FAMILY, 0.5).item() for k in (1, 2))
    assert outside > inside + 0.5
    plain = [classification_loss(logits, torch.tensor([k])).item() for k in (1, 2)]
    assert plain[0] == pytest.approx(plain[1])


def test_windows_without_a_label_do_not_count():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
    label = torch.tensor([0, -1, 2, -1, 1, -1])
    loss = classification_loss(logits, label, FAMILY, 0.5, 0.1)
    loss.backward()
    assert loss.item() == pytest.approx(classification_loss(logits[::2], label[::2], FAMILY, 0.5, 0.1).item())
    assert logits.grad[1::2].abs().max() == 0 and logits.grad[::2].abs().min() > 0


def test_a_batch_without_labels_or_targets_gives_zero_and_a_zero_gradient():
    logits = torch.randn(4, 3, requires_grad=True)
    loss = classification_loss(logits, torch.full((4,), -1), FAMILY, 0.5)
    loss = loss + regression_loss(logits, torch.full((4, 3), torch.nan))
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().max() == 0


# ------------------------------------------------------------------------------------------------ regression


@pytest.mark.parametrize("kind, expected", [
    ("mae", (0.01 + 0.2) / 2), ("mse", (0.01**2 + 0.2**2) / 2),
    ("huber", (0.5 * 0.01**2 + 0.05 * (0.2 - 0.025)) / 2 / 0.05),
])  # fmt: skip
def test_regression_losses_are_their_formulas_over_known_targets(kind, expected):
    values = torch.tensor([[0.51, 0.9], [0.3, 0.7]])
    target = torch.tensor([[0.5, torch.nan], [torch.nan, 0.5]])
    assert regression_loss(values, target, kind).item() == pytest.approx(expected, rel=1e-4)


def test_an_unknown_target_leaves_the_gradient_finite():
    values = torch.tensor([[0.2, 0.4]], requires_grad=True)
    regression_loss(values, torch.tensor([[torch.nan, 0.9]])).backward()
    assert values.grad[0, 0] == 0 and torch.isfinite(values.grad).all() and values.grad[0, 1] < 0


def test_losses_that_are_not_known_are_refused():
    pair = signals(2, 1, 16), signals(2, 1, 16)
    with pytest.raises(ValueError, match="huber, mse, mae"):
        regression_loss(torch.zeros(1, 1), torch.zeros(1, 1), "l7")
    with pytest.raises(ValueError, match="snr, si_sdr, mse"):
        separation_loss(*pair, kind="pesq")
    with pytest.raises(ValueError, match="snr, si_sdr, mse"):
        denoising_loss(pair[0][:, 0], pair[1][:, 0], kind="pesq")


# ------------------------------------------------------------------------------------------------ waveforms


@pytest.mark.parametrize("kind", WAVEFORM_LOSSES)
def test_separation_does_not_depend_on_the_order_of_the_estimates(kind):
    sources, estimates = signals(5, 3, 64), signals(5, 3, 64, seed=1)
    estimates = sources[:, [2, 0, 1]] + 0.3 * estimates
    expected = separation_loss(estimates, sources, kind=kind).item()
    for order in ([0, 2, 1], [2, 1, 0], [1, 2, 0]):
        assert separation_loss(estimates[:, order], sources, kind=kind).item() == pytest.approx(expected, rel=1e-5)


def test_each_window_takes_the_order_that_suits_it():
    sources = signals(2, 2, 64)
    estimates = torch.stack([sources[0], sources[1].flip(0)]) + 0.01 * signals(2, 2, 64, seed=2)
    loss, order = best_order(pair_losses(estimates, sources))
    assert order.tolist() == [[0, 1], [1, 0]]
    torch.testing.assert_close(reordered(estimates, order), sources, atol=0.1, rtol=0)
    assert loss.max() < -LIMIT_DB + 0.6


@pytest.mark.parametrize("kind", WAVEFORM_LOSSES)
def test_a_common_factor_changes_no_loss(kind):
    """Windows are divided by max|IQ|: how large that was is no difference between models."""
    sources, estimates = signals(4, 2, 64), signals(4, 2, 64, seed=1)
    for factor in (0.05, 7.0):
        scaled = separation_loss(factor * estimates, factor * sources, kind=kind)
        torch.testing.assert_close(scaled, separation_loss(estimates, sources, kind=kind), rtol=1e-4, atol=1e-4)
        denoised = denoising_loss(factor * estimates[:, 0], factor * sources[:, 0], kind=kind)
        torch.testing.assert_close(denoised, denoising_loss(estimates[:, 0], sources[:, 0], kind=kind))


def test_only_si_sdr_forgives_a_wrong_gain():
    source = signals(1, 1, 64)
    estimate = source + 0.3 * signals(1, 1, 64, seed=1)
    by_kind = {kind: [separation_loss(gain * estimate, source, kind=kind).item() for gain in (1.0, 0.1)]
               for kind in WAVEFORM_LOSSES}  # fmt: skip
    assert by_kind["si_sdr"][0] == pytest.approx(by_kind["si_sdr"][1], abs=1e-2)
    assert by_kind["snr"][1] > by_kind["snr"][0] + 5 and by_kind["mse"][1] > 2 * by_kind["mse"][0]


def test_snr_and_si_sdr_are_decibels_of_the_definition():
    source = signals(1, 1, 4096)
    noise = signals(1, 1, 4096, seed=1)
    noise = noise - (noise * source).sum() / source.square().sum() * source
    noise = noise * (source.norm() / noise.norm()) * 10 ** (-12 / 20)
    for kind in ("snr", "si_sdr"):
        expected = -12 + 10 * torch.log10(torch.tensor(1 + 10 ** ((12 - LIMIT_DB) / 10))).item()
        assert separation_loss(source + noise, source, kind=kind).item() == pytest.approx(expected, abs=0.01)
    assert si_sdr_db(3 * (source + noise), source).item() == pytest.approx(12, abs=1e-3)


def test_an_answer_of_nothing_is_no_good_answer():
    source = signals(3, 1, 64)
    nothing = torch.zeros_like(source)
    for kind, worth in (("snr", 0.0), ("si_sdr", 0.0), ("mse", 1.0)):
        assert separation_loss(nothing, source, kind=kind).item() == pytest.approx(worth, abs=0.01)
    assert si_error_db(nothing, source, source.square().sum((-2, -1))).abs().max() < 0.01


@pytest.mark.parametrize("kind", WAVEFORM_LOSSES)
@pytest.mark.parametrize("estimate", ["zero", "noise", "perfect"])
@pytest.mark.parametrize("silent", ["second", "both"])
def test_loss_and_gradient_are_finite_on_silence(kind, estimate, silent):
    source = signals(3, 2, 64)
    source[:, 1] = 0
    if silent == "both":
        source[:] = 0
    start = {"zero": torch.zeros_like(source), "noise": signals(3, 2, 64, seed=1), "perfect": source.clone()}[estimate]
    answer = start.requires_grad_(True)
    loss = separation_loss(answer, source, kind=kind) + denoising_loss(answer[:, 1], source[:, 1], kind=kind)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(answer.grad).all()


def test_what_is_answered_for_a_source_that_is_not_there_costs_against_the_mixture():
    source = signals(1, 2, 64)
    source[:, 1] = 0
    loud, quiet = (torch.stack([source[:, 0], gain * source[:, 0]], dim=1) for gain in (1.0, 0.1))
    cost = [pair_losses(answer, source)[0, 1, 1].item() for answer in (loud, quiet)]
    assert cost == pytest.approx([0.0, -20.0], abs=0.5)


def test_the_latent_costs_its_mean_square():
    source, latent = signals(2, 2, 32), torch.full((2, 4, 8), 3.0)
    difference = separation_loss(source, source, latent, latent_weight=0.5) - separation_loss(source, source)
    assert difference.item() == pytest.approx(0.5 * 9.0)


def test_denoising_counts_every_window_alike_whatever_its_power():
    clean = signals(2, 256)
    clean[1] *= 0.01
    noise = signals(2, 256, seed=1)
    noise = noise / noise.norm(dim=(-2, -1), keepdim=True) * clean.norm(dim=(-2, -1), keepdim=True) * 10 ** (-0.5)
    assert denoising_loss(clean + noise, clean).item() == pytest.approx(-10, abs=0.1)


@pytest.mark.parametrize("kind", WAVEFORM_LOSSES)
def test_descending_the_separation_loss_finds_the_sources(kind):
    source = signals(2, 2, 32)
    answer = functional.normalize(signals(2, 2, 32, seed=1), dim=(-2, -1)).requires_grad_(True)
    optimizer = torch.optim.Adam([answer], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        separation_loss(answer, source, kind=kind).backward()
        optimizer.step()
    with torch.no_grad():
        found = reordered(answer, best_order(pair_losses(answer, source, kind))[1])
        assert si_sdr_db(found, source).min() > 20
