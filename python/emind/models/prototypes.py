"""Classes that were enrolled from a handful of windows: prototypes on the frozen encoder's pooled features.

Snell et al., "Prototypical networks for few-shot learning" (a class is the mean of its windows), with a covariance that
the enrolled windows adapt (Bateni et al., "Improved few-shot visual classification", section 3). Nothing is trained.

Features are whitened by the scatter that known classes have around their centres, and kinds of signals that were drawn
by chance to learn what varies inside one. The scatter of the enrolled windows is mixed in, so that what varies inside an enrolled
class counts less; and that of views of them (`dsp.views`), which say what the same window would have looked like a
moment later. Which enrolled class a window is nearest to is told by angle around their common middle; whether it is one
of them at all, by how much nearer it lies to that class than to the nearest centre of the known classes. How much it
must be is set on reference windows of the known classes, which the file carries: a share of them, and no more, is
answered otherwise than before.

Where the encoder has spectral tokens, what they are made of is seen besides the pooled features: its main components.

Shapes, by letter:
    B  windows in a batch         F  features, 2 D + Y         C  enrolled classes
    O  centres of known classes   N  reference windows         W  enrolled windows of all classes
    V  views of all of these      X  spectral features         Y  their components
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .emind import PIECE, SPECTRUM, SpectralTokens, spectral_features

SPECTRAL = SpectralTokens.COUNT * PIECE
ADAPTED = 0.8  # share of the enrolled windows' scatter in the covariance
SEEN = 0.15  # share of the scatter of their views; without views it is that of the windows
CHANGED = 0.002  # of the reference windows get another answer; below the 0.5 % promised: they are a sample
FOLDS = 5  # parts of a class's windows that are judged by the others
REACH = 1.3  # times the farthest enrolled window from its fellows, or
ORDINARY = 0.99  # as far as this share of the reference windows from their centres: beyond it is not of the class
SHIFT = 100.0  # times the scatter of what must not count
SURE = 4.0  # logit of an enrolled window in the middle of its class: a probability of 0.98
NEVER = float("-inf")


class PrototypeHead(nn.Module):
    """Pooled features (B, 2 D), and spectral ones where it has components of these, to (B, C): in the column of the
    nearest enrolled class a logit, above zero where the window is of that class; minus infinity in the others."""

    def __init__(self, width: int, classes: int, centres: int, windows: int, references: int, views: int = 0,
                 components: int = 0) -> None:
        super().__init__()
        self.width, size = width, 2 * width + components
        self.register_buffer("component_XY", torch.zeros(SPECTRAL, components, dtype=torch.float16),
                             persistent=components > 0)
        self.register_buffer("mean_F", torch.zeros(size))
        self.register_buffer("whitening_FF", torch.eye(size))
        self.register_buffer("known_OF", torch.zeros(centres, size))  # whitened, as all that follows
        self.register_buffer("known_class_O", torch.zeros(centres, dtype=torch.int32))
        self.register_buffer("reference_NF", torch.zeros(references, size, dtype=torch.float16))
        self.register_buffer("reference_class_N", torch.zeros(references, dtype=torch.int32))
        self.register_buffer("window_WF", torch.zeros(windows, size))
        self.register_buffer("window_class_W", torch.zeros(windows, dtype=torch.int32))
        # Files that were written before there were views have none of these.
        self.register_buffer("view_VF", torch.zeros(views, size, dtype=torch.float16), persistent=views > 0)
        self.register_buffer("view_of_V", torch.zeros(views, dtype=torch.int32), persistent=views > 0)
        # What follows is made from the former by `adapt`.
        self.register_buffer("adapted_FF", torch.eye(size))
        self.register_buffer("threshold", torch.tensor(0.0))
        self.register_buffer("reach_C", torch.zeros(classes))
        self.register_buffer("scale_C", torch.ones(classes))
        self.register_buffer("centre_CF", torch.zeros(classes, size))
        self.register_buffer("centre_known_OF", torch.zeros(centres, size))

    def forward(self, pooled_B2D: Tensor, spectral_BSP: Tensor | None = None) -> Tensor:
        return self.of_whitened(self.whitened(joined(pooled_B2D, spectral_BSP, self.component_XY)))

    def of_whitened(self, whitened_BF: Tensor) -> Tensor:
        """The same of features that are whitened already."""
        return self._logits(whitened_BF @ self.adapted_FF)

    def answer(self, features) -> Tensor:
        spectral_BSP = None
        if self.component_XY.numel():
            taper = torch.hann_window(SPECTRUM, periodic=True, device=features.iq_BL2.device)
            spectral_BSP = spectral_features(features.iq_BL2, taper)
        return self(features.pooled_BF, spectral_BSP)

    def whitened(self, features_BF: Tensor) -> Tensor:
        return (features_BF.float() - self.mean_F) @ self.whitening_FF

    def _logits(self, adapted_BF: Tensor) -> Tensor:
        nearest_B = nearest(adapted_BF, self.centre_CF)
        own_B, margin_B = self._margins(adapted_BF, self.centre_CF[nearest_B])
        logit_B = torch.minimum(margin_B - self.threshold, self.reach_C[nearest_B] - own_B) / self.scale_C[nearest_B]
        out_BC = adapted_BF.new_full((len(adapted_BF), len(self.centre_CF)), NEVER)
        return out_BC.scatter(1, nearest_B.unsqueeze(1), logit_B.unsqueeze(1))

    def _margins(self, adapted_BF: Tensor, centre_BF: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) each: distance to these centres, and by how much that to the nearest known class is larger."""
        own_B = (adapted_BF - centre_BF).norm(dim=-1)
        return own_B, torch.cdist(adapted_BF, self.centre_known_OF).amin(-1) - own_B

    @torch.no_grad()
    def adapt(self) -> None:
        """Everything that follows from the enrolled windows: covariance, centres, threshold, reach and scale."""
        classes = len(self.centre_CF)
        if not classes:
            return
        ordinary = self._fit(torch.ones(len(self.window_WF), dtype=torch.bool))
        left = self.left_out()
        for k in range(classes):
            mine = self.window_class_W == k
            self.reach_C[k] = torch.maximum(REACH * left.distance_W[mine].max(), ordinary)
            self.scale_C[k] = (left.margin_W[mine].median() / SURE).clamp_min(0.02 * left.distance_W[mine].median())

    def _fit(self, used_W: Tensor) -> Tensor:
        """Covariance, centres and threshold from some of the enrolled windows, at least one a class. How far ordinary
        windows of known classes lie from their centres."""
        owner_W, window_WF = self.window_class_W[used_W].long(), self.window_WF[used_W]
        classes, size = len(self.centre_CF), window_WF.shape[1]
        seen_V = used_W[self.view_of_V.long()]
        view_of_V = (used_W.cumsum(0) - 1)[self.view_of_V.long()][seen_V]
        view_VF = self.view_VF[seen_V].float()
        count_W = 1.0 + torch.bincount(view_of_V, minlength=len(owner_W))
        middle_WF = window_WF.index_add(0, view_of_V, view_VF) / count_W.unsqueeze(-1)
        mean_CF = torch.stack([middle_WF[owner_W == k].mean(0) for k in range(classes)])
        covariance_FF = (1 - ADAPTED - SEEN) * torch.eye(size, dtype=torch.float64)
        own = ADAPTED if len(view_VF) else ADAPTED + SEEN
        covariance_FF += own * _scatter(middle_WF - mean_CF[owner_W], len(owner_W) - classes)
        apart_VF = torch.cat([window_WF - middle_WF, view_VF - middle_WF[view_of_V]])
        covariance_FF += (ADAPTED + SEEN - own) * _scatter(apart_VF, len(view_VF))
        self.adapted_FF.copy_(torch.linalg.cholesky(torch.linalg.inv(covariance_FF)))
        self.centre_CF.copy_(mean_CF @ self.adapted_FF)
        self.centre_known_OF.copy_(self.known_OF @ self.adapted_FF)
        reference_NF = self.reference_NF.float() @ self.adapted_FF
        own_N, margin_N = self._margins(reference_NF, self.centre_CF[nearest(reference_NF, self.centre_CF)])
        self.threshold.copy_(margin_N.sort(descending=True).values[int(CHANGED * len(margin_N))].clamp_min(0.0))
        return (own_N + margin_N).quantile(ORDINARY)

    @torch.no_grad()
    def left_out(self) -> LeftOut:
        """Each enrolled window judged by a head that was made without it, a part of each class at a time."""
        whole, owner_W = copy.deepcopy(self), self.window_class_W.long()
        place_W, fold_W = torch.arange(len(owner_W)), torch.empty_like(owner_W)
        for k in owner_W.unique():
            mine = place_W[owner_W == k]
            fold_W[mine] = torch.arange(len(mine)) % min(FOLDS, len(mine))
        nearest_W, distance_W, margin_W = (torch.empty(len(owner_W), dtype=kind) for kind in (torch.long, None, None))
        for fold in fold_W.unique():
            held_W = fold_W == fold
            whole._fit(~held_W | (torch.bincount(owner_W)[owner_W] == 1))
            adapted_WF = self.window_WF[held_W] @ whole.adapted_FF
            nearest_W[held_W] = nearest(adapted_WF, whole.centre_CF)
            own, margin = whole._margins(adapted_WF, whole.centre_CF[owner_W[held_W]])
            distance_W[held_W], margin_W[held_W] = own, margin - whole.threshold
        return LeftOut(nearest_W, distance_W, margin_W)


