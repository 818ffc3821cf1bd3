"""Pretrained against random first weights: both arms are treated alike, and what comes out is said as it is."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from emind.contract.errors import EMindError, UsageError
from emind.contract.window import HeadSpec, WindowSpec
from emind.models.checkpoint import AUTOENCODER, read_header, save_pretrained, save_weights
from emind.models.emind import EncoderConfig
from emind.models.heads import MultiHead
from emind.models.pretraining import AutoencoderConfig, MaskedAutoencoder
from emind.runtime.weights import resolve
from emind_training import cli, fewshot
from emind_training import pretrained_card as cards
from emind_training.fewshot import Plan, Recipe, answers, augmented, compare, fine_tuned, random_encoder, shots_of
from emind_training.fewshot_command import pretrained_sets
from emind_training.fewshot_kept import Kept
from emind_training.pages import marks
from emind_training.probe import ProbeSet, Windows
from emind_training.synthesis.build import file_hash

SMALL = EncoderConfig(width=32, depth=1, heads=1, patch=16, channels="iq_envelope_phase")
QUICK = Recipe(steps=3, batch=8, rates=(1e-3, 1e-2), bfloat16=False)


def tones(count, seed, length=64):
    """Windows of one of two tones at a random phase, alternately."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 2
    iq = [np.exp(1j * (2 * np.pi * (0.02 + 0.2 * k) * np.arange(length) + p)).astype(np.complex64)
          for k, p in zip(label, rng.uniform(0, 2 * np.pi, count))]
    return Windows(iq, np.full(count, 1e6), label, np.tile([-4.0, -4.0, 6.0, 6.0], -(-count // 4))[:count],
                   np.arange(count))


def tone_set():
    return ProbeSet("tones", "modulation", ("low", "high"), tones(40, 0), tones(20, 1), tones(60, 2), "made up")


def test_shots_are_as_many_of_each_class():
    pool = tones(40, 0)
    chosen = shots_of(pool, 2, 5, False, 0, "tones")
    assert np.bincount(chosen.label).tolist() == [5, 5]
    assert set(chosen.snr) == {-4.0, 6.0}
    assert set(chosen.group) != set(shots_of(pool, 2, 5, False, 1, "tones").group)


def test_shots_by_snr_are_as_many_of_each_class_and_snr_label():
    chosen = shots_of(tones(40, 0), 2, 3, True, 0, "tones")
    for snr in (-4.0, 6.0):
        assert np.bincount(chosen.label[chosen.snr == snr]).tolist() == [3, 3]
    unknown = dataclasses.replace(tones(8, 0), snr=np.full(8, np.nan))
    with pytest.raises(EMindError, match="no SNR label"):
        shots_of(unknown, 2, 1, True, 0, "tones")


def test_augmentation_turns_and_shifts_and_nothing_else():
    iq = torch.randn(4, 50, 2, generator=torch.Generator().manual_seed(0))
    out = augmented(iq, torch.Generator().manual_seed(1))
    assert not torch.allclose(out, iq)
    for before, after in zip(torch.view_as_complex(iq), torch.view_as_complex(out.contiguous())):
        # Undone by the shift and the angle with the largest correlation.
        products = torch.stack([(torch.roll(after, k).conj() * before).sum() for k in range(50)])
        best = products.abs().argmax().item()
        turned = torch.roll(after, best) * products[best] / products[best].abs()
        torch.testing.assert_close(turned, before, atol=1e-5, rtol=1e-5)


def test_fine_tuning_learns_the_same_again_and_leaves_the_encoder_it_started_from():
    encoder = random_encoder(SMALL, 0)
    before = copy.deepcopy(encoder.state_dict())
    recipe = Recipe(steps=40, batch=8, bfloat16=False)
    first, again = (fine_tuned(encoder, tones(16, 0), 2, 3e-3, 5, recipe) for _ in range(2))
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values()))
    test = tones(60, 2)
    assert np.mean(answers(first, test, False) == test.label) > 0.95


