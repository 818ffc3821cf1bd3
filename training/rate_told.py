"""What the sample rate that a receiver tells is worth: signals of standards, whose symbols last as long as the standard
says, answered with their own rate, with none and with a wrong one.

`python -m emind_training.rate_told [WEIGHTS [WINDOWS]]` prints the shares right. No recording takes part.

Shapes, by letter:
    N  windows    L  samples
"""

from __future__ import annotations

import sys

import numpy as np
from emind.contract.vocabulary import MODULATIONS, NOISE, family_of

from .synthesis.air import AirConfig, window_and_rate

HEAD = "modulation"
SEED = 4_000_007  # never a training seed
TRIES = 40  # windows of a class without one of a standard after which it is passed over


def of_standards(count: int, config: AirConfig = AirConfig()) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """iq_NL complex64 of ``count`` windows a class of those that standards have, their rates rate_N in Hz, and label_N,
    places in MODULATIONS."""
    rng = np.random.default_rng(SEED)
    iq, rates, labels = [], [], []
    for label, name in enumerate(MODULATIONS):
        found = tries = 0
        while name != NOISE and found < count and (found or tries < TRIES):
            window, _, rate = window_and_rate(rng, name, config)
            tries += 1
            if config.rate_min_hz <= rate <= config.rate_max_hz:
                iq.append(window)
                rates.append(rate)
                labels.append(label)
                found += 1
    return np.stack(iq), np.array(rates), np.array(labels)


def told(rate_N: np.ndarray, config: AirConfig = AirConfig()) -> dict[str, np.ndarray]:
    """By what a receiver says: the rates in Hz that an engine is given for these windows."""
    low, high = np.log(config.rate_min_hz), np.log(config.rate_max_hz)
    wrong_N = np.exp(np.random.default_rng(SEED).uniform(low, high, len(rate_N)))
    return {"their own": rate_N, "none": np.full(len(rate_N), np.nan), "any other": wrong_N}


def main() -> int:
    """Print the table."""
    from emind.runtime.engine import load_engine

    weights, count = (sys.argv[1:] + ["emind-nano", "100"][len(sys.argv) - 1 :])[:2]
    iq_NL, rate_N, label_N = of_standards(int(count))
    engine = load_engine(weights, "torch", 1, (HEAD,))
    names, truth_N = np.array(engine.heads[HEAD].labels), np.array(MODULATIONS)[label_N]
    print(f"{weights}, {len(label_N)} windows of {len(np.unique(label_N))} classes that standards have\n")
    print("| rate told | class right | family right |\n|---|---|---|")
    for said, rates in told(rate_N).items():
        answer_N = names[engine.infer(iq_NL, rates)[HEAD][:, : len(names)].argmax(1)]
        families = np.mean([family_of(answer) == family_of(truth) for answer, truth in zip(answer_N, truth_N)])
        print(f"| {said} | {np.mean(answer_N == truth_N):.3f} | {families:.3f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
