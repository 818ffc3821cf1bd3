"""The loader: the same batches whoever makes them, each signal as in its file, shares as weighted, faults in words."""

import json
import os
import signal
from collections import Counter

import numpy as np
import pytest
import torch
from corpora import signal_of, write_set
from emind.contract.errors import EMindError, UsageError
from emind_training import loader as loader_module
from emind_training.cli import main
from emind_training.corpus import Corpus, GroupCache
from emind_training.loader import AHEAD, Loader, fixed_batches
from emind_training.planning import Planner, Settings, Turns
from emind_training.producing import cache_of, filled

TENSORS = ("iq_RC2", "noise_RN", "row_S", "start_S", "length_S", "rate_S", "source_S")
LENGTHS = {"a": [128, 974, 8, 1, 600], "b": [256, 300], "c": [1024, 17, 2000]}


@pytest.fixture
def corpus(tmp_path):
    for number, (name, lengths) in enumerate(LENGTHS.items()):
        write_set(tmp_path, name, lengths * 12, first_mark=1000 * number, rate=[1e6, None, 2e4] * (4 * len(lengths)))
    return Corpus.open(tmp_path)


def loaded(corpus, count, **options):
    with Loader(corpus, **{"rows": 4, "capacity": 2048, "patch": 8, "seed": 3, "producers": 0, **options}) as loader:
        return [next(loader) for _ in range(count)]


def same(one, other):
    return one.number == other.number and all(
        torch.equal(getattr(one, name).nan_to_num(-1), getattr(other, name).nan_to_num(-1)) for name in TENSORS)


def pieces(batch):
    """(set, samples as bytes) of each signal."""
    return [(source, batch.iq_RC2[row, start : start + length].numpy().tobytes()) for row, start, length, source in zip(
        *(x.tolist() for x in (batch.row_S, batch.start_S, batch.length_S, batch.source_S)), strict=True)]


def test_every_signal_is_that_of_its_file_normalised(corpus):
    known = {(number, (signal_of(1000 * number + row, length) / 2).view(np.float32).tobytes())
             for number, lengths in enumerate(LENGTHS.values()) for row, length in enumerate(lengths * 12)}
    batches = loaded(corpus, 20)
    seen = [piece for batch in batches for piece in pieces(batch)]
    assert len(seen) > 150 and set(seen) <= known
    for batch in batches:
        inside = torch.zeros(4, 2048, dtype=torch.bool)
        order = list(zip(batch.row_S.tolist(), batch.start_S.tolist(), strict=True))
        assert order == sorted(order)
        for (row, start), length in zip(order, batch.length_S.tolist(), strict=True):
            assert start % 8 == 0 and not inside[row, start : start + length].any()
            inside[row, start : start + length] = True
        assert not batch.iq_RC2[~inside].any()
        assert batch.noise_RN.shape == (4, 256) and 0 <= batch.noise_RN.min() and batch.noise_RN.max() < 1


def test_an_epoch_gives_every_signal_once_and_the_next_in_another_order(corpus):
    cache = cache_of(corpus)
    planner = Planner(corpus, Settings(4, 2048, 8, 3), [1.0, 0.0, 0.0], cache)
    items = [placed.item for _ in range(60) for row in planner.next().rows for placed in row]
    pointer = planner._pointers[0]
    assert pointer.epoch >= 2
    drawn = []
    pointer.restore([0, 0, 0])
    for _ in range(120):
        drawn.append(pointer.next())
    first, second = drawn[:60], drawn[60:]
    assert len(set(first)) == 60 and set(first) == set(second) and first != second
    assert {item[1:] for item in items} == {item[:2] for item in first}


def test_the_same_seed_gives_the_same_batches_and_another_seed_others(corpus):
    ours = loaded(corpus, 6)
    assert all(same(a, b) for a, b in zip(ours, loaded(corpus, 6), strict=True))
    others = loaded(corpus, 6, seed=4)
    assert not any(torch.equal(a.iq_RC2, b.iq_RC2) or torch.equal(a.noise_RN, b.noise_RN)
                   for a, b in zip(ours, others, strict=True))


