"""Atoms: the statistics of layers that a formula may read. The table of them; no torch.

A *role* is a kind of place in a network, and has one number per atom and place: ``rms[relu]`` is
the root mean square of every map behind a non-linearity. Roles are heard or asked in *passes*, and
a formula costs the passes of the roles that it names:

``image``
    Forwards, one image, seeded weights, batch-norms in train mode: ``relu``, ``conv``, ``block``.
``ones``
    Forwards, an image of ones, all weights made positive, batch-norms the identity, in float64:
    ``flow``. What arrives is a sum over all paths of the product of their gains (SynFlow's
    objective, Tanaka et al. 2020, https://arxiv.org/abs/2006.05467).
``backward``
    Backwards from the summed logits, over the ``image`` pass: ``layer``, ``slope``.
``weights``
    Runs nothing: ``weight``.

Every atom is total: it is a finite number for any finite maps. Where a share of nothing would be
asked for, the logarithm is that of :data:`TINY`.

Letters: U maps, C channels, H W size, P positions; P = H W.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

Pass = Literal["image", "ones", "backward", "weights"]
PASSES: tuple[Pass, ...] = get_args(Pass)

#: What a logarithm takes in the place of less.
TINY = 1e-12

#: Channels of one correlation matrix, where an atom looks at groups of channels.
GROUP = 8

#: Raised when an atom's number changes, so that statistics and scores that were kept go stale.
REVISION = 1


@dataclass(frozen=True)
class Atom:
    """One statistic of a layer.

    Attributes:
        name: As a formula writes it.
        summary: One line for a person.
        of: From what :mod:`nas.design.measure` knows of U layers of one shape to ``(U,)``.
    """

    name: str
    summary: str
    of: Callable[[Any], Any]


@dataclass(frozen=True)
class Role:
    """A kind of place in a network.

    Attributes:
        name: As a formula writes it, in brackets.
        summary: One line for a person.
        asked: The pass that it belongs to.
        atoms: What is known of every place.
    """

    name: str
    summary: str
    asked: Pass
    atoms: tuple[Atom, ...]

    def atom(self, name: str) -> Atom:
        """Return the atom of a name that it has."""
        return next(atom for atom in self.atoms if atom.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the atoms."""
        return tuple(atom.name for atom in self.atoms)


_ONE = Atom("one", "1; its sum counts the places", lambda x: x.filled(1.0))

_MAPS = (
    _ONE,
    Atom("depth", "share of the network's blocks that lie before, 0 to 1", lambda x: x.filled(0.0)),
    Atom("channels", "C", lambda x: x.filled(x.channels)),
    Atom("positions", "P", lambda x: x.filled(x.positions)),
    Atom("rms", "root mean square", lambda x: x.rms),
    Atom("mean", "mean", lambda x: x.mean),
    Atom("std", "standard deviation over all channels and positions", lambda x: x.std),
    Atom(
        "kurtosis", "fourth moment about the mean over the squared variance", lambda x: x.kurtosis
    ),
    Atom("active", "share of entries above 0", lambda x: x.active),
    Atom("variety", "mean over channels of 4 p (1 - p), p the share above 0", lambda x: x.variety),
    Atom(
        "min_eigenvalue",
        "smallest eigenvalue of the channels' correlation matrix (MeCo)",
        lambda x: x.min_eigenvalue,
    ),
    Atom(
        "min_eigenvalue_8",
        "the same of groups of 8 channels, their mean",
        lambda x: x.group_minimum,
    ),
    Atom(
        "log_volume",
        "log determinant of the correlation matrix of groups of 8 channels, their mean",
        lambda x: x.log_volume,
    ),
    Atom(
        "entropy",
        "spectral entropy of the correlation matrix of groups of 8 channels in nats, their mean",
        lambda x: x.entropy,
    ),
    Atom("correlation", "mean absolute correlation of two channels", lambda x: x.correlation),
    Atom(
        "rank",
        "effective rank of the correlation matrix P as a share of C: (tr P)^2 / |P|^2 / C",
        lambda x: x.rank,
    ),
)

ROLES: dict[str, Role] = {
    role.name: role
    for role in (
        Role("relu", "maps behind a non-linearity, once for each layer that reads them", "image",
             _MAPS),
        Role("conv", "maps that leave a convolution", "image", _MAPS),
        Role(
            "block",
            "maps that leave a building block which keeps the resolution",
            "image",
            (
                *_MAPS,
                Atom("growth", "ln of rms leaving over rms entering", lambda x: x.growth),
            ),
        ),
        Role(
            "flow",
            "building blocks that keep the resolution, all weights positive",
            "ones",
            (
                _ONE,
                Atom("gain", "ln of mean leaving over mean entering", lambda x: x.gain),
            ),
        ),
        Role(
            "layer",
            "convolutions and linear layers, with the gradient of the summed logits",
            "backward",
            (
                _ONE,
                Atom("log_output", "ln rms of what leaves", lambda x: x.log_output),
                Atom("log_gradient", "ln rms of the gradient by what leaves",
                     lambda x: x.log_gradient),
                Atom("log_weight_gradient", "ln rms of the gradient by the weight",
                     lambda x: x.log_weight_gradient),
                Atom("log_saliency", "ln of the mean |output x gradient|",
                     lambda x: x.log_saliency),
                Atom("alignment", "cosine between output and gradient", lambda x: x.alignment),
            ),
        ),
        Role(
            "slope",
            "building blocks that keep shape, with the gradient of the summed logits",
            "backward",
            (
                _ONE,
                Atom("gain", "ln of the gradient's norm entering over leaving", lambda x: x.gain),
            ),
        ),
        Role(
            "weight",
            "weights of convolutions and linear layers",
            "weights",
            (
                _ONE,
                Atom("log_count", "ln of the number of weights", lambda x: x.log_count),
                Atom("log_fan_in", "ln of the inputs of one output", lambda x: x.log_fan_in),
                Atom("log_width", "ln of the channels that leave", lambda x: x.log_width),
                Atom("window", "positions of the kernel", lambda x: x.window),
                Atom("rms", "root mean square", lambda x: x.rms),
            ),
        ),
    )
}  # fmt: skip


def passes_of(roles: set[str] | frozenset[str]) -> frozenset[Pass]:
    """Return the passes that some roles need."""
    return frozenset(ROLES[role].asked for role in roles)
