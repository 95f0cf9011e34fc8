"""Ways to judge an untrained architecture: the table of proxies. Importing it loads no torch."""

from nas.proxies.az_nas import AZ_EXPRESSIVITY, AZ_PROGRESSIVITY, AZ_TRAINABILITY
from nas.proxies.base import (
    Conditions,
    Proxy,
    ProxyError,
    ProxyOptionError,
    ProxySpec,
    score_batch,
    table_of,
)
from nas.proxies.counts import FLOPS, PARAMS
from nas.proxies.decorrelation import DECORRELATION
from nas.proxies.dextr import DEXTR
from nas.proxies.ensemble import ENSEMBLE, ZERO_SHOT
from nas.proxies.epe_nas import EPE_NAS
from nas.proxies.fisher import FISHER
from nas.proxies.formula import FORMULA
from nas.proxies.grad_norm import GRAD_NORM
from nas.proxies.gradsign import GRADSIGN
from nas.proxies.grasp import GRASP
from nas.proxies.jacov import JACOV
from nas.proxies.l2_norm import L2_NORM
from nas.proxies.linear_regions import LINEAR_REGIONS
from nas.proxies.meco import MECO, MECO_OPT
from nas.proxies.norm_growth import NORM_GROWTH
from nas.proxies.ntk import NTK
from nas.proxies.nwot import NWOT, NWOT_BY_LAYER
from nas.proxies.plain import PLAIN
from nas.proxies.predicted import PREDICTED
from nas.proxies.sed import ENTROPY_FLOW, SED
from nas.proxies.snip import SNIP
from nas.proxies.swap import SWAP, SWAP_REG
from nas.proxies.synflow import SYNFLOW
from nas.proxies.vkdnw import VKDNW
from nas.proxies.zen import ZEN
from nas.proxies.zico import ZICO

PROXIES: dict[str, Proxy] = table_of(
    (
        *(
            ZERO_SHOT,
            ENSEMBLE,
            PREDICTED,
            FORMULA,
            MECO,
            MECO_OPT,
            SED,
            ENTROPY_FLOW,
            DECORRELATION,
            NORM_GROWTH,
            PARAMS,
            FLOPS,
        ),
        *(EPE_NAS, FISHER, GRAD_NORM, GRASP, JACOV, L2_NORM, NWOT, PLAIN, SNIP, SYNFLOW, ZEN),
        *(NWOT_BY_LAYER, SWAP, SWAP_REG, ZICO, GRADSIGN, NTK, LINEAR_REGIONS),
        *(AZ_EXPRESSIVITY, AZ_PROGRESSIVITY, AZ_TRAINABILITY, DEXTR, VKDNW),
    )
)

__all__ = [
    "PROXIES",
    "Conditions",
    "Proxy",
    "ProxyError",
    "ProxyOptionError",
    "ProxySpec",
    "score_batch",
]
