"""Packing: every signal once, no row too full, the same rows for the same lengths; how full they become."""

import json

import numpy as np
import pytest
import torch
from emind.contract.errors import EMindError, UsageError
from emind.models.packed_batch import PackedBatch
from emind.models.pretraining import AUTOENCODERS, MaskedAutoencoder
from emind_training.bench_packing import drawn_lengths, noise_batch
from emind_training.cli import main
from emind_training.packing import Packer, fill, packed
from emind_training.padded import PaddedBatch, padded_loss

MIXES = {
    "table III": lambda draw, count: drawn_lengths(count, int(draw.integers(1 << 31))),
    "any length": lambda draw, count: draw.integers(1, 6001, count).tolist(),
    "short": lambda draw, count: draw.integers(1, 40, count).tolist(),
    "hardly fitting": lambda draw, count: draw.choice([2993, 3000, 3001, 6000, 1], count).tolist(),
}


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("open_rows", [1, 2, 16])
def test_every_signal_lies_in_one_row_at_a_patch_and_overlaps_no_other(mix, open_rows):
    for seed in range(5):
        lengths = MIXES[mix](np.random.default_rng(seed), 400)
        rows = list(packed(lengths, Packer(6000, 8, open_rows)))
        assert sorted(placed.item for row in rows for placed in row) == list(range(400))
        for row in rows:
            end = 0
            for placed in row:
                assert placed.length == lengths[placed.item]
                assert placed.start >= end and placed.start % 8 == 0
                end = placed.start + placed.length
            assert end <= 6000


def test_a_length_that_the_patch_does_not_divide_takes_whole_patches():
    [row] = packed([974, 8, 1, 3000], Packer(6000, 8))
    assert [(placed.start, placed.length) for placed in row] == [(0, 974), (976, 8), (984, 1), (992, 3000)]


def test_a_signal_as_long_as_a_row_fills_one_that_closes_at_once():
    packer = Packer(6000, 8)
    assert packer.place(17, "short") == []
    [[placed]] = packer.place(6000, "long")
    assert (placed.start, placed.length, placed.item) == (0, 6000, "long")
    assert [[placed.item for placed in row] for row in packer.flush()] == [["short"]]


@pytest.mark.parametrize("length", [0, -1, 6001])
def test_a_signal_that_fits_no_row_is_refused_in_one_line(length):
    with pytest.raises(EMindError, match=f"a signal of {length} samples does not fit into a row of 6000"):
        Packer(6000, 8).place(length, None)


@pytest.mark.parametrize("arguments", [(6001, 8), (4, 8), (0, 8), (6000, 0), (6000, 8, 0)])
def test_settings_that_do_not_go_together_are_refused(arguments):
    with pytest.raises(UsageError):
        Packer(*arguments)


def test_a_signal_goes_where_it_leaves_least():
    packer = Packer(80, 8, open_rows=3)
    for name, length in (("a", 40), ("b", 56), ("c", 48)):
        assert packer.place(length, name) == []
    assert packer.place(24, "d") == [[*packer_row(("b", 0, 56), ("d", 56, 24))]]
    assert packer.place(32, "e") == [[*packer_row(("c", 0, 48), ("e", 48, 32))]]


def packer_row(*signals):
    from emind_training.packing import Placed

    return [Placed(start, length, name) for name, start, length in signals]


def test_where_nothing_fits_the_fullest_row_is_closed():
    packer = Packer(80, 8, open_rows=2)
    packer.place(48, "a")
    packer.place(64, "b")
    assert [[placed.item for placed in row] for row in packer.place(56, "c")] == [["b"]]


def test_never_more_rows_are_open_than_allowed():
    packer = Packer(6000, 8, open_rows=3)
    for number, length in enumerate(drawn_lengths(2000, 1)):
        packer.place(length, number)
        assert len(packer.state()) <= 3


def test_a_packer_goes_on_from_its_state_through_json():
    lengths = drawn_lengths(3000, 2)
    whole = list(packed(lengths, Packer(6000, 8)))
    for cut in (0, 1, 37, 1500, 2999):
        first, second = Packer(6000, 8), Packer(6000, 8)
        rows = [row for number in range(cut) for row in first.place(lengths[number], number)]
        second.restore(json.loads(json.dumps(first.state())))
        rows += [row for number in range(cut, 3000) for row in second.place(lengths[number], number)]
        assert rows + second.flush() == whole


def test_best_fit_over_sixteen_rows_fills_what_next_fit_leaves():
    lengths = drawn_lengths(60_000, 3)
    best = fill(packed(lengths, Packer(6000, 8, 16), flush=False), 6000)
    eight = fill(packed(lengths, Packer(6000, 8, 8), flush=False), 6000)
    next_fit = fill(packed(lengths, Packer(6000, 8, 1), flush=False), 6000)
    assert best >= 0.985 and eight >= 0.98 and 0.80 < next_fit < 0.83


def test_one_open_row_is_next_fit_as_the_paper_says():
    lengths = MIXES["any length"](np.random.default_rng(4), 300)
    expected, row, end = [], [], 0
    for number, length in enumerate(lengths):
        cells = -(-length // 8) * 8
        if end + cells > 6000:
            expected.append(row)
            row, end = [], 0
        row.append(number)
        end += cells
    assert [[placed.item for placed in row] for row in packed(lengths, Packer(6000, 8, 1))] == [*expected, row]


def test_padded_signals_give_the_loss_of_packed_ones():
    """So the benchmark compares two ways to the same result."""
    torch.manual_seed(5)
    batch = noise_batch(list(packed([974, 8, 1, 600, 2048, 256, 300, 17, 128], Packer(6000, 8))), 6000)
    assert isinstance(batch, PackedBatch)
    model = MaskedAutoencoder(AUTOENCODERS["nano"]())
    with torch.no_grad():
        assert torch.allclose(padded_loss(model, PaddedBatch.of(batch)), model(batch).loss, rtol=1e-5)


def test_the_benchmark_reports_both_fills_and_both_rates(capsys):
    assert main(["bench", "packing", "--signals", "2000", "--rows", "1", "--steps", "1", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["open_rows"] == 16 and figures["fill"] > 0.97 > 0.85 > figures["fill_next_fit"]
    ratio = figures["packed_signals_per_s"] / figures["padded_signals_per_s"]
    assert figures["packed_vs_padded"] == pytest.approx(ratio, rel=0.01)


@pytest.mark.parametrize("arguments", [["--rows", "0"], ["--model", "huge"], ["--capacity", "6001"], ["--open-rows", "0"],
                                       ["--signals", "10", "--rows", "40"]])
def test_the_benchmark_refuses_what_it_cannot_measure_in_one_line(arguments, capsys):
    assert main(["bench", "packing", "--signals", "2000", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
