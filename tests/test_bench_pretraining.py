"""What `emind-train bench masking` and `bench step` print, and that a step's operations are counted right."""

import json

import pytest
from emind.models.pretraining import AUTOENCODERS, MaskedAutoencoder
from emind_training.bench_step import step_flops
from emind_training.cli import main
from emind_training.dataset_page import TABLE_III_LENGTHS
from emind_training.mix import lengths_like_table_iii, table_iii_batch
from torch.utils.flop_counter import FlopCounterMode


@pytest.mark.parametrize("tokenizer", [{"patch": 8}, {"patch": 16, "channels": "iq_envelope_phase", "spectral": True}])
def test_operations_of_a_step_are_those_that_torch_counts(tokenizer):
    model = MaskedAutoencoder(AUTOENCODERS["nano"](**tokenizer))
    batch = table_iii_batch(1, patch=tokenizer["patch"])
    with FlopCounterMode(display=False) as counter:
        model(batch).loss.backward()
    # The first layer needs no gradient of its input: torch does a little less.
    assert 0.97 < counter.get_total_flops() / step_flops(model, batch) <= 1.0


def test_batches_of_the_bench_have_table_iiis_lengths_and_full_rows():
    batch = table_iii_batch(8)
    assert batch.iq_RC2.shape == (8, 6000, 2) and batch.fill > 0.97
    assert set(batch.length_S.tolist()) <= set(TABLE_III_LENGTHS)
    drawn = lengths_like_table_iii(20_000)
    share = TABLE_III_LENGTHS[4096] / sum(TABLE_III_LENGTHS.values())
    assert abs(drawn.count(4096) / 20_000 - share) < 5 * (share * (1 - share) / 20_000) ** 0.5


def test_bench_masking_prints_its_figures(capsys):
    assert main(["bench", "masking", "--signals", "8", "--rounds", "1", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["signals"], figures["patches"], figures["mask_share"]) == (8, 8 * 16, 0.75)
    assert figures["vectorised_vs_loop"] > 0 and figures["table_iii"]["loop_us"] > 0


def test_bench_step_prints_its_figures_and_a_table(capsys):
    assert main(["bench", "step", "--size", "nano", "--rows", "1", "--rounds", "1", "--patch", "16", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert [(row["size"], row["dtype"]) for row in figures["table"]] == [("nano", "float32"), ("nano", "bfloat16")]
    assert {"size", "dtype", "gflops", "matmul_gflops", "share", "signals_per_s"} <= set(figures)
    assert 0 < figures["share"] < 1 and figures["threads"] == 1


def test_a_patch_that_divides_no_row_is_refused(capsys):
    assert main(["bench", "step", "--patch", "7"]) == 2
    assert "choose 8 or 16" in capsys.readouterr().err
