"""Heads: what is asked of one encoder pass, and the model that joins them to it.

Luo et al., section V-B ("By flexibly switching the downstream task head, the shared pre-trained foundation model can be
adapted") and Table VII. What a kind of head puts out stands in `contract.window.HeadSpec`.

Shapes, by letter, beside those of `emind.py`:
    F  pooled features, 2 D         C  classes, or centres of normal windows
    Q  parameters of a regression   K  waveforms of a reconstruction
    X  values of a latent
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..contract.window import HeadSpec
from .emind import Encoder, EncoderConfig, pooled
from .prototypes import PrototypeHead


@dataclass(frozen=True, eq=False)
class Features:
    """What heads see of a pass: pooled_BF, patches_BND of the encoder, and iq_BL2 as it went in."""

    pooled_BF: Tensor
    patches_BND: Tensor
    iq_BL2: Tensor


def features_of(tokens_BTD: Tensor, iq_BL2: Tensor, patch: int) -> Features:
    """From an encoder's tokens and its input."""
    patches = -(-iq_BL2.shape[1] // patch)
    return Features(pooled(tokens_BTD), tokens_BTD[:, Encoder.PREFIX : Encoder.PREFIX + patches], iq_BL2)


class ClassificationHead(nn.Module):
    """Pooled features (B, F) to logits (B, C)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * width)
        self.hidden = nn.Linear(2 * width, width)
        self.act = nn.GELU()
        self.logits = nn.Linear(width, classes)

    def forward(self, pooled_BF: Tensor) -> Tensor:
        return self.logits(self.act(self.hidden(self.norm(pooled_BF))))

    def answer(self, features: Features) -> Tensor:
        return self(features.pooled_BF)


class LinearHead(nn.Module):
    """Pooled features (B, F), each vector of zero mean and unit deviation, to (B, outputs) by one linear layer."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * width, elementwise_affine=False)
        self.outputs = nn.Linear(2 * width, outputs)

    def forward(self, pooled_BF: Tensor) -> Tensor:
        return self.outputs(self.norm(pooled_BF))

    def answer(self, features: Features) -> Tensor:
        return self(features.pooled_BF)


class RegressionHead(nn.Module):
    """Pooled features (B, F) to logits of the classes, then values normalised to 0...1: (B, C + Q).

    Class and parameters share the hidden layer, as the paper trains them jointly (section VI-C.2). `split_regression`
    takes the two apart. It is twice as wide as a classification's, since each parameter is a question of its own.
    """

    def __init__(self, width: int, classes: int, parameters: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * width)
        self.hidden = nn.Linear(2 * width, 2 * width)
        self.act = nn.GELU()
        self.outputs = nn.Linear(2 * width, classes + parameters)
        # Before training, every parameter is answered with the middle of its range.
        nn.init.zeros_(self.outputs.weight[classes:])
        nn.init.constant_(self.outputs.bias[classes:], 0.5)

    def forward(self, pooled_BF: Tensor) -> Tensor:
        return self.outputs(self.act(self.hidden(self.norm(pooled_BF))))

    def answer(self, features: Features) -> Tensor:
        return self(features.pooled_BF)


def split_regression(outputs: Tensor, spec: HeadSpec) -> tuple[Tensor, Tensor]:
    """(B, C + Q) of a regression head to logits (B, C) and normalised values (B, Q). Numpy arrays will do."""
    return outputs[:, : len(spec.labels)], outputs[:, len(spec.labels) :]


def normalised(values_BQ: Tensor, spec: HeadSpec) -> Tensor:
    """SI units to what a regression head learns: 0 at a range's low end, 1 at its high one. NaN (unknown) stays NaN."""
    low_Q, span_Q = _ranges(values_BQ, spec)
    return (values_BQ - low_Q) / span_Q


def denormalised(values_BQ: Tensor, spec: HeadSpec) -> Tensor:
    """What a regression head says in SI units, held to the range: beyond it training saw nothing."""
    low_Q, span_Q = _ranges(values_BQ, spec)
    return low_Q + span_Q * values_BQ.clamp(0.0, 1.0)


def _ranges(like: Tensor, spec: HeadSpec) -> tuple[Tensor, Tensor]:
    low_Q = like.new_tensor([parameter.low for parameter in spec.parameters])
    return low_Q, like.new_tensor([parameter.high for parameter in spec.parameters]) - low_Q


RECONSTRUCTION_WIDTHS = (4096, 2048, 1536, 1024)  # Table VII, for an encoder of width 768


def reconstruction_widths(width: int) -> tuple[int, ...]:
    """Table VII's widths scaled to an encoder, in multiples of 16."""
    return tuple(max(16, 16 * round(each * width / (768 * 16))) for each in RECONSTRUCTION_WIDTHS)


class ReconstructionHead(nn.Module):
    """Patch by patch: a patch's token to K waveforms of its samples, (B, N, D) to (B, K, L, 2).

    Layers of Table VII; the fourth one's output is the latent that the separation loss keeps small. The paper calls
    them linear; there is a GELU between them, without which five layers would be one.

    With ``skip`` the first layer also sees the samples of the patch and of its two neighbours, and what comes out is
    added to an equal share of the input. So the head need not carry every sample through the encoder's bottleneck, and
    starts from the input itself, which is the line that it has to beat.
    """

    def __init__(self, width: int, patch: int, sources: int, skip: bool) -> None:
        super().__init__()
        self.patch, self.sources, self.skip = patch, sources, skip
        widths = (width + (6 * patch if skip else 0), *reconstruction_widths(width))
        layers = [nn.Sequential(nn.Linear(a, b), nn.GELU()) for a, b in zip(widths, widths[1:])]
        self.layers = nn.Sequential(*layers)
        self.values = nn.Linear(widths[-1], 2 * patch * sources)
        if skip:
            with torch.no_grad():  # near the input, yet not alike: K equal answers would stay equal
                self.values.weight.mul_(0.1)
                self.values.bias.zero_()

    def forward(self, patches_BND: Tensor, iq_BL2: Tensor) -> Tensor:
        """Tokens of the patches and the normalised samples they stand for, to (B, K, L, 2) on the samples' scale."""
        return self.waveforms(self.latent(patches_BND, iq_BL2), iq_BL2)

    def latent(self, patches_BND: Tensor, iq_BL2: Tensor) -> Tensor:
        """(B, N, X): what the last layer makes the samples from."""
        if self.skip:
            filled_BL2 = functional.pad(iq_BL2, (0, 0, 0, -iq_BL2.shape[1] % self.patch))
            samples_BNP = filled_BL2.unflatten(1, (-1, self.patch)).flatten(2)
            around_BNP = functional.pad(samples_BNP, (0, 0, 1, 1))
            patches_BND = torch.cat([patches_BND, around_BNP[:, :-2], samples_BNP, around_BNP[:, 2:]], dim=-1)
        return self.layers(patches_BND)

    def waveforms(self, latent_BNX: Tensor, iq_BL2: Tensor) -> Tensor:
        """Latents to (B, K, L, 2)."""
        correction_BKL2 = self.correction(latent_BNX, iq_BL2.shape[1])
        return correction_BKL2 + iq_BL2.unsqueeze(1) / self.sources if self.skip else correction_BKL2

    def correction(self, latent_BNX: Tensor, length: int) -> Tensor:
        """(B, K, L, 2): with ``skip`` what the input's share is corrected by, else the waveforms themselves."""
        values = self.values(latent_BNX).unflatten(-1, (self.sources, self.patch, 2))
        return values.transpose(1, 2).flatten(2, 3)[:, :, :length]

    def answer(self, features: Features) -> Tensor:
        return self(features.patches_BND, features.iq_BL2)


class AnomalyHead(nn.Module):
    """How far features lie from those of normal windows: (B, F) to logits (B, 2) of normal and anomalous.

    The distance is Mahalanobis', to the nearest of C centres with one covariance. It is fitted in closed form on normal
    windows only, so it needs no example of what it is to find and rests on a frozen encoder; a trained two-class head,
    the other way, knows the interferers it was shown. The logit of anomalous is distance / scale - threshold / scale,
    that of normal zero: a softmax makes it a probability, one half at the threshold.
    """

    def __init__(self, width: int, centres: int) -> None:
        super().__init__()
        self.register_buffer("centres_CF", torch.zeros(centres, 2 * width))
        self.register_buffer("whitening_FF", torch.eye(2 * width))
        self.register_buffer("threshold", torch.tensor(1.0))
        self.register_buffer("scale", torch.tensor(1.0))

    def distance(self, pooled_BF: Tensor) -> Tensor:
        """(B,): to the nearest centre, over the square root of F; 1 for normal windows but for the shrinkage."""
        whitened_BF = (pooled_BF - self.centres_CF.mean(0)) @ self.whitening_FF
        centres_CF = (self.centres_CF - self.centres_CF.mean(0)) @ self.whitening_FF
        # Differences, not squares taken apart: those would lose the small distances.
        square_BC = torch.stack([(whitened_BF - centre_F).square().mean(-1) for centre_F in centres_CF], dim=-1)
        return square_BC.amin(-1).sqrt()

    def forward(self, pooled_BF: Tensor) -> Tensor:
        logit_B = (self.distance(pooled_BF) - self.threshold) / self.scale
        return torch.stack([torch.zeros_like(logit_B), logit_B], dim=-1)

    def answer(self, features: Features) -> Tensor:
        return self(features.pooled_BF)

    @torch.no_grad()
    def fit(self, normal_NF: Tensor, centre_N: Tensor) -> None:
        """Centres and covariance from normal windows; ``centre_N`` says whose window each is, 0 to C - 1 (its class).

        The covariance is shrunk towards a sphere by the oracle approximating rule (Chen et al., 2010). ValueError where
        a centre has no window.
        """
        centres = len(self.centres_CF)
        count_C = torch.bincount(centre_N, minlength=centres)
        if len(count_C) > centres or not count_C.all():
            raise ValueError(f"windows of {int((count_C > 0).sum())} classes for {centres} centres")
        normal_NF = normal_NF.double()
        centres_CF = normal_NF.new_zeros(centres, normal_NF.shape[1]).index_add_(0, centre_N, normal_NF)
        centres_CF /= count_C.unsqueeze(-1)
        covariance_FF = shrunk_covariance(normal_NF - centres_CF[centre_N])
        values_F, vectors_FF = torch.linalg.eigh(covariance_FF)
        self.centres_CF.copy_(centres_CF)
        self.whitening_FF.copy_(vectors_FF * values_F.clamp_min(values_F[-1] * 1e-12).rsqrt())

    @torch.no_grad()
    def set_threshold(self, normal_NF: Tensor, false_alarms: float) -> None:
        """Threshold that this share of (validation) normal windows exceeds; the scale is their distances' spread."""
        distance_N = self.distance(normal_NF)
        self.threshold.copy_(torch.quantile(distance_N, 1.0 - false_alarms))
        self.scale.copy_(distance_N.std().clamp_min(1e-6))


def shrunk_covariance(centred_NF: Tensor) -> Tensor:
    """Covariance (F, F) of deviations from their mean, shrunk by the oracle approximating rule."""
    count, size = centred_NF.shape
    sample_FF = centred_NF.T @ centred_NF / count
    trace, square = sample_FF.trace(), sample_FF.square().sum()
    mean_square = square / size**2
    share = (mean_square + (trace / size) ** 2) / ((count + 1.0) * (mean_square - (trace / size) ** 2 / size))
    share = share.clamp(0.0, 1.0)
    return (1.0 - share) * sample_FF + share * trace / size * torch.eye(size, dtype=sample_FF.dtype)


def energy(logits_BC: Tensor, temperature: float) -> Tensor:
    """(B,): evidence for any of the classes, log sum exp(logits / temperature). `unknown` is what has too little.

    Not the highest probability: a window that could be 16QAM or 64QAM resembles two classes and has a low one.
    """
    return torch.logsumexp(logits_BC / temperature, dim=-1)


def energy_threshold(logits_NC: Tensor, temperature: float, kept: float) -> float:
    """The energy that this share of (validation) windows of known classes reaches."""
    return torch.quantile(energy(logits_NC, temperature), 1.0 - kept).item()


def _linear(config: EncoderConfig, spec: HeadSpec) -> LinearHead | None:
    return LinearHead(config.width, len(spec.labels) + len(spec.parameters)) if spec.linear else None


HEADS: dict[str, Callable[[EncoderConfig, HeadSpec], nn.Module]] = {
    "classification": lambda config, spec: _linear(config, spec) or ClassificationHead(config.width, len(spec.labels)),
    "anomaly": lambda config, spec: AnomalyHead(config.width, spec.centres),
    "regression": lambda config, spec: (
        _linear(config, spec) or RegressionHead(config.width, len(spec.labels), len(spec.parameters))),
    "prototypes": lambda config, spec: PrototypeHead(
        config.width, len(spec.labels), spec.centres, spec.windows, spec.references, spec.views,
        spec.components),
    "reconstruction": lambda config, spec: ReconstructionHead(config.width, config.patch, spec.sources, spec.skip),
}


class MultiHead(nn.Module):
    """One encoder and any number of heads on the same pass."""

    def __init__(self, config: EncoderConfig, heads: Mapping[str, HeadSpec]) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.specs: dict[str, HeadSpec] = {}
        self.heads = nn.ModuleDict()
        for name, spec in heads.items():
            self.add_head(name, spec)

    def add_head(self, name: str, spec: HeadSpec) -> nn.Module:
        """Another head, with random weights, in place of one of that name. The head."""
        self.specs[name] = spec
        self.heads[name] = HEADS[spec.kind](self.encoder.config, spec)
        return self.heads[name]

    def features(self, iq_BL2: Tensor, rate_B: Tensor) -> Features:
        """One pass of the encoder."""
        return features_of(self.encoder(iq_BL2, rate_B), iq_BL2, self.encoder.config.patch)

    def answers(self, features: Features, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """What the heads of these names, or all of them, make of a pass."""
        return {name: self.heads[name].answer(features) for name in (self.heads if names is None else names)}

    def forward(self, iq_BL2: Tensor, rate_B: Tensor, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """(B, L, 2) normalised IQ and (B,) Hz to what each head, or each of ``names``, puts out.

        Logits (B, classes) of a classification; for the other kinds see `HeadSpec`.
        """
        return self.answers(self.features(iq_BL2, rate_B), names)