def joined(pooled_B2D: Tensor, spectral_BSP: Tensor | None, component_XY: Tensor) -> Tensor:
    """(B, F): pooled features, and of the spectral ones the components, if there are any."""
    if spectral_BSP is None or not component_XY.numel():
        return pooled_B2D
    return torch.cat([pooled_B2D.float(), spectral_BSP.flatten(1).float() @ component_XY.float()], dim=-1)


def main_components(spectral_NX: Tensor, count: int) -> Tensor:
    """(X, count) float16: directions in which spectral features vary most."""
    vectors_XX = torch.linalg.eigh(torch.cov(spectral_NX.T))[1]
    return vectors_XX[:, -count:].half()


def _scatter(deviation_WF: Tensor, freedom: int) -> Tensor:
    """(F, F) covariance of deviations with so many degrees of freedom."""
    return deviation_WF.double().T @ deviation_WF.double() / max(1, freedom)


@dataclass(frozen=True)
class LeftOut:
    """(W,) each: the nearest enrolled class, the distance to the window's own, and its margin above the threshold."""

    nearest_W: Tensor
    distance_W: Tensor
    margin_W: Tensor


def nearest(adapted_BF: Tensor, centre_CF: Tensor) -> Tensor:
    """(B,): the enrolled class whose centre lies at the smallest angle, seen from the middle of all centres."""
    if len(centre_CF) == 1:
        return torch.zeros(len(adapted_BF), dtype=torch.long)
    middle_F = centre_CF.mean(0)
    unit_CF = nn.functional.normalize(centre_CF - middle_F, dim=-1)
    return ((adapted_BF - middle_F) @ unit_CF.T).argmax(-1)


