"""What the command line must know before anything heavy is imported: names of the tasks and of the tracks."""

TASK_NAMES = (
    "modulation", "radar", "interference", "fingerprint", "separation", "denoise", "sensing", "anomaly", "technology",
)  # fmt: skip
FULL, PROBE, SCRATCH, LORA, FEW_SHOT = TRACKS = ("full", "probe", "scratch", "lora", "few-shot")