def test_noise_differs_from_row_to_row_and_from_batch_to_batch(corpus):
    noise = torch.cat([batch.noise_RN for batch in loaded(corpus, 10)])
    assert len(torch.unique(noise, dim=0)) == 40
    assert abs(float(noise.mean()) - 0.5) < 0.02


@pytest.mark.parametrize("producers", [1, 3])
def test_producers_make_the_batches_that_would_be_made_here(corpus, producers):
    def changed(count, **options):
        with Loader(corpus, 4, 2048, 8, 3, **options) as loader:
            out = []
            for number in range(count):
                out.append(next(loader))
                if number == 2:
                    loader.set_weights({"a": 4.0})
                if number == 5:
                    loader.set_weights({"b": 0.0, "c": 2.0})
            return out

    here, there = changed(24, producers=0), changed(24, producers=producers)
    assert all(same(a, b) for a, b in zip(here, there, strict=True))


@pytest.mark.parametrize("world", [2, 3])
def test_the_rows_of_all_ranks_are_the_batch_of_one_process(corpus, world):
    whole = loaded(corpus, 5)
    for number, batch in enumerate(whole):
        ranks = [loaded(corpus, 5, rank=rank, world=world)[number] for rank in range(world)]
        for rank, part in enumerate(ranks):
            assert torch.equal(part.iq_RC2, batch.iq_RC2[rank::world])
            assert torch.equal(part.noise_RN, batch.noise_RN[rank::world])
        assert Counter(pieces(batch)) == sum((Counter(pieces(part)) for part in ranks), Counter())


@pytest.mark.parametrize("cut", [0, 1, 4, 9, 15])
def test_a_loader_goes_on_from_a_state_with_weights_that_are_to_change(corpus, cut):
    def run(loader, numbers, out):
        for number in numbers:
            if number in (1, 4, 9):  # after some cuts, before others, and pending at others
                loader.set_weights({"a": 1.0 + number, "b": 0.5})
            out.append(next(loader))

    with Loader(corpus, 4, 2048, 8, 3, producers=0) as loader:
        whole = []
        run(loader, range(24), whole)
    with Loader(corpus, 4, 2048, 8, 3, producers=0) as loader:
        run(loader, range(cut), [])
        state = json.loads(json.dumps(loader.state()))
    with Loader(corpus, 4, 2048, 8, 3, producers=0, state=state) as loader:
        rest = []
        run(loader, range(cut, 24), rest)
    assert all(same(a, b) for a, b in zip(whole[cut:], rest, strict=True))


def test_a_state_serves_other_numbers_of_producers_and_ranks(corpus):
    whole = loaded(corpus, 9)
    with Loader(corpus, 4, 2048, 8, 3, producers=2) as loader:
        for _ in range(5):
            next(loader)
        state = loader.state()
    for rank in range(2):
        rest = loaded(corpus, 4, state=state, rank=rank, world=2)
        assert all(torch.equal(a.iq_RC2[rank::2], b.iq_RC2) for a, b in zip(whole[5:], rest, strict=True))


def test_new_weights_hold_from_the_batch_that_was_promised(corpus):
    usual = loaded(corpus, 4 + AHEAD + 6)
    with Loader(corpus, 4, 2048, 8, 3, producers=0) as loader:
        batches = [next(loader) for _ in range(4)]
        promised = loader.set_weights({"a": 0.0, "b": 0.0, "c": 1.0})
        batches += [next(loader) for _ in range(AHEAD + 6)]
    assert promised == 4 + AHEAD
    assert all(same(a, b) for a, b in zip(usual[:promised], batches[:promised], strict=True))
    assert not same(usual[promised], batches[promised])
    assert set(batches[-1].source_S.tolist()) == {2}


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, 0.5, 0.25], [3.0, 0.0, 7.0], [0.17, 0.82, 0.01]])
def test_shares_follow_the_weights_at_every_moment(weights):
    turns = Turns(weights)
    share = np.array(weights) / sum(weights)
    counts = np.zeros(3)
    for drawn in range(1, 2001):
        counts[turns.next()] += 1
        assert np.abs(counts - drawn * share).max() < 1.51