@torch.no_grad()
def reference_head(
    width: int, feature_NF: Tensor, class_N: Tensor, kept: int, per_class: int, shift_MF: Tensor | None = None,
    inside_KF: Tensor | None = None, component_XY: Tensor | None = None, seed: int = 0,
) -> PrototypeHead:
    """A head without enrolled classes from features of windows of known classes.

    The last ``kept`` windows become its reference, the others give ``per_class`` centres a class. ``inside_KF``:
    how features of windows of one kind differ from their kind's mean, half of what gives the whitening; the scatter of the
    known classes is the other. ``component_XY``: of the spectral features that are a part of all of these.
    ``shift_MF``: by how much features move where something changes that must not tell classes apart (the sampling rate
    that the encoder is told): an enrolled class has been heard at one rate, at which others will be heard too.
    """
    from .heads import shrunk_covariance

    fitted_NF, fitted_class_N = feature_NF[:-kept].double(), class_N[:-kept]
    names = fitted_class_N.unique().tolist()
    covariance_FF = shrunk_covariance(inside(fitted_NF, fitted_class_N))
    if inside_KF is not None:
        covariance_FF = (covariance_FF + shrunk_covariance(inside_KF.double())) / 2
    if shift_MF is not None:
        covariance_FF = covariance_FF + SHIFT * shift_MF.double().T @ shift_MF.double() / len(shift_MF)
    values_F, vectors_FF = torch.linalg.eigh(covariance_FF)
    whitening_FF = vectors_FF * values_F.clamp_min(values_F[-1] * 1e-6).rsqrt()
    mean_F = fitted_NF.mean(0)
    whitened_NF = (fitted_NF - mean_F) @ whitening_FF
    generator = torch.Generator().manual_seed(seed)
    centres = [means_of(whitened_NF[fitted_class_N == k], per_class, generator) for k in names]
    components = 0 if component_XY is None else component_XY.shape[1]
    head = PrototypeHead(width, 0, sum(map(len, centres)), 0, kept, 0, components)
    if component_XY is not None:
        head.component_XY.copy_(component_XY)
    head.mean_F.copy_(mean_F)
    head.whitening_FF.copy_(whitening_FF)
    head.known_OF.copy_(torch.cat(centres))
    head.known_class_O.copy_(torch.cat([torch.full((len(own),), k) for k, own in zip(names, centres)]))
    head.reference_NF.copy_((feature_NF[-kept:].double() - mean_F) @ whitening_FF)
    head.reference_class_N.copy_(class_N[-kept:])
    return head


