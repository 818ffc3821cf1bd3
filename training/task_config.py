"""Configuration of `emind-train finetune` on sets of signals: one head or several, read from TOML, checked key by key.

The air set's own configuration, drawn while training, is in config.py; a file with a table ``[task]`` is read here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from emind.contract.errors import UsageError

from .config import ModelConfig, filled, read_toml
from .kinds_loss import KindsConfig
from .synthesis.air import AirConfig
from .task_names import TASK_NAMES

TABLE = "task"  # what tells such a file from one of the air set


@dataclass(frozen=True)
class TaskTable:
    """``[task.NAME]``: what one head is trained on, and its share in joint training. Empty and zero: as the task says.

    ``share``: how often its batches come beside those of other heads. ``weight``: of its loss. ``length``: samples of a
    window; longer signals are cut, at a random place in training; with ``fill`` shorter ones get noise as in their last
    samples. ``label``: column of the classes. ``loss``: one of `models.losses` where a kind of head has several.
    ``singles``: mixtures of one source take part too. ``align``: a denoiser keeps carrier offset and imbalance and takes
    the noise away (`alignment.py`). ``any_rate``: in training the sampling rate is told wrong, so that the head answers
    at any. ``skip``: of a reconstruction's head, see `HeadSpec`. ``detector``: "classes" trains the anomaly head on the
    named anomalies in place of fitting it to normal windows.
    """

    set: str = ""
    label: str = ""
    batch: int = 0
    length: int = 0
    share: float = 1.0
    weight: float = 1.0
    loss: str = ""
    singles: bool = False
    fill: bool = False
    align: bool = False
    any_rate: bool = False
    skip: bool = True
    detector: str = "normal"


@dataclass(frozen=True)
class TaskDataConfig:
    """Where examples come from. ``size`` and ``seed`` are of sets that are drawn where no files are given; ``items``
    above zero draws that many items instead. ``per_class`` above zero trains on that many examples a class."""

    size: str = "small"
    seed: int = 0
    items: int = 0
    processes: int = 1
    per_class: int = 0
    train_examples: int = 0  # at most, 0: all; a class's share is kept
    validation_examples: int = 4096  # at most
    test_examples: int = 0  # at most, 0: all


@dataclass(frozen=True)
class AugmentConfig:
    """``phase``: by any angle. ``shift``: around the window's end, by up to ``shift_most`` of its length either way.
    ``conjugate``: half of the windows, whose chirps and sidebands then go the other way. ``remix``: a mixture's second
    source comes from another window of the batch, turned, so that no two mixtures are met twice. ``noise_share``: of the
    windows without clean sources get white noise of a power between ``noise_low_db`` and ``noise_high_db`` below their
    own mean power."""

    phase: bool = True
    shift: bool = True
    shift_most: float = 1.0
    conjugate: bool = False
    remix: bool = False
    noise_share: float = 0.0
    noise_low_db: float = -10.0
    noise_high_db: float = 20.0


@dataclass(frozen=True)
class TaskOptimConfig:
    """AdamW with linear warm-up and cosine decay to zero over all steps.

    ``encoder_rate``: the encoder's learning rate over the heads'. ``average``: decay of the running average of the
    weights, which is what is validated and saved; 0 for none. ``patience``: looks without a better one after which the
    run ends; 0 goes to the last step.
    """

    steps: int = 2000
    batch: int = 64
    learning_rate: float = 1e-3
    encoder_rate: float = 1.0
    warmup_steps: int = 100
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    average: float = 0.99
    label_smoothing: float = 0.02
    family_weight: float = 0.5  # of the family's cross-entropy, where the classes have families
    latent_weight: float = 1e-4  # of the latent's mean square in separation
    bfloat16: bool = True
    patience: int = 0


@dataclass(frozen=True)
class LoRAConfig:
    rank: int = 8
    alpha: float = 16.0


@dataclass(frozen=True)
class EpisodeConfig:
    """N-way K-shot episodes of the few-shot track: windows asked in each class of an episode, and how many episodes."""

    queries: int = 10
    episodes: int = 200


@dataclass(frozen=True)
class TaskRunConfig:
    name: str = "task"
    seed: int = 1
    threads: int = 1
    producers: int = 0  # processes that draw windows of the air set; files need none
    log_every: int = 20
    validate_every: int = 200
    known_kept: float = 0.99  # share of validation windows that a head does not call unknown
    false_alarms: float = 0.01  # share of normal validation windows that an anomaly head calls anomalous
    bss_windows: int = 100  # test windows measured by BSS Eval with the toolkit's 512 taps
    checkpoint_seconds: float = 180.0


@dataclass(frozen=True)
class TaskFinetuneConfig:
    """``model`` None: the architecture of the file that the run starts from, else nano. ``tasks``: the tables
    that are there."""

    model: ModelConfig | None = None
    tasks: dict[str, TaskTable] = field(default_factory=dict)
    data: TaskDataConfig = field(default_factory=TaskDataConfig)
    air: AirConfig = field(default_factory=AirConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: TaskOptimConfig = field(default_factory=TaskOptimConfig)
    kinds: KindsConfig = field(default_factory=KindsConfig)
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    episode: EpisodeConfig = field(default_factory=EpisodeConfig)
    run: TaskRunConfig = field(default_factory=TaskRunConfig)

    def to_dict(self) -> dict:
        tables = asdict(self)
        tables[TABLE] = tables.pop("tasks")
        if self.model is not None:
            tables["model"] = self.model.to_dict()
        if not self.kinds.share:
            del tables["kinds"]
        return tables

    def of(self, task: str) -> TaskTable:
        return self.tasks.get(task, TaskTable())

    def with_tasks(self, names: list[str]) -> TaskFinetuneConfig:
        """Only the tables of these tasks, one for each."""
        return replace(self, tasks={name: self.of(name) for name in names})


def is_task_config(path: str | Path) -> bool:
    return TABLE in read_toml(path)


def read_task_config(path: str | Path) -> TaskFinetuneConfig:
    """Read TOML. UsageError for an unknown table or key, a value of another type, or one that cannot be."""
    return task_config_from_dict(read_toml(path), str(path))


def task_config_from_dict(tables: dict, where: str) -> TaskFinetuneConfig:
    """Configuration from nested dicts, checked; ``where`` stands in the errors."""
    tables = dict(tables)
    model, tasks = tables.pop("model", None), tables.pop(TABLE, {})
    for name, values in [("model", model)] * (model is not None) + [(TABLE, tasks), *_items(tasks, TABLE)]:
        if not isinstance(values, dict):
            raise UsageError(f"configuration {where}: [{name}] must be a table")
    unknown = sorted(set(tasks) - set(TASK_NAMES))
    if unknown:
        raise UsageError(f"configuration {where}: unknown task {unknown[0]!r}; known: {', '.join(TASK_NAMES)}")
    config = replace(
        filled(_Rest, tables, where).whole(),
        model=None if model is None else filled(ModelConfig, model, f"{where} [model]"),
        tasks={name: filled(TaskTable, values, f"{where} [{TABLE}.{name}]") for name, values in tasks.items()},
    )
    _check(config, where)
    return config


@dataclass(frozen=True)
class _Rest:
    """The tables that are filled key by key from their defaults."""

    data: TaskDataConfig = field(default_factory=TaskDataConfig)
    air: AirConfig = field(default_factory=AirConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: TaskOptimConfig = field(default_factory=TaskOptimConfig)
    kinds: KindsConfig = field(default_factory=KindsConfig)
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    episode: EpisodeConfig = field(default_factory=EpisodeConfig)
    run: TaskRunConfig = field(default_factory=TaskRunConfig)

    def whole(self) -> TaskFinetuneConfig:
        return TaskFinetuneConfig(None, {}, self.data, self.air, self.augment, self.optim, self.kinds, self.lora,
                                  self.episode, self.run)


def _items(tables, name: str) -> list[tuple[str, object]]:
    return [(f"{name}.{key}", values) for key, values in tables.items()] if isinstance(tables, dict) else []


def losses_of(task: str) -> tuple[str, ...]:
    """What ``loss`` of a task's table may be, the default first; empty where its kind of head has one loss."""
    from emind.models.losses import REGRESSION_LOSSES, WAVEFORM_LOSSES

    from .tasks import RECONSTRUCTION, REGRESSION, TASKS

    return {RECONSTRUCTION: WAVEFORM_LOSSES, REGRESSION: REGRESSION_LOSSES}.get(TASKS[task].kind, ())


