"""Kinds of signals drawn by chance as a part of joint training: the loss, and a run with it."""

from __future__ import annotations

import json

import pytest
import torch
from emind.contract.errors import UsageError
from emind.models.emind import EncoderConfig
from emind.models.heads import MultiHead
from emind_training.config import AirConfig
from emind_training.kinds_loss import KindsConfig, kinds_batch, kinds_loss
from emind_training.synthesis.kinds import FAMILY, FAMILY_WINDOWS, OF_KIND
from task_runs import config, micro, runs, trained  # noqa: F401

KINDS = KindsConfig(share=1.0, families=2)
AIR = AirConfig(length=128)
CHANCE = torch.tensor(float(FAMILY)).log()


def test_features_that_say_the_kind_cost_nothing_and_those_that_do_not_cost_chance():
    torch.manual_seed(0)
    kind = torch.eye(FAMILY).repeat_interleave(OF_KIND, 0).repeat(2, 1)
    assert kinds_loss(kind + 0.01 * torch.randn(len(kind), FAMILY), KINDS) < 0.01
    assert abs(kinds_loss(torch.randn(len(kind), 4096), KINDS) - CHANCE) < 0.05


def test_a_window_does_not_vouch_for_its_own_kind():
    own_direction = torch.eye(FAMILY_WINDOWS)  # nothing in common with any other window
    assert kinds_loss(own_direction, KINDS) > 0.95 * CHANCE


def test_a_family_is_told_apart_from_no_other():
    kind = torch.eye(FAMILY).repeat_interleave(OF_KIND, 0)
    moved = torch.cat([kind, kind + 100.0])  # the second family lies elsewhere, its kinds in the same directions
    assert torch.allclose(kinds_loss(moved, KINDS), kinds_loss(torch.cat([kind, kind]), KINDS), atol=1e-4)


def test_batches_are_whole_families_in_order_and_follow_from_the_seed():
    iq_BL2, rate_B = kinds_batch(5, KINDS, AIR)
    assert iq_BL2.shape == (2 * FAMILY_WINDOWS, AIR.length, 2) and rate_B.shape == (2 * FAMILY_WINDOWS,)
    assert iq_BL2.square().sum(-1).amax(1).allclose(torch.ones(len(iq_BL2)), atol=1e-5)
    again, other = kinds_batch(5, KINDS, AIR)[0], kinds_batch(6, KINDS, AIR)[0]
    assert torch.equal(iq_BL2, again) and not torch.equal(iq_BL2, other)


def test_training_on_kinds_tells_apart_those_of_another_seed():
    torch.manual_seed(1)
    model = MultiHead(EncoderConfig(width=32, depth=1, heads=1, patch=16, spectral=True), {})
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def loss(seed: int) -> torch.Tensor:
        return kinds_loss(model.features(*kinds_batch(seed, KINDS, AIR)).pooled_BF, KINDS)

    with torch.no_grad():
        before = torch.stack([loss(1000 + k) for k in range(6)]).mean()
    for step in range(30):
        optimizer.zero_grad()
        loss(step).backward()
        optimizer.step()
    with torch.no_grad():
        assert torch.stack([loss(1000 + k) for k in range(6)]).mean() < before - 0.03


def test_a_run_takes_turns_with_kinds_and_without_them_its_record_has_none(runs, micro):  # noqa: F811
    own = config("technology", data={"items": 48}, kinds={"share": 1.0})
    made = trained(runs, "with-kinds", own)
    told = [json.loads(line) for line in (runs / "with-kinds" / "log.jsonl").read_text().splitlines()]
    names = [line["task"] for line in told if "task" in line]
    assert names == ["technology", "kinds"] * 3
    assert made.training["config"]["kinds"]["share"] == 1.0 and set(made.training["examples"]) == {"technology"}
    assert "kinds" not in config("technology").to_dict()  # checkpoints of before go on


def test_kinds_with_a_frozen_encoder_are_refused(runs, micro, tmp_path):  # noqa: F811
    with pytest.raises(UsageError, match="trains the encoder, which is frozen here"):
        trained(runs, "never", config("technology", kinds={"share": 1.0}), track="probe", init=tmp_path / "any")