def inside(feature_NF: Tensor, class_N: Tensor) -> Tensor:
    """Features (N, F) less the mean of their class."""
    names, place_N = class_N.unique(return_inverse=True)
    total_CF = feature_NF.new_zeros(len(names), feature_NF.shape[1]).index_add_(0, place_N, feature_NF)
    return feature_NF - (total_CF / torch.bincount(place_N).unsqueeze(-1))[place_N]


def means_of(x_NF: Tensor, count: int, generator: torch.Generator, rounds: int = 12) -> Tensor:
    """At most ``count`` means of windows by Lloyd's rule, from windows drawn to begin with."""
    centre_OF = x_NF[torch.randperm(len(x_NF), generator=generator)[:count]].clone()
    for _ in range(rounds):
        owner_N = torch.cdist(x_NF, centre_OF).argmin(-1)
        centre_OF = torch.stack([x_NF[owner_N == k].mean(0) if (owner_N == k).any() else centre_OF[k]
                                 for k in range(len(centre_OF))])
    return centre_OF


@dataclass(frozen=True, eq=False)
class Enrolled:
    """Whitened windows of a class, (n, F), and views of each, (n, v, F)."""

    windows: Tensor
    views: Tensor

    @classmethod
    def of(cls, head: PrototypeHead, k: int) -> Enrolled:
        """What the class of number ``k`` was enrolled from; each of its windows has as many views."""
        mine_W = head.window_class_W == k
        windows, views = head.window_WF[mine_W], head.view_VF[mine_W[head.view_of_V.long()]].float()
        return cls(windows, views.reshape(len(windows), -1, windows.shape[1]))


@torch.no_grad()
def with_windows(head: PrototypeHead, classes: list[Enrolled]) -> PrototypeHead:
    """The same reference with these enrolled classes in place of the ones it had."""
    references, size = head.reference_NF.shape
    count, views = (sum(each.numel() // size for each in kind)
                    for kind in ([own.windows for own in classes], [own.views for own in classes]))
    other = PrototypeHead(head.width, len(classes), len(head.known_OF), count, references, views,
                          head.component_XY.shape[1]).eval()
    for name in ("component_XY", "mean_F", "whitening_FF", "known_OF", "known_class_O", "reference_NF",
                 "reference_class_N"):
        getattr(other, name).copy_(getattr(head, name))
    if classes:
        number_C = torch.tensor([len(own.windows) for own in classes])
        each_W = torch.tensor([own.views.shape[1] for own in classes]).repeat_interleave(number_C)
        other.window_WF.copy_(torch.cat([own.windows for own in classes]))
        other.window_class_W.copy_(torch.arange(len(classes)).repeat_interleave(number_C))
        other.view_VF.copy_(torch.cat([own.views.flatten(0, 1) for own in classes]))
        other.view_of_V.copy_(torch.arange(count).repeat_interleave(each_W))
        other.adapt()
    return other
