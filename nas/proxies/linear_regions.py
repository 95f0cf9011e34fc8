"""Linear regions: into how many pieces the ReLUs cut the space of images (half of TE-NAS).

    score = number of distinct patterns of ReLU signs among S random images

Chen, Gong, Wang (TE-NAS), ICLR 2021, https://arxiv.org/abs/2102.11535, section 3.2. Real images
of usual size all get patterns of their own, so that the count is S for every network; as in the
authors' code, tiny images and a thin form of the network (one channel, one cell per stage) are
used. Reads noise of its own, forward only, batch-norms in train mode.

Deviations from the authors' code: images have three channels, as the network's stem wants, and are
standard normal noise. A space without a thin form fails. A network of the user's is taken as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.networks.events import Event
from nas.proxies.base import Conditions, Proxy

if TYPE_CHECKING:
    from torch import Tensor

    from nas.networks.images import Images
    from nas.proxies.routes import Networks


@dataclass(frozen=True)
class LinearRegionsOptions:
    """Settings of the count.

    Attributes:
        samples: Number of images, S.
        size: Their height and width in pixels.
    """

    samples: int = 1000
    size: int = 3


def _tiny(images: Images, conditions: Conditions, options: LinearRegionsOptions) -> Tensor:
    import torch

    from nas.seeds import torch_generator

    channels = images.noise(1).shape[1]
    rng = torch_generator(conditions.seed, "linear_regions")
    return torch.randn((options.samples, channels, options.size, options.size), generator=rng)


class _LinearRegions:
    """Keeps a 64-bit hash of every image's pattern so far."""

    roles = frozenset({"relu"})

    def __init__(
        self, networks: Networks, conditions: Conditions, options: LinearRegionsOptions
    ) -> None:
        import torch

        shape = (networks.rows, options.samples)
        self.totals = torch.zeros(shape, dtype=torch.int64, device=conditions.device)
        self._odd = torch.zeros(networks.rows, dtype=torch.bool, device=conditions.device)

    def wants(self, channels: int, positions: int) -> bool:
        return True

    def hear(self, event: Event) -> None:
        from nas.proxies.swap import mixed, packed, without_sign

        self._odd[event.archs] |= without_sign(event.features)
        for words in packed(event.features.flatten(2).mT):  # (K, S) each
            self.totals[event.archs] = mixed(self.totals[event.archs] + words)

    def scores(self) -> Tensor:
        import torch

        counts = [len(torch.unique(row)) for row in self.totals]
        found = torch.tensor(counts, dtype=torch.float64, device=self._odd.device)
        return found.masked_fill(self._odd, torch.nan)


LINEAR_REGIONS = Proxy(
    name="linear_regions",
    summary="Number of linear regions that random images fall into (half of TE-NAS)",
    paper="https://arxiv.org/abs/2102.11535",
    reads=frozenset({"noise"}),
    options=LinearRegionsOptions,
    listener=_LinearRegions,
    sees="own",
    own=_tiny,
    thin=True,
)
