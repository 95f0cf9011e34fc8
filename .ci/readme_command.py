"""Print the n-th command of the README: CI runs what a reader would copy, not a copy of it.

A command is a line of a ``sh`` block between the marks ``<!-- commands -->`` and
``<!-- /commands -->``.
"""

import re
import sys
from pathlib import Path


def commands(readme: str) -> list[str]:
    """Return the marked commands, in order."""
    (section,) = re.findall(r"<!-- commands -->(.*?)<!-- /commands -->", readme, re.DOTALL)
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


if __name__ == "__main__":
    sys.stdout.write(commands(Path(sys.argv[1]).read_text())[int(sys.argv[2]) - 1] + "\n")