def test_windows_of_several_lengths_are_refused():
    mixed = tones(4, 0)
    mixed.iq[0] = mixed.iq[0][:32]
    with pytest.raises(EMindError, match="several lengths"):
        fine_tuned(random_encoder(SMALL, 0), mixed, 2, 1e-3, 0, QUICK)


def test_arms_with_the_same_first_weights_have_the_same_figures():
    """Whatever differs between the arms in a result is the encoder's first weights."""
    found = compare(random_encoder(SMALL, 0), tone_set(), Plan((2, 4), False, (0,), 20, (3,), QUICK))
    assert found["probe"]["pretrained"] == found["probe"]["random"]
    for row in found["few"]:
        assert row["linear"]["pretrained"] == row["linear"]["random"]
        for arm in fewshot.ARMS:
            assert row["fine_tuned"][arm].pop("seconds")
        assert row["fine_tuned"]["pretrained"] == row["fine_tuned"]["random"]
        assert row["fine_tuned"]["random"]["windows"] == 2 * row["k"]


def test_every_seed_has_a_figure_and_random_weights_of_its_own():
    found = compare(random_encoder(SMALL, 9), tone_set(), Plan((2,), False, (0, 1, 2), 20, (3,), QUICK))
    for arm in fewshot.ARMS:
        result = found["few"][0]["fine_tuned"][arm]
        assert [len(result[name]) for name in ("accuracy", "kappa", "accuracy_clear")] == [3, 3, 3]
        for rate, shares in zip(result["learning_rate"], result["validation"], strict=True):
            assert list(shares["3"]) == ["0.001", "0.01"] and shares["3"][f"{rate:g}"] == max(shares["3"].values())
    a, b = (random_encoder(SMALL, seed).patch_layer.weight for seed in (0, 1))
    assert not torch.equal(a, b)


def test_labels_of_the_test_windows_decide_nothing():
    honest = tone_set()
    swapped = dataclasses.replace(honest, test=dataclasses.replace(honest.test, label=1 - honest.test.label))
    plan = Plan((4,), False, (0,), 20, (3,), QUICK)
    one, other = (compare(random_encoder(SMALL, 3), own, plan) for own in (honest, swapped))
    for arm in fewshot.ARMS:
        first, second = (found["few"][0]["fine_tuned"][arm] for found in (one, other))
        assert first["learning_rate"] == second["learning_rate"] and first["validation"] == second["validation"]
        assert first["accuracy"][0] == pytest.approx(1 - second["accuracy"][0], abs=2e-4)


def test_the_rate_with_the_most_right_validation_answers_is_taken():
    found = compare(random_encoder(SMALL, 0), tone_set(), Plan((8,), False, (0,), 20, (40,), Recipe(
        batch=8, rates=(1e-7, 3e-3), bfloat16=False)))
    result = found["few"][0]["fine_tuned"]["random"]
    assert result["learning_rate"] == [3e-3] and result["validation"][0]["40"]["0.003"] > result["validation"][0]["40"]["1e-07"]


def test_what_is_done_is_not_done_again_and_what_differs_is(tmp_path, monkeypatch):
    made = []
    true = fewshot.fine_tuned

    def counted(*arguments):
        made.append(arguments[3])
        return true(*arguments)

    monkeypatch.setattr(fewshot, "fine_tuned", counted)
    plan = Plan((2,), False, (0,), 20, (3,), QUICK)

    def run(plan=plan, own=tone_set(), weights="a", code="1"):
        made.clear()
        kept = Kept(tmp_path / "kept", {"weights": weights}, code)
        return compare(random_encoder(SMALL, 9), own, plan, kept=kept), len(made), kept.codes

    first, number, _ = run()
    assert number == 2 * len(QUICK.rates)
    assert run(code="2") == (first, 0, {"1"})  # what is kept tells which code made it
    assert run(dataclasses.replace(plan, seeds=(0, 1)))[1] == number
    assert run(dataclasses.replace(plan, shots=(2, 3)))[1] == number
    assert run(dataclasses.replace(plan, steps=(3, 4)))[1] == number  # those of 3 steps are there
    other = tone_set()
    other.test.iq[0] = -other.test.iq[0]
    assert run(own=other)[1] == number and run()[1] == 0
    assert run(weights="b")[1] == len(QUICK.rates)  # random weights of this shape are the same beside any file


