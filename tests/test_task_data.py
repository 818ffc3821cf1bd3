"""Examples of tasks: what a batch holds, in which order, and what is done to it in training."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from emind.contract.errors import EMindError, UsageError
from emind.contract.schema import Signal
from emind.storage.parquet import Reader, Writer
from emind_training import task_data, task_files
from emind_training.augment import augmented, moved
from emind_training.synthesis.sets import SETS
from emind_training.task_config import AugmentConfig
from emind_training.task_data import Examples
from emind_training.task_files import drawn_set, files_by_set
from emind_training.tasks import TASKS

RADAR, SEPARATION, DENOISE = (TASKS[name] for name in ("radar", "separation", "denoise"))
ALL_ON = AugmentConfig(conjugate=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sets")


def examples(folder, task, items, part="train", **more):
    files, _ = drawn_set(task.sets[0], folder, "small", 0, items)
    return Examples.open(files[part], task, classes=task.known_classes(task.sets[0]), **more)


def written(path, rows, group=64):
    with Writer(path, origin="test", row_group_bytes=8 * group) as writer:
        writer.write_many(rows)
    return path


def marked(count, length=16, **labels):
    """Rows whose first sample tells their number."""
    return [Signal(np.full(length, 1 + k, np.complex64), "S", 1e6, snr=float(k % 4), modulation="ab"[k % 2], **labels)
            for k in range(count)]


def numbers(batch, found):
    """Which rows of the file a batch holds, by what the samples were before they were normalised."""
    return found._columns["rows"][batch.rows][:, 0]


# ------------------------------------------------------------------------------------------------- files


def test_a_set_without_files_is_drawn_once_and_split_in_three(folder, monkeypatch):
    files, about = drawn_set("Wireless-Technology", folder, "small", 3, 30)
    assert set(files) == {"train", "validation", "test"} and about["items"] == 30 and about["seed"] == 3
    rows = []
    for paths in files.values():
        with Reader(paths[0]) as reader:
            rows.append(reader.count)
    assert sum(rows) == 30 and min(rows) > 0
    monkeypatch.setattr(task_files, "build_set", lambda *a, **k: pytest.fail("drawn again"))
    assert drawn_set("Wireless-Technology", folder, "small", 3, 30)[0] == files


def test_another_seed_or_number_of_items_is_another_folder(folder):
    paths = {drawn_set("Wireless-Technology", folder, "small", seed, items)[0]["train"][0].parent
             for seed, items in ((3, 30), (4, 30), (3, 33))}
    assert len(paths) == 3


def test_another_version_of_a_recipe_is_another_folder_and_told(folder, monkeypatch):
    name = "Wireless-Technology"
    files, about = drawn_set(name, folder, "small", 3, 30)
    assert about["recipes"] == SETS[name].version == 1
    monkeypatch.setitem(SETS, name, dataclasses.replace(SETS[name], version=2))
    later, told = drawn_set(name, folder, "small", 3, 30)
    assert told["recipes"] == 2 and later["train"][0].parent != files["train"][0].parent


def test_an_interrupted_drawing_is_finished_by_the_next(folder, monkeypatch):
    split = task_files.split
    monkeypatch.setattr(task_files, "split", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        drawn_set("Wireless-Technology", folder, "small", 5, 30)
    monkeypatch.setattr(task_files, "split", split)
    assert set(drawn_set("Wireless-Technology", folder, "small", 5, 30)[0]) == {"train", "validation", "test"}


def test_given_files_are_known_by_their_names(tmp_path):
    for part in ("train", "validation", "test"):
        written(tmp_path / f"S-{part}.parquet", marked(2))
    assert files_by_set([tmp_path]) == {"S": {part: [tmp_path / f"S-{part}.parquet"]
                                              for part in ("train", "validation", "test")}}
    other = written(tmp_path / "other.parquet", marked(2))
    with pytest.raises(UsageError, match="other.parquet: is not called SET-PART.parquet"):
        files_by_set([other])
    (tmp_path / "S-test.parquet").unlink()
    with pytest.raises(EMindError, match="S: has no part 'test'"):
        files_by_set([tmp_path])
    with pytest.raises(EMindError, match="nowhere: no such file"):
        files_by_set([tmp_path / "nowhere"])


# ------------------------------------------------------------------------------------------------- order


def test_an_epoch_holds_every_example_once_and_the_next_one_in_another_order(tmp_path):
    found = Examples.open([written(tmp_path / "S-train.parquet", marked(50))], TASKS["modulation"])
    orders = [found.order(1, epoch) for epoch in (0, 1)]
    assert all(np.array_equal(np.sort(order), np.arange(50)) for order in orders)
    assert not np.array_equal(*orders)
    seen = np.concatenate([numbers(b, found) for b in itertools.islice(found.batches(1, 8), 25)])
    assert np.array_equal(np.bincount(seen), np.full(50, 4))


def test_batches_mix_row_groups(tmp_path):
    found = Examples.open([written(tmp_path / "S-train.parquet", marked(64))], TASKS["modulation"])
    assert len(np.unique(found._columns["group"])) == 16
    first = next(found.batches(0, 8))
    assert len(np.unique(found._columns["group"][first.rows])) > 4


def test_a_resumed_stream_gives_the_identical_next_batch(folder):
    found = examples(folder, RADAR, 40)
    whole = list(itertools.islice(found.batches(5, 9), 8))
    for first in (0, 3, 7):
        for again, before in zip(found.batches(5, 9, first), whole[first:]):
            assert np.array_equal(again.rows, before.rows)
            assert torch.equal(again.iq_BL2, before.iq_BL2)


def test_a_cut_is_drawn_in_training_the_same_again_and_in_the_middle_otherwise(tmp_path):
    rows = [dataclasses.replace(row, iq=np.arange(1, 33).astype(np.complex64)) for row in marked(12)]
    found = Examples.open([written(tmp_path / "S-train.parquet", rows)], TASKS["modulation"], length=8)

    def starts(batch):  # of normalised ramps: first over step
        iq = batch.iq_BL2[..., 0]
        return torch.round(iq[:, 0] / (iq[:, 1] - iq[:, 0])).int().tolist()

    middle = next(found.in_order())
    assert starts(middle) == [13] * 12 and middle.iq_BL2.shape == (12, 8, 2)
    training, again = (list(itertools.islice(found.batches(0, 12), 2)) for _ in range(2))
    assert len(set(starts(training[0]))) > 3
    assert [starts(b) for b in training] == [starts(b) for b in again] and starts(training[0]) != starts(training[1])


# ------------------------------------------------------------------------------------------------- what is in a batch


def test_samples_are_normalised_and_labels_are_those_of_the_rows(folder):
    files, _ = drawn_set("RadChar-regen", folder, "small", 0, 40)
    found = examples(folder, RADAR, 40)
    batch = next(found.batches(0, 40))
    peak = torch.view_as_complex(batch.iq_BL2.contiguous()).abs().amax(1)
    torch.testing.assert_close(peak, torch.ones(len(batch)))
    with Reader(files["train"][0]) as reader:
        for b, row in enumerate(numbers(batch, found)):
            signal = reader[int(row)]
            assert found.classes[batch.label_B[b]] == signal.radar_waveform and batch.snr_B[b] == signal.snr
            wanted = [getattr(signal, p.name) for p in RADAR.parameters]
            assert batch.values_BQ[b].tolist() == pytest.approx(wanted, rel=1e-6)


def test_sources_are_on_the_scale_of_their_mixture_and_add_up_to_it(folder):
    found = examples(folder, SEPARATION, 60)
    batch = next(found.batches(0, 16))
    assert batch.targets_BKL2.shape == (16, 2, 1024, 2)
    noise = batch.iq_BL2 - batch.targets_BKL2.sum(1)
    ratio = batch.iq_BL2.square().sum((1, 2)) / noise.square().sum((1, 2))
    assert (10 * torch.log10(ratio) - 12.3).abs().max() < 1.0  # the set's SNR is 12 dB; the mixture has the noise too


def test_mixtures_of_one_source_take_part_where_they_are_asked_for(folder):
    pairs, every = examples(folder, SEPARATION, 60), examples(folder, SEPARATION, 60, singles=True)
    assert len(pairs) < len(every)
    batch = next(every.in_order(len(every)))
    silent = batch.targets_BKL2[:, 1].abs().amax((1, 2)) == 0
    assert silent.sum() == len(every) - len(pairs)


def test_rows_that_lack_their_partner_are_left_out(tmp_path):
    rows = [Signal(np.ones(8, np.complex64), "D", 1e6, transmission_id=text) for text in
            ("0:noisy", "0:clean", "1:noisy", "2:clean", "3:clean", "3:noisy")]
    found = Examples.open([written(tmp_path / "D-train.parquet", rows)], DENOISE)
    assert found._columns["rows"].tolist() == [[0, 1], [5, 4]]
    with pytest.raises(EMindError, match="no linked rows mix, source1, source2"):
        Examples.open([tmp_path / "D-train.parquet"], SEPARATION)


def test_linked_rows_are_in_one_part_of_a_drawn_set(folder):
    files, _ = drawn_set("EM-Radar-Mix", folder, "small", 0, 60)
    items = []
    for paths in files.values():
        with Reader(paths[0]) as reader:
            items.append({text.split(":")[0] for text in reader.columns(("transmission_id",))["transmission_id"]})
    assert not items[0] & items[1] and not items[0] & items[2] and not items[1] & items[2]
    assert sum(map(len, items)) == 60


def test_a_class_that_training_does_not_know_is_named(tmp_path):
    path = written(tmp_path / "S-test.parquet", marked(4))
    with pytest.raises(EMindError, match="modulation 'b' is not among the classes of training: a"):
        Examples.open([path], TASKS["modulation"], classes=("a",))
    with pytest.raises(EMindError, match="no signal has what the task interference needs"):
        Examples.open([path], TASKS["interference"])


def test_signals_of_several_lengths_need_a_length(tmp_path):
    path = written(tmp_path / "S-train.parquet", [*marked(2, 16), *marked(2, 20)])
    with pytest.raises(EMindError, match=r"16 to 20 samples; give \[task.modulation\] a length"):
        Examples.open([path], TASKS["modulation"])
    assert Examples.open([path], TASKS["modulation"], length=16).length == 16
    with pytest.raises(EMindError, match="a signal of 16 samples, the task's length is 18"):
        Examples.open([path], TASKS["modulation"], length=18)


def test_few_examples_are_as_many_of_each_class(folder):
    few = examples(folder, RADAR, 60).few(4, seed=2)
    assert np.bincount(few.label).tolist() == [4] * 5
    assert set(numbers(next(few.in_order()), few)) <= set(range(60))
    with pytest.raises(EMindError, match="windows, 400 are asked for"):
        examples(folder, RADAR, 60).few(400, seed=2)


def test_fewer_examples_keep_the_shares_of_the_classes(folder):
    whole = examples(folder, RADAR, 60)
    half = whole.at_most(20, seed=0)
    assert len(np.unique(half._columns["rows"])) == 20
    assert np.abs(np.bincount(half.label) - np.bincount(whole.label) * 20 / len(whole)).max() < 1


def test_row_groups_that_are_not_used_are_let_go(tmp_path):
    found = Examples.open([written(tmp_path / "S-train.parquet", marked(400))], TASKS["modulation"])
    assert len(np.unique(found._columns["group"])) == 100
    for batch in itertools.islice(found.batches(0, 20), 40):
        assert len(found.files._blocks) <= task_data.MIXED + 2
    values = torch.view_as_complex(batch.iq_BL2).real  # every row is constant: normalised to one
    assert torch.equal(values, torch.ones_like(values))


# ------------------------------------------------------------------------------------------------- augmentation


def test_sources_still_add_up_after_augmentation(folder):
    batch = next(examples(folder, SEPARATION, 60).batches(0, 8))
    noise = batch.iq_BL2 - batch.targets_BKL2.sum(1)
    changed = batch.augmented(SEPARATION, ALL_ON, torch.Generator().manual_seed(3))
    assert not torch.allclose(changed.iq_BL2, batch.iq_BL2)
    after = changed.iq_BL2 - changed.targets_BKL2.sum(1)
    # The noise went the same way, so its samples are the same but for order and angle.
    torch.testing.assert_close(*(x.square().sum(-1).sort(-1).values for x in (noise, after)), atol=1e-5, rtol=1e-4)


def test_a_window_and_its_source_are_turned_moved_and_mirrored_alike():
    iq = torch.randn(6, 3, 40, 2, generator=torch.Generator().manual_seed(0))
    iq[:, 0] = iq[:, 1] + iq[:, 2]
    out, samples = augmented(iq, ALL_ON, torch.Generator().manual_seed(1))
    torch.testing.assert_close(out[:, 0], out[:, 1] + out[:, 2])
    back = moved(out, -samples)
    for before, after in zip(torch.view_as_complex(iq), torch.view_as_complex(back)):
        quotients = [after / before, after / before.conj()]
        flat = min(quotients, key=lambda q: (q - q.mean()).abs().max())
        assert (flat - flat.mean()).abs().max() < 1e-3 and flat.mean().abs().item() == pytest.approx(1, abs=1e-4)


def test_the_delay_of_a_radar_moves_with_its_window_and_stays_in_range(folder):
    batch = next(examples(folder, RADAR, 60).batches(0, 48))
    clean = torch.zeros(48, 512, 2)
    at = torch.round(batch.values_BQ[:, 3] * batch.rate_B).long()
    clean[torch.arange(48), at, 0] = 1  # a mark where the first pulse begins
    batch = dataclasses.replace(batch, iq_BL2=clean)
    changed = batch.augmented(RADAR, AugmentConfig(phase=False), torch.Generator().manual_seed(0))
    delay = changed.values_BQ[:, 3]
    assert (delay >= 1e-6 * 0.999).all() and (delay <= 10e-6 * 1.001).all()
    assert (delay - batch.values_BQ[:, 3]).abs().max() > 2e-6
    assert ((changed.iq_BL2[..., 0].argmax(1) - delay * batch.rate_B).abs() <= 0.51).all()
    assert torch.equal(changed.values_BQ[:, :3], batch.values_BQ[:, :3])


def test_nothing_is_moved_where_the_task_forbids_it(folder):
    batch = next(examples(folder, DENOISE, 24).batches(0, 8))
    changed = batch.augmented(DENOISE, AugmentConfig(phase=False), torch.Generator().manual_seed(0))
    assert torch.equal(changed.iq_BL2, batch.iq_BL2) and torch.equal(changed.targets_BKL2, batch.targets_BKL2)


def test_conjugation_is_off_unless_it_is_asked_for():
    assert not AugmentConfig().conjugate
    iq = torch.randn(64, 1, 8, 2, generator=torch.Generator().manual_seed(0))
    off, _ = augmented(iq, AugmentConfig(phase=False, shift=False), torch.Generator().manual_seed(1))
    on, _ = augmented(iq, AugmentConfig(phase=False, shift=False, conjugate=True), torch.Generator().manual_seed(1))
    mirrored = (on[..., 1] == -iq[..., 1]).all(-1)[:, 0]
    assert torch.equal(off, iq) and 16 < mirrored.sum() < 48