def test_shares_follow_new_weights_and_a_set_can_come_back():
    turns = Turns([1.0, 1.0, 1.0])
    for weights in ([5.0, 1.0, 0.0], [0.0, 1.0, 3.0], [1.0, 1.0, 2.0]):
        turns.change(weights)
        counts = Counter(turns.next() for _ in range(1200))
        expected = 1200 * np.array(weights) / sum(weights)
        assert np.abs(np.array([counts[k] for k in range(3)]) - expected).max() <= 3


def test_the_signals_of_a_run_have_the_weights_shares(corpus):
    batches = loaded(corpus, 60, weights={"a": 2.0, "b": 1.0, "c": 1.0})
    counts = torch.cat([batch.source_S for batch in batches]).bincount().double()
    assert torch.allclose(counts / counts.sum(), torch.tensor([0.5, 0.25, 0.25]).double(), atol=0.02)


def test_rates_come_with_their_signals_and_nan_where_unknown(corpus):
    rates = torch.cat([batch.rate_S for batch in loaded(corpus, 10)])
    assert set(rates[~rates.isnan()].tolist()) == {1e6, 2e4} and rates.isnan().any()


def test_signals_without_a_usable_value_are_left_out_and_counted(tmp_path):
    odd = {1: np.zeros(64, np.complex64), 2: np.full(64, np.nan, np.complex64), 3: signal_of(9, 64)}
    odd[3][5] = np.inf
    write_set(tmp_path, "a", [64] * 8, changed=odd)
    with Loader(Corpus.open(tmp_path), 2, 512, 8, 0, producers=0) as loader:
        batches = [next(loader) for _ in range(4)]
        assert loader.skipped == 4 * 2 * 3
    for batch in batches:
        assert batch.signals == 10 and torch.isfinite(batch.iq_RC2).all()
        for row, start in zip(batch.row_S.tolist(), batch.start_S.tolist(), strict=True):
            assert batch.iq_RC2[row, start : start + 64].norm(dim=-1).max() == pytest.approx(1.0)


def test_lengths_of_one_sample_and_of_a_whole_row_can_be_loaded(tmp_path):
    write_set(tmp_path, "long", [6000] * 3)
    write_set(tmp_path, "short", [1] * 3)
    corpus = Corpus.open(tmp_path)
    [batch] = fixed_batches(corpus, 3, 4, 6000, 8)
    assert sorted(batch.length_S.tolist()) == [1, 1, 1, 6000, 6000, 6000]
    assert {len(samples) for _, samples in pieces(batch)} == {8, 48000}
    assert loaded(corpus, 1, capacity=6000, open_rows=1)[0].length_S.tolist() == [6000, 1, 6000, 1]


def test_fixed_batches_hold_so_many_signals_of_each_set_and_are_always_the_same(corpus):
    batches = list(fixed_batches(corpus, 30, 4, 2048, 8))
    assert torch.cat([batch.source_S for batch in batches]).bincount().tolist() == [30, 24, 30]
    assert all(same(a, b) for a, b in zip(batches, fixed_batches(corpus, 30, 4, 2048, 8), strict=True))
    seen = Counter(piece for batch in batches for piece in pieces(batch))
    assert all(times == 1 for (_, samples), times in seen.items() if len(samples) > 8)
    ranks = [list(fixed_batches(corpus, 30, 4, 2048, 8, rank=rank, world=2)) for rank in range(2)]
    assert seen == sum((Counter(pieces(batch)) for part in ranks for batch in part), Counter())


def test_closing_ends_every_producer(corpus):
    loader = Loader(corpus, 4, 2048, 8, 3, producers=2)
    next(loader)
    processes = loader.processes
    loader.close()
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    loader.close()
    with pytest.raises(ValueError, match="closed"):
        next(loader)