def test_the_length_with_the_most_right_validation_answers_is_taken():
    found = compare(random_encoder(SMALL, 0), tone_set(), Plan((8,), False, (0, 1), 20, (1, 40), Recipe(
        batch=8, rates=(3e-3,), bfloat16=False)))
    for arm in fewshot.ARMS:
        result = found["few"][0]["fine_tuned"][arm]
        assert result["steps"] == [40, 40] and min(result["accuracy"]) > 0.9
        assert all(shares["1"]["0.003"] < shares["40"]["0.003"] for shares in result["validation"])
    said = "\n".join(cards.fewshot_lines(figures(found | {"pretrained_on": False})))
    assert "Fine-tuning: 1 or 40 steps of 8 windows" in said


def test_a_damaged_result_is_named(tmp_path):
    kept = Kept(tmp_path, {}, "1")
    kept.put({"k": 1}, {"accuracy": 0.5})
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text()[:-20])
    with pytest.raises(EMindError, match=f"{file.name}: not a result of a fine-tuning; remove it"):
        kept.get({"k": 1})


# ------------------------------------------------------------------------------------------------- what is said


def made_up(pretrained, random, pretrained_on=False):
    def arm(values):
        return {"accuracy": values, "kappa": [v - 0.2 for v in values], "accuracy_clear": [v + 0.1 for v in values],
                "learning_rate": 1e-3, "validation": {"0.001": 0.5}}

    both = {"pretrained": arm(pretrained), "random": arm(random)}
    return {"set": "made-up", "label": "modulation", "classes": ["a", "b"], "source": "", "train": 9, "validation": 9,
            "test": 2000, "probe_windows": 1000, "clear_db": 0.0, "per_snr": False, "seeds": [0, 1, 2],
            "recipe": dataclasses.asdict(QUICK), "probe": both, "pretrained_on": pretrained_on,
            "few": [{"k": 10, "linear": both, "fine_tuned": both}]}


def figures(one):
    return {"command": "emind-train fewshot x", "code": "abc", "machine": "a processor", "seconds": 60.0, "sets": [one]}


@pytest.mark.parametrize("pretrained, random, said, points", [
    ([0.60, 0.62, 0.61], [0.50, 0.51, 0.52], "pretraining helps", "+10.0"),
    ([0.50, 0.51, 0.52], [0.60, 0.62, 0.61], "pretraining harms", "-10.0"),
    ([0.50, 0.60, 0.55], [0.55, 0.50, 0.58], "no difference beyond chance", "+0.7"),
])  # fmt: skip
def test_a_gain_a_loss_and_neither_are_called_so(pretrained, random, said, points):
    text = "\n".join(cards.fewshot_lines(figures(made_up(pretrained, random))))
    rows = [line for line in text.splitlines() if line.startswith(("| fine-tuned", "| linear"))]
    assert len(rows) == 3 and all(said in row and points in row for row in rows)
    assert f"{100 * np.mean(pretrained):.1f} ± {100 * np.std(pretrained, ddof=1):.1f}" in rows[0]


def test_a_random_arm_that_was_not_trained_to_its_end_is_told():
    def text(*shares):
        one = made_up([0.5], [0.4])
        one["few"] = [{"k": k, "linear": one["probe"], "fine_tuned": made_up([0.5], [share])["probe"]}
                      for k, share in zip((10, 50, 100), shares)]
        return "\n".join(cards.fewshot_lines(figures(one)))

    assert "get worse with more windows (32.0 % with 10, 39.0 % with 50, 31.0 % with 100)" in text(0.32, 0.39, 0.31)
    assert f"{QUICK.steps} steps have not trained them to their end" in text(0.32, 0.39, 0.31)
    assert "get worse" not in text(0.30, 0.37, 0.38)


