"""The three floors of the house: who may import whom. Imports inside functions count.

``spaces`` <- ``searchers`` <- ``nas``, and inside ``nas`` the lines of :data:`NAS_ORDER`. A file
may import from its own line downwards, never up.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
FLOORS = ("spaces", "searchers", "nas")

# From the ground up. What several lines need and what needs nothing itself stands at the bottom;
# a new file of `nas` has to be given its place here.
NAS_ORDER = (
    {"seeds", "plain_yaml", "wording", "environment", "statistics", "pareto", "plugins"}
    | {"reading", "writing"},
    {"own", "builder", "space_file", "workers"},
    {"drawing"},
    {"networks"},
    {"proxies", "benchmark", "training", "features", "predictor", "design", "hardware"}
    | {"callbacks"},
    {"quantities", "limits", "chunks"},
    {"oracle", "explanation", "scoring", "objectives"},
    {"result", "engine", "store"},
    {"recipe"},
    {"runs"},
    {"pages"},
    {"export", "rank", "fitting", "designing", "jobs", "verifying", "doctor", "optuna_study"},
    {"cli", "__init__", "__main__"},
)

# A strategy is arithmetic on tuples: no clock, no files, no processes, no network.
SEARCHERS_MAY_USE = {"spaces", "searchers", "numpy", "optuna"} | {
    *("__future__", "abc", "bisect", "collections", "dataclasses", "enum", "functools", "heapq"),
    *("itertools", "math", "operator", "types", "typing", "warnings"),
}

# Only one file may seed anything, and nobody may seed the generators that all code shares.
SEEDS_ALLOWED_IN = {"nas/seeds.py"}
GLOBAL_SEEDS = {
    ("np", "random", "seed"),
    ("numpy", "random", "seed"),
    ("random", "seed"),
    ("torch", "manual_seed"),
    ("torch", "random", "manual_seed"),
    ("torch", "cuda", "manual_seed"),
    ("torch", "cuda", "manual_seed_all"),
}


@dataclass(frozen=True)
class Import:
    """One imported module, as a dotted name, and how it is imported."""

    module: str
    late: bool  # inside a function
    runs: bool  # false under `if TYPE_CHECKING:`


def module_of(path: str) -> str:
    """Return the dotted name of a file: ``nas/proxies/base.py`` is ``nas.proxies.base``."""
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def imported_names(node: ast.Import | ast.ImportFrom, path: str) -> list[str]:
    """Return what one statement imports; ``from a import b`` gives ``a.b``, dots are resolved."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = [node.module] if node.module else []
    if node.level:  # one dot is the folder of the file
        base = [*Path(path).parts[: -node.level], *base]
    return [".".join([*base, alias.name]) for alias in node.names]


