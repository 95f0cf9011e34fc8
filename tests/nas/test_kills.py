"""Every long command survives SIGKILL; ``python -m tests.nas.kills`` does it 100 times."""

import signal
from pathlib import Path

import pytest

from tests.nas.kills import SCENES, check


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("name", SCENES)
def test_a_killed_command_ends_as_an_undisturbed_one(name: str, tmp_path: Path) -> None:
    check(name, tmp_path, kills=2, seed=1, in_a_row=2)