def test_the_error_of_a_gain_holds_that_of_the_test_windows():
    difference, error = cards.gain([0.5], [0.5], 100)
    assert difference == 0 and error == pytest.approx(np.sqrt(2 * 0.25 / 100))
    assert cards.gain([0.4, 0.6], [0.5, 0.5], 10**9)[1] == pytest.approx(0.1, rel=1e-3)


def test_a_set_that_was_pretrained_on_is_marked():
    seen, unseen = ("\n".join(cards.fewshot_lines(figures(made_up([0.5], [0.4], on)))) for on in (True, False))
    assert "not pretrained on" in unseen and "not pretrained on" not in seen and "was pretrained on" in seen


def test_the_picture_is_drawn_of_a_negative_result_too(tmp_path):
    cards.draw_fewshot(tmp_path / "f.png", [made_up([0.5, 0.5], [0.6, 0.7]), made_up([0.5], [0.6], True)], "x")
    assert (tmp_path / "f.png").read_bytes()[:4] == b"\x89PNG"


# ------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    model = MaskedAutoencoder(AutoencoderConfig(SMALL, decoder_width=16, decoder_depth=1, decoder_heads=1))
    look = {"signals": 0, "validation": 0.9, "sets": {"EM-Comm": 0.9}, "weights": {"EM-Comm": 1.0}}
    training = {
        "config": {"run": {"seed": 1}, "probe": {"set": "RadChar-regen", "train": 10, "test": 10}}, "code": "abc",
        "corpus": {"files": {"EM-Comm-train.parquet": "12ab"}, "sets": {"EM-Comm": {"signals": 5, "drawn": 7}},
                   "signals": 5, "skipped": []},
        "parameters": {"autoencoder": 20, "encoder": 10},
        "machine": {"processor": "p", "torch": "t", "threads": 1, "processes": 1, "parallel": "none"},
        "steps": 3, "signals": 7, "samples": 700, "epochs": 1.4, "seconds": 60.0,
        "best": {"step": 3, "validation": 0.7}, "history": [look | {"step": 0}, look | {"step": 3, "validation": 0.7, "sets": {"EM-Comm": 0.7}}],
        "probes": [{"step": 0, "signals": 0, "accuracy": 0.4}, {"step": 3, "signals": 7, "accuracy": 0.3}],
    }  # fmt: skip
    path = tmp_path / "x-pretrained.safetensors"
    save_pretrained(path, model, WindowSpec(patch=16), training, {})
    return path


QUICKLY = ["--shots", "2", "--seeds", "2", "--steps", "2", "--pool", "50", "--validation", "15", "--test", "30",
           "--probe-windows", "20"]


def test_the_command_writes_figures_picture_header_and_card(weights, tmp_path, capsys):
    out = tmp_path / "out"
    status = cli.main(["fewshot", str(weights), "--sets", "RadChar-regen", *QUICKLY, "--out", str(out), "--write"])
    assert status == 0
    said = capsys.readouterr().out
    found = json.loads((out / "x-pretrained.json").read_text())
    assert [one["set"] for one in found["sets"]] == ["RadChar-regen"] and not found["sets"][0]["pretrained_on"]
    assert (out / "x-pretrained.png").stat().st_size > 1000
    header = read_header(weights)
    assert header["figures"]["fewshot"]["sets"] == found["sets"]
    assert weights.with_suffix(".md").read_text() == cards.card("x-pretrained", header)
    for picture in ("loss", "probe", "fewshot"):
        assert (tmp_path / f"x-pretrained-{picture}.png").stat().st_size > 1000
    assert found["command"] in said and "--steps 2" in found["command"]


def test_figures_as_json_are_one_object_and_a_set_of_the_corpus_is_marked(weights, tmp_path, capsys):
    status = cli.main(["fewshot", str(weights), "--sets", "EM-Comm", *QUICKLY, "--out", str(tmp_path / "o"), "--json"])
    assert status == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sets"][0]["pretrained_on"] and AUTOENCODER in read_header(weights)
    assert "fewshot" not in read_header(weights)["figures"]


