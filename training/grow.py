"""A larger encoder that starts from what a trained smaller one knows: how its weights come about.

The idea is that of Net2Net (Chen et al., 2016): what is added writes nothing at first, so the grown network answers
nearly as the trained one did, and learns on from there.

- Width: the trained values take the places whose positions have the nearest frequencies. What is written to the new
  places is the mean of the others, so that a LayerNorm, its gain scaled, makes zeros of them; nothing reads them yet.
- Attention heads and hidden units: new ones read at random, and nothing reads what they put out.
- Depth: a new layer is the one below it with zeros where it would write.

Exact it is not. The larger width has other frequencies of positions (half of a nano's are missing in tiny, though not
in small), and positions stand in the new places too, where every LayerNorm counts them; and the heads' norms take the
mean of the last norm's biases for that of the features. Of the released nano's labels 97 in 100 stay in tiny.
"""

from __future__ import annotations

import torch
from emind.contract.errors import EMindError, UsageError
from emind.models.emind import SIZES, Encoder, EncoderConfig
from emind.models.heads import (
    ClassificationHead,
    LinearHead,
    MultiHead,
    ReconstructionHead,
    RegressionHead,
)
from torch import Tensor, nn


def grown(model: MultiHead, size: str) -> tuple[MultiHead, list[str]]:
    """A model of ``size`` that answers nearly as ``model``, in evaluation mode, and the heads that it lacks: those
    fitted in closed form, which have nothing to start from.

    UsageError where the size is not larger; EMindError for heads of attention of another width.
    """
    old = model.encoder.config
    to = SIZES[size]
    new = to(patch=old.patch, channels=old.channels, spectral=old.spectral, stem=old.stem, dropout=old.dropout)
    if new.width < old.width or new.depth < old.depth or new == old:
        raise UsageError(f"--size {size}: {new.width} x {new.depth}, and the weights have {old.width} x {old.depth}; "
                         "take a larger one")
    if new.width // new.heads != old.width // old.heads or new.mlp_ratio != old.mlp_ratio:
        raise EMindError(f"attention heads of {old.width // old.heads} values cannot grow into those of "
                         f"{new.width // new.heads}")
    trained = [name for name, head in model.heads.items() if type(head) in GROWERS]
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(0)
        larger = MultiHead(new, {name: model.specs[name] for name in trained})
        _encoder(larger.encoder, model.encoder)
        for name in trained:
            GROWERS[type(model.heads[name])](larger.heads[name], model.heads[name], old, new)
    return larger.eval(), [name for name in model.heads if name not in trained]


