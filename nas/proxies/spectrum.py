"""Correlation between the channels of a feature map, and its smallest eigenvalue.

Letters: K maps, C channels, H W size.
"""

import torch
from torch import Tensor

#: A channel is constant when what is left after centring is below this share of its norm: what
#: rounding leaves of a constant in float32 is about 1e-7 of it.
CONSTANT = 1e-6


def correlation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Pearson matrices of the channels, and which maps have a constant channel.

    A constant channel correlates with nothing, not even with itself: its row, column and diagonal
    are 0 (what ``torch.corrcoef`` gives after NaN is set to 0).

    Args:
        features: ``(K, C, H, W)``.

    Returns:
        Matrices ``(K, C, C)`` and flags ``(K,)``.
    """
    flat = features.flatten(2)
    centred = flat - flat.mean(dim=2, keepdim=True)
    gram = centred @ centred.mT
    power = gram.diagonal(dim1=1, dim2=2)
    before = torch.linalg.vector_norm(flat, dim=2)
    constant = power <= (CONSTANT * before).square()
    scale = torch.where(constant, 0.0, power.clamp_min(torch.finfo(gram.dtype).tiny).rsqrt())
    return gram * scale[:, :, None] * scale[:, None, :], constant.any(dim=1)


def correlation_of_rows(rows: Tensor) -> Tensor:
    """Return the Pearson matrices of M rows, ``(K, M, D)`` to ``(K, M, M)`` in float64.

    A row that is constant has no correlation: its entries are NaN.
    """
    centred = rows.double() - rows.double().mean(dim=2, keepdim=True)
    return _unit(centred) @ _unit(centred).mT


def _unit(rows: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=2, keepdim=True)
    return rows / lengths


def smallest_correlation_eigenvalue(features: Tensor) -> Tensor:
    """Return the smallest eigenvalue of the channels' Pearson matrix, ``(K,)`` in float64.

    Exactly 0 where it is known to be: a constant channel gives a zero row, and ``C`` channels of
    ``H*W`` centred positions have rank ``H*W - 1`` at most.

    Args:
        features: ``(K, C, H, W)``.
    """
    count, channels = features.shape[:2]
    positions = features[0, 0].numel()
    out = torch.zeros(count, dtype=torch.float64, device=features.device)
    if channels > positions - 1:
        return out
    matrix, singular = correlation(features)
    regular = ~singular
    # float64: the matrices are tiny, and the values summed over a network differ in the 4th digit
    values = torch.linalg.eigvalsh(matrix[regular].double())[:, 0]
    out[regular] = values.clamp_min(0.0)  # a correlation matrix has no negative eigenvalue
    return out
