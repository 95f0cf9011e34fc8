"""Fixtures that every test may use: where the real data lies, and the switch for slow tests."""

import os
from pathlib import Path

# Before torch is loaded: on a busy machine, tiny operations split over threads wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# A busy machine, and what is computed once at first use, make a test slow, not wrong.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# In continuous integration the commands show no progress; tests look at what a person sees, there
# too. One that asks for the other sets the variable itself.
os.environ.pop("CI", None)

CHECKOUT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow; run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real benchmark tables and images, where there is one."""
    folder = Path(os.environ.get("NAS_SHARED_DATA", CHECKOUT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set NAS_SHARED_DATA to the folder that holds it")
    return folder
