"""Baselines of the detection tasks, temperatures and their bounds."""

import numpy as np
import pytest
import torch
from emind.contract.errors import UsageError
from emind_training.evaluate import TEMPERATURES, temperature_note, temperature_of
from emind_training.task_baselines import AUTOENCODER, BLIND, KNOWN, MEASURED
from emind_training.task_data import TaskBatch
from emind_training.task_figures import detection_figures
from emind_training.tasks import TASKS
from task_runs import config, micro, runs, trained  # noqa: F401

pytestmark = pytest.mark.usefixtures("micro")


def test_energy_detection_is_measured_on_the_windows_of_the_head_and_knows_power_not_shape(runs):  # noqa: F811
    own = config("sensing", data={"items": 480, "test_examples": 0}, optim={"steps": 1})
    figures = trained(runs, "energy", own, baselines=True).figures["sensing"]
    found = figures["baselines"]
    assert set(found) == {KNOWN, MEASURED, BLIND}
    for one in found.values():
        assert one["positives"] + one["negatives"] == figures["windows"]
        assert [row["snr_db"] for row in one["by_snr"]] == [row["snr_db"] for row in figures["detection"]["by_snr"]]
    area = {name: {row["snr_db"]: row["auc"] for row in one["by_snr"]} for name, one in found.items()}
    assert area[KNOWN][10.0] == area[MEASURED][10.0] == 1.0  # ten times the noise's power
    assert found[KNOWN]["auc"] > 0.7 and found[KNOWN]["training_windows"] > 0 == found[BLIND]["training_windows"]


def test_the_autoencoder_sees_the_normal_windows_of_the_training_part_alone(runs):  # noqa: F811
    own = config("anomaly", data={"items": 240, "test_examples": 0})
    made = trained(runs, "autoencoder", own, baselines=True)
    figures, found = made.figures["anomaly"], made.figures["anomaly"]["baselines"][AUTOENCODER]
    assert found["training_windows"] == made.training["fitted"]["anomaly"]["normal_windows"]
    assert set(found["by_class"]) == set(figures["by_class"]) and found["positives"] == figures["positives"]
    assert [row["isr_db"] for row in found["by_isr"]] == [row["isr_db"] for row in figures["by_isr"]]


def test_baselines_are_refused_where_there_are_none(runs):  # noqa: F811
    with pytest.raises(UsageError, match="emind-train compare"):
        trained(runs, "none", config("technology"), baselines=True)


def test_a_temperature_stays_within_its_bounds_and_meeting_one_is_said():
    right = torch.arange(40) % 4
    sure = 5.0 * torch.nn.functional.one_hot(right, 4).float()
    assert temperature_of(sure, right) == pytest.approx(TEMPERATURES[0])
    assert "hardly a wrong answer" in temperature_note(temperature_of(sure, right))
    generator = torch.Generator().manual_seed(0)
    useless = 100 * torch.randn(400, 4, generator=generator)
    worst = temperature_of(useless, torch.randint(0, 4, (400,), generator=generator))
    assert worst == pytest.approx(TEMPERATURES[1]) and "next to nothing" in temperature_note(worst)
    assert temperature_note(1.3) == "" and not np.isnan(worst)


@pytest.mark.parametrize("step, rows", [(2.0, 21), (0.1, 10)])
def test_detection_over_measured_snr_is_told_by_steps_and_over_labels_by_label(step, rows):
    snr = np.arange(-20, 20.01, 2.0).repeat(20) if step == 2.0 else np.arange(-19.95, 20, step)
    count = len(snr)
    batch = TaskBatch(torch.zeros(2 * count, 1, 2), torch.zeros(2 * count), torch.arange(2).repeat_interleave(count),
                      torch.zeros(2 * count, 0), torch.zeros(2 * count, 0, 1, 2), np.tile(snr, 2),
                      np.full(2 * count, np.nan))
    task = TASKS["sensing"]
    classes = (task.normal, "signal")
    score = np.concatenate([np.zeros(count), np.where(snr > 0, 1.0, -1.0)])
    found = detection_figures(score, task, classes, batch)
    assert len(found["by_snr"]) == rows and sum(row["positives"] for row in found["by_snr"]) == count
    assert [row["auc"] for row in found["by_snr"]] == [float(row["snr_db"] > 0) for row in found["by_snr"]]
    assert "by_isr" not in found