def imports(source: str, path: str) -> list[Import]:
    """Return every import of a file, wherever it stands."""

    def walk(node: ast.AST, late: bool, runs: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield from (Import(name, late, runs) for name in imported_names(child, path))
                continue
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            for_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            yield from walk(child, late or function, runs and not for_types)

    return list(walk(ast.parse(source), late=False, runs=True))


def nas_line(module: str) -> int | None:
    """Return the line of :data:`NAS_ORDER` for a dotted name under ``nas``; None if it has none."""
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 else "__init__"
    return next((line for line, names in enumerate(NAS_ORDER) if name in names), None)


def faults(source: str, path: str) -> list[str]:
    """Return what is wrong with the imports of one file, a sentence per fault."""
    floor = path.split("/")[0]
    check = {"spaces": space_fault, "searchers": searcher_fault, "nas": nas_fault}[floor]
    found = []
    for imported in imports(source, path):
        top = imported.module.split(".")[0]
        fault = None
        if top in FLOORS and FLOORS.index(top) > FLOORS.index(floor):
            fault = "an upper floor"
        fault = fault or check(imported, path)
        if fault:
            found.append(f"{path} imports {imported.module}: {fault}")
    return found


def is_net(module: str) -> bool:
    """Tell whether a dotted name is a file of networks, or something in one."""
    return any(part.endswith("_net") for part in module.split(".")[:3])


def space_fault(imported: Import, path: str) -> str | None:
    """``*_net.py`` holds the networks, and only it knows torch; others reach it in functions."""
    if path.endswith("_net.py") or not imported.runs:
        return None
    if imported.module.split(".")[0] in ("torch", "torchvision"):
        return "only *_net.py may import torch"
    if is_net(imported.module) and not imported.late:
        return "a *_net module may only be imported inside a function"
    return None


def searcher_fault(imported: Import, path: str) -> str | None:
    """Strategies know spaces, numpy and optuna."""
    if imported.module.split(".")[0] not in SEARCHERS_MAY_USE:
        return "not among the modules that a strategy may use"
    if is_net(imported.module):
        return "strategies know no networks"
    return None


def nas_fault(imported: Import, path: str) -> str | None:
    """Inside ``nas`` nothing imports from a higher line."""
    if imported.module.split(".")[0] != "nas":
        return None
    own, other = nas_line(module_of(path)), nas_line(imported.module)
    if own is None or other is None:
        # `from nas import Searcher` names no file: it goes through nas/__init__.py.
        other = len(NAS_ORDER) - 1
    if own is not None and other > own:
        return "a higher line of NAS_ORDER"
    return None


def sources(*floors: str) -> list[str]:
    """Return the Python files of some floors, relative to the checkout."""
    return sorted(
        path.relative_to(CHECKOUT).as_posix()
        for floor in floors
        for path in (CHECKOUT / floor).rglob("*.py")
    )


@pytest.mark.parametrize("path", sources(*FLOORS))
def test_nothing_is_imported_from_above(path: str) -> None:
    assert faults((CHECKOUT / path).read_text(encoding="utf-8"), path) == []


def test_there_is_something_to_check() -> None:
    assert {"spaces/base.py", "searchers/base.py"} <= set(sources(*FLOORS))


def test_every_file_of_nas_has_its_place() -> None:
    names = {Path(path).parts[1].removesuffix(".py") for path in sources("nas")}
    homeless = sorted(name for name in names if nas_line(f"nas.{name}") is None)
    assert homeless == [], f"give these a line in NAS_ORDER of {Path(__file__).name}"


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("spaces/base.py", "import searchers"),
        ("spaces/base.py", "from nas.proxies import PROXIES"),
        ("spaces/base.py", "import torch"),
        ("spaces/base.py", "def f():\n    from torch import nn"),
        ("spaces/cell.py", "from spaces.cell_net import CellNetwork"),
        ("spaces/cell.py", "from .cell_net import CellNetwork"),
        ("spaces/cell.py", "from spaces import cell_net"),
        ("spaces/cell.py", "class A:\n    from spaces import cell_net"),
        ("spaces/cell_net.py", "def f():\n    import nas"),
        ("searchers/tpe.py", "import torch"),
        ("searchers/tpe.py", "def f():\n    if True:\n        import torch.nn as nn"),
        ("searchers/tpe.py", "import time"),
        ("searchers/tpe.py", "from pathlib import Path"),
        ("searchers/tpe.py", "import numpy, sqlite3"),
        ("searchers/tpe.py", "from nas import Searcher"),
        ("searchers/tpe.py", "if TYPE_CHECKING:\n    from nas import Searcher"),
        ("searchers/tpe.py", "def f():\n    from spaces.cell_net import CellNetwork"),
        ("nas/proxies/meco.py", "from nas.oracle import Oracle"),
        ("nas/proxies/meco.py", "from ..oracle import Oracle"),
        ("nas/proxies/__init__.py", "from nas import oracle"),
        ("nas/oracle.py", "def f():\n    from nas.store import Store"),
        ("nas/engine.py", "from nas import Searcher"),
        ("nas/engine.py", "import nas"),
        ("nas/engine.py", "import nas.recipe"),
        ("nas/recipe/kinds.py", "async def f():\n    import nas.cli"),
        ("nas/seeds.py", "from nas.proxies.base import Conditions"),
    ],
)
def test_the_check_can_fail(path: str, source: str) -> None:
    assert len(faults(source, path)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("spaces/base.py", "if TYPE_CHECKING:\n    from torch import nn"),
        ("spaces/cell.py", "def f():\n    from spaces.cell_net import CellNetwork"),
        ("spaces/cell_net.py", "import torch\nfrom spaces.other_net import Block"),
        ("searchers/tpe.py", "import numpy as np\nfrom spaces import Arch\nimport optuna"),
        ("searchers/tpe.py", "from .base import Strategy"),
        ("nas/engine.py", "from nas.store import Store\nfrom nas import seeds\nimport searchers"),
        ("nas/proxies/meco.py", "from nas.proxies.base import Proxy\nfrom ..seeds import named"),
        ("nas/cli.py", "import nas\nfrom nas import Searcher\nfrom nas.rank import rank_proxies"),
        ("nas/__init__.py", "from nas.engine import Searcher"),
    ],
)
def test_the_check_can_pass(path: str, source: str) -> None:
    assert faults(source, path) == []


def global_seeds(source: str) -> list[str]:
    """Return the calls in a file that seed a generator which all code shares."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if tuple(name.split(".")) in GLOBAL_SEEDS:
                found.append(name)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (*(node.module or "").split("."), alias.name) in GLOBAL_SEEDS:
                    found.append(f"{node.module}.{alias.name}")
    return found


@pytest.mark.parametrize("path", sorted({*sources(*FLOORS)} - SEEDS_ALLOWED_IN))
def test_nobody_seeds_the_generators_that_all_code_shares(path: str) -> None:
    assert global_seeds((CHECKOUT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nnp.random.seed(0)",
        "import random\nrandom.seed(0)",
        "import torch\ndef f():\n    torch.manual_seed(1)",
        "from torch import manual_seed\nmanual_seed(1)",
        "from numpy.random import seed",
        "torch.cuda.manual_seed_all(0)",
    ],
)
def test_the_check_of_seeds_can_fail(source: str) -> None:
    assert len(global_seeds(source)) == 1


def test_private_generators_are_no_fault() -> None:
    assert global_seeds("torch.Generator().manual_seed(0)\nrandom.Random(0)\nrng.seed(3)") == []
