"""Ways to judge an untrained architecture: the table of proxies. Importing it loads no torch."""

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
from nas.proxies.meco import MECO, MECO_OPT
from nas.proxies.sed import SED

PROXIES: dict[str, Proxy] = table_of((MECO, MECO_OPT, SED, PARAMS, FLOPS))

__all__ = [
    "PROXIES",
    "Conditions",
    "Proxy",
    "ProxyError",
    "ProxyOptionError",
    "ProxySpec",
    "score_batch",
]