def test_figures_of_a_file_with_heads_go_between_its_marks_and_its_header_stays(weights, tmp_path, monkeypatch, capsys):
    path = tmp_path / "y.safetensors"
    heads = MultiHead(SMALL, {"modulation": HeadSpec("modulation", "classification", ("a", "b"))})
    save_weights(path, heads, WindowSpec(patch=16), {}, {"data": {"radar": {"set": "RadChar-regen"}}}, {})
    page = tmp_path / "page.md"
    monkeypatch.setattr(cards, "PAGE", page)
    arguments = ["fewshot", str(path), "--sets", "RadChar-regen", *QUICKLY, "--out", str(tmp_path / "o"), "--write"]
    page.write_text("no marks\n")
    assert cli.main(arguments) == 1 and "lacks the marks" in capsys.readouterr().err
    assert not (tmp_path / "o" / "done").exists()  # told before anything was trained
    begin, end = marks("y", "fewshot")
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    whole = path.read_bytes()
    assert cli.main(arguments) == 0 and path.read_bytes() == whole
    text = page.read_text()
    assert text.startswith(f"before\n{begin}\n") and text.endswith(f"{end}\nafter\n") and "old" not in text
    assert file_hash(path) in text and "its recipe was pretrained on, with other windows" in text
    assert "images/" not in text  # of one point
    assert cli.main([*arguments, "--shots", "2", "3"]) == 0 and "](images/fewshot-y.png)" in page.read_text()
    assert (tmp_path / "images" / "fewshot-y.png").stat().st_size > 1000
    lines = cards.fewshot_lines(figures(made_up([0.5], [0.4])) | {"heads": True})
    assert any("not trained on" in line for line in lines)


def test_what_a_head_was_trained_on_counts_as_seen():
    seen = pretrained_sets(read_header(resolve("emind-nano")))
    assert {"RadChar-regen", "Air", "EM-Infer-Comm"} <= seen and "RML2016.10A-regen" not in seen
    seen = pretrained_sets(read_header(resolve("emind-nano-pretrained")))
    assert "EM-Radar" in seen and not {"RadChar-regen", "RML2016.10A-regen"} & seen
    assert pretrained_sets({"training": {"data": "the air set of `training/synthesis/air.py`"}}) == {"Air"}
    assert pretrained_sets({"training": {}}) == set()


@pytest.mark.parametrize("arguments, fault", [
    (["--sets", "RadChar"], "unknown set 'RadChar'"),
    (["--sets", "none.parquet"], "none.parquet: no such file"),
    (["--shots", "0"], "--shots 0 must be at least 1"),
    (["--seeds", "0"], "--seeds 0 must be at least 1"),
    (["--rates", "0.001", "2"], "--rates 2 must lie between 0 and 1"),
    (["--pool", "3"], "3 windows are fewer than its 5 classes"),
    (["--shots", "100", "--pool", "50", "--steps", "2", "--validation", "10", "--test", "10"],
     "has 10 windows, 100 are asked for"),
])  # fmt: skip
def test_what_cannot_be_done_is_one_line(weights, tmp_path, capsys, arguments, fault):
    assert cli.main(["fewshot", str(weights), "--out", str(tmp_path / "o"), *arguments]) in (1, 2)
    said = capsys.readouterr().err.strip()
    assert fault in said and said.count("\n") == 0


def test_the_section_stands_between_its_marks_and_nothing_else_changes(weights):
    page = f"# Pretraining\n\nbefore\n{cards.BEGIN}\nold\n{cards.END}\nafter\n"
    text = cards.section({"x-pretrained": read_header(weights)})
    new = cards.with_section(page, text)
    assert new.startswith("# Pretraining\n\nbefore\n") and new.endswith("after\n") and "old" not in new
    assert "0.9000 before the first step, 0.7000 at the end" in new and cards.with_section(new, text) == new
    with pytest.raises(EMindError, match="no place for the figures"):
        cards.with_section("# Pretraining\n", text)


def test_usage_errors_have_status_2(weights):
    with pytest.raises(UsageError):
        ProbeSet.generated("nothing")
    assert cli.main(["fewshot", str(weights), "--steps", "0"]) == 2