def test_a_fault_in_a_producer_reaches_the_consumer_in_its_own_words(corpus, tmp_path):
    loader = Loader(corpus, 4, 2048, 8, 3, producers=1)
    (tmp_path / "b-train.parquet").unlink()
    with pytest.raises(EMindError, match="b-train.parquet: no such file"):
        for _ in range(50):
            next(loader)
    assert loader.processes == []


def test_a_producer_that_was_killed_is_missed(corpus):
    with Loader(corpus, 4, 2048, 8, 3, producers=1) as loader:
        next(loader)
        os.kill(loader.processes[0], signal.SIGKILL)
        with pytest.raises(RuntimeError, match="producer 0 ended with status -9"):
            for _ in range(50):
                next(loader)


def test_rows_are_filled_from_groups_that_were_long_left(corpus):
    """A signal waits in an open row while its set's pointer goes on: its row group is read again."""
    settings = Settings(4, 2048, 8, 3)
    plan = Planner(corpus, settings, [1.0] * 3, cache_of(corpus)).next()
    plenty, tight = filled(plan.rows, settings, cache_of(corpus)), filled(plan.rows, settings, GroupCache(corpus, 1))
    assert np.array_equal(plenty[0], tight[0])


def test_settings_and_states_that_do_not_fit_are_refused_in_one_line(corpus, tmp_path):
    with pytest.raises(UsageError, match="every rank needs a row"):
        loaded(corpus, 0, rank=4, world=5)
    with pytest.raises(UsageError, match="whole patches of 8"):
        loaded(corpus, 0, capacity=2047)
    with pytest.raises(UsageError, match="the corpus has no set 'd'; known: a, b, c"):
        loaded(corpus, 0, weights={"d": 1.0})
    with pytest.raises(UsageError, match="give numbers of at least 0"):
        loaded(corpus, 0, weights={"a": -1.0})
    with pytest.raises(UsageError, match="give numbers of at least 0"):
        loaded(corpus, 0, weights=dict.fromkeys("abc", 0.0))
    with pytest.raises(EMindError, match="has a signal of 2000 samples, and a row holds 1024"):
        loaded(corpus, 0, capacity=1024)
    with Loader(corpus, 4, 2048, 8, 3, producers=0) as loader:
        state = loader.state()
    with pytest.raises(EMindError, match="seed = 3, not 4"):
        loaded(corpus, 0, seed=4, state=state)
    with pytest.raises(UsageError, match="version 0"):
        loaded(corpus, 0, state={**state, "version": 0})
    write_set(tmp_path, "d", [100])
    with pytest.raises(EMindError, match="another corpus"):
        loaded(Corpus.open(tmp_path), 0, state=state)


def test_what_is_kept_in_memory_does_not_grow_with_the_corpus(tmp_path, monkeypatch):
    """Row groups that are open at a time: a bounded number, of however many the corpus has."""
    opened = []
    monkeypatch.setattr(loader_module, "cache_of", lambda corpus: opened.append(cache_of(corpus)) or opened[-1])
    write_set(tmp_path, "a", [512] * 80, group=1024)
    corpus = Corpus.open(tmp_path)
    assert len(corpus.groups(0)) == 40
    assert sum(batch.signals for batch in fixed_batches(corpus, 80, 4, 2048, 8)) == 80
    assert 0 < len(opened[0]._groups) <= 10


@pytest.mark.slow
def test_the_benchmark_measures_and_leaves_nothing_behind(tmp_path, capsys):
    arguments = ["--gigabytes", "1", "--folder", str(tmp_path), "--distinct-mib", "8", "--rows", "8", "--batches", "40"]
    assert main(["bench", "loader", *arguments, "--steps", "1", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["corpus_bytes"] >= 1e9 and figures["fill"] > 0.95 and figures["signals"] > 1000
    assert 0 < figures["peak_rss_mib"] <= 1024 and len(figures["peak_rss_mib_by_process"]) == 3
    assert 0 <= figures["wait_share"] < 1 and figures["signals_per_processor_s"] > 0
    assert list(tmp_path.iterdir()) == []


def test_the_benchmark_wants_a_folder_that_is_there(tmp_path, capsys):
    assert main(["bench", "loader", "--folder", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err
