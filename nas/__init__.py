"""A zero-shot architecture search engine: ``Searcher(...).run()`` returns a ``Result``.

Nothing is imported before it is used: ``import nas`` is quick and loads no torch.
"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.callbacks import Callback as Callback
    from nas.callbacks import RunInfo as RunInfo
    from nas.chunks import OwnProxy as OwnProxy
    from nas.engine import Searcher as Searcher
    from nas.engine import search as search
    from nas.export.models import create_model as create_model
    from nas.export.models import load_model as load_model
    from nas.features import GraphFeatures as GraphFeatures
    from nas.features import graph_features as graph_features
    from nas.jobs import Training as Training
    from nas.jobs import train as train
    from nas.oracle import Cache as Cache
    from nas.oracle import DirectionWarning as DirectionWarning
    from nas.oracle import Failure as Failure
    from nas.oracle import MemoryCache as MemoryCache
    from nas.oracle import Oracle as Oracle
    from nas.oracle import Score as Score
    from nas.oracle import Verdict as Verdict
    from nas.predictor.predictor import Predicted as Predicted
    from nas.predictor.predictor import Predictor as Predictor
    from nas.proxies import PROXIES as PROXIES
    from nas.proxies.base import Conditions as Conditions
    from nas.proxies.base import ProxyError as ProxyError
    from nas.proxies.base import ProxySpec as ProxySpec
    from nas.result import Result as Result
    from nas.result import ResultArch as ResultArch
    from nas.result import Trial as Trial
    from nas.scoring import score as score
    from nas.store import Store as Store
    from searchers import STRATEGIES as STRATEGIES
    from spaces import SPACES as SPACES
    from spaces.errors import NasError as NasError

    __version__: str

_HOMES = {
    "Callback": "nas.callbacks",
    "RunInfo": "nas.callbacks",
    "Searcher": "nas.engine",
    "search": "nas.engine",
    "create_model": "nas.export.models",
    "load_model": "nas.export.models",
    "GraphFeatures": "nas.features",
    "graph_features": "nas.features",
    "Training": "nas.jobs",
    "train": "nas.jobs",
    "Cache": "nas.oracle",
    "DirectionWarning": "nas.oracle",
    "Failure": "nas.oracle",
    "MemoryCache": "nas.oracle",
    "Oracle": "nas.oracle",
    "OwnProxy": "nas.chunks",
    "Score": "nas.oracle",
    "Verdict": "nas.oracle",
    "Predicted": "nas.predictor.predictor",
    "Predictor": "nas.predictor.predictor",
    "PROXIES": "nas.proxies",
    "Conditions": "nas.proxies.base",
    "ProxyError": "nas.proxies.base",
    "ProxySpec": "nas.proxies.base",
    "Result": "nas.result",
    "ResultArch": "nas.result",
    "Trial": "nas.result",
    "score": "nas.scoring",
    "Store": "nas.store",
    "STRATEGIES": "searchers",
    "SPACES": "spaces",
    "NasError": "spaces.errors",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a public name when it is first asked for (PEP 562)."""
    if name == "__version__":
        value: object = version("nas-search")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