def places(old: int, new: int) -> Tensor:
    """(old,): which of ``new`` values of a token take those of a smaller one. Values come in pairs, one frequency of
    the positions each: 10000^(-2 k / width) for pair k."""
    pairs = []
    for pair in range(old // 2):
        nearest = round(pair * new / old)
        pairs.append(max(nearest, pairs[-1] + 1) if pairs else nearest)
    pair = torch.tensor(pairs)
    return torch.stack([2 * pair, 2 * pair + 1], dim=1).flatten()


def _write(ours: nn.Linear, theirs: nn.Linear, at: Tensor | None = None, reads: Tensor | None = None) -> None:
    """Weights of a layer that writes to the values ``at`` of a token, the mean of them to all others; without ``at`` to
    its first units, the others stay at random. It reads what stands at ``reads`` (else at the front) and no more."""
    reads = torch.arange(theirs.in_features) if reads is None else reads
    units = torch.arange(theirs.out_features) if at is None else at
    if at is not None:
        ours.weight.zero_()
        ours.weight[:, reads] = theirs.weight.mean(0)
        ours.bias.fill_(theirs.bias.mean())
    weight = torch.zeros(theirs.out_features, ours.in_features)
    weight[:, reads] = theirs.weight
    ours.weight[units], ours.bias[units] = weight, theirs.bias


def _norm(ours: nn.LayerNorm, theirs: nn.LayerNorm, at: Tensor, rest: float = 0.0) -> None:
    """Of the values ``at`` alone: with the others at their mean, the variance is smaller by the share that they are."""
    shrunk = (theirs.normalized_shape[0] / ours.normalized_shape[0]) ** 0.5
    ours.bias.fill_(rest)
    ours.weight[at], ours.bias[at] = theirs.weight * shrunk, theirs.bias


def _vector(ours: nn.Parameter, theirs: nn.Parameter, at: Tensor) -> None:
    """Values (..., D) of tokens themselves."""
    ours.copy_(theirs.mean(-1, keepdim=True).expand_as(ours))
    ours[..., at] = theirs


def _encoder(ours: Encoder, theirs: Encoder) -> None:
    old, new = theirs.config, ours.config
    at = places(old.width, new.width)
    if theirs.stem is not None:
        ours.stem.load_state_dict(theirs.stem.state_dict())
    _write(ours.patch_layer, theirs.patch_layer, at)
    _vector(ours.class_token, theirs.class_token, at)
    _vector(ours.rate_token.unknown, theirs.rate_token.unknown, at)
    _write(ours.rate_token.network[0], theirs.rate_token.network[0])
    _write(ours.rate_token.network[2], theirs.rate_token.network[2], at)
    if theirs.spectral_tokens is not None:
        _vector(ours.spectral_tokens.weight, theirs.spectral_tokens.weight, at)
        _vector(ours.spectral_tokens.bias, theirs.spectral_tokens.bias, at)
    index_of = [layer * new.depth // old.depth for layer in range(old.depth)]
    for index, block in enumerate(ours.blocks):
        layer = max(i for i, place in enumerate(index_of) if place <= index)
        _block(block, theirs.blocks[layer], at, silent=index not in index_of)
    _norm(ours.norm, theirs.norm, at, theirs.norm.bias.mean().item())


def _block(ours: nn.Module, theirs: nn.Module, at: Tensor, silent: bool) -> None:
    _norm(ours.norm_attention, theirs.norm_attention, at)
    _norm(ours.norm_mlp, theirs.norm_mlp, at)
    width, old = ours.attention.qkv.in_features, theirs.attention.qkv.in_features
    units = (torch.arange(3)[:, None] * width + torch.arange(old)).flatten()  # queries, keys and values of its heads
    weight = torch.zeros(3 * old, width)
    weight[:, at] = theirs.attention.qkv.weight
    ours.attention.qkv.weight[units], ours.attention.qkv.bias[units] = weight, theirs.attention.qkv.bias
    _write(ours.attention.out, theirs.attention.out, at)
    _write(ours.mlp[0], theirs.mlp[0], reads=at)
    _write(ours.mlp[2], theirs.mlp[2], at)
    if silent:
        for layer in (ours.attention.out, ours.mlp[2]):
            layer.weight.zero_()
            layer.bias.zero_()


def _pooled(old: EncoderConfig, new: EncoderConfig) -> Tensor:
    """Places of pooled features: class token beside mean token."""
    at = places(old.width, new.width)
    return torch.cat([at, new.width + at])


def _last(ours: nn.Linear, theirs: nn.Linear, reads: Tensor | None = None) -> None:
    """A layer that puts out as many values as before: it reads no new ones yet."""
    reads = torch.arange(theirs.in_features) if reads is None else reads
    ours.weight.zero_()
    ours.weight[:, reads] = theirs.weight
    ours.bias.copy_(theirs.bias)


def _classification(ours: nn.Module, theirs: nn.Module, old: EncoderConfig, new: EncoderConfig) -> None:
    at = _pooled(old, new)
    _norm(ours.norm, theirs.norm, at)
    _write(ours.hidden, theirs.hidden, reads=at)
    if isinstance(theirs, RegressionHead):
        _last(ours.outputs, theirs.outputs)
    else:
        _last(ours.logits, theirs.logits)


def _linear(ours: LinearHead, theirs: LinearHead, old: EncoderConfig, new: EncoderConfig) -> None:
    _last(ours.outputs, theirs.outputs, _pooled(old, new))
    ours.outputs.weight.mul_((old.width / new.width) ** 0.5)  # its norm has no gain to shrink


def _reconstruction(ours: ReconstructionHead, theirs: ReconstructionHead, old: EncoderConfig, new: EncoderConfig) -> None:
    samples = theirs.layers[0][0].in_features - old.width  # which a head with `skip` sees besides the token
    reads = torch.cat([places(old.width, new.width), new.width + torch.arange(samples)])
    for own, other in zip(ours.layers, theirs.layers):
        _write(own[0], other[0], reads=reads)
        reads = None
    _last(ours.values, theirs.values)


GROWERS = {
    ClassificationHead: _classification,
    RegressionHead: _classification,
    LinearHead: _linear,
    ReconstructionHead: _reconstruction,
}