def _check(config: TaskFinetuneConfig, where: str) -> None:
    from .synthesis.recipe import SIZES

    o, d, r = config.optim, config.data, config.run
    positive = {"optim.steps": o.steps, "optim.batch": o.batch, "optim.learning_rate": o.learning_rate,
                "optim.clip_norm": o.clip_norm, "run.log_every": r.log_every, "run.validate_every": r.validate_every,
                "run.threads": r.threads, "data.processes": d.processes, "lora.rank": config.lora.rank,
                "data.validation_examples": d.validation_examples, "episode.queries": config.episode.queries,
                "episode.episodes": config.episode.episodes, "kinds.temperature": config.kinds.temperature,
                "kinds.families": config.kinds.families, "kinds.weight": config.kinds.weight}
    positive |= {f"{TABLE}.{name}.{key}": getattr(t, key) for name, t in config.tasks.items()
                 for key in ("share", "weight")}
    for key, value in positive.items():
        if not value > 0:
            raise UsageError(f"configuration {where}: {key} = {value} must be above 0")
    least = {"optim.warmup_steps": o.warmup_steps, "optim.patience": o.patience, "optim.encoder_rate": o.encoder_rate,
             "optim.average": o.average, "data.items": d.items, "data.per_class": d.per_class, "data.seed": d.seed,
             "data.train_examples": d.train_examples, "data.test_examples": d.test_examples, "run.seed": r.seed,
             "kinds.share": config.kinds.share}
    least |= {f"{TABLE}.{name}.{key}": getattr(t, key) for name, t in config.tasks.items()
              for key in ("batch", "length")}
    for key, value in least.items():
        if value < 0:
            raise UsageError(f"configuration {where}: {key} = {value} must not be negative")
    if not o.average < 1:
        raise UsageError(f"configuration {where}: optim.average = {o.average} must be below 1")
    for key, value in (("known_kept", r.known_kept), ("false_alarms", r.false_alarms)):
        if not 0 < value < 1:
            raise UsageError(f"configuration {where}: run.{key} = {value} must lie between 0 and 1")
    a = config.augment
    if not 0 <= a.noise_share <= 1:
        raise UsageError(f"configuration {where}: augment.noise_share = {a.noise_share} must lie between 0 and 1")
    if not -60 <= a.noise_low_db <= a.noise_high_db <= 100:
        raise UsageError(f"configuration {where}: augment.noise_low_db = {a.noise_low_db} must be at most noise_high_db "
                         f"= {a.noise_high_db}, both between -60 and 100")
    for name, table in config.tasks.items():
        known = losses_of(name)
        if table.loss and table.loss not in known:
            raise UsageError(f"configuration {where}: {TABLE}.{name}.loss = {table.loss!r} is not known; "
                             + (f"known: {', '.join(known)}" if known else "its head learns classes and has one loss"))
    if d.size not in SIZES:
        raise UsageError(f"configuration {where}: data.size = {d.size!r} is not known; known: {', '.join(SIZES)}")
