"""``best.py``: a file in a run folder that makes the best network again."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

from nas.wording import costs_text

SPACE = "space.yaml"  # beside best.py, where the space is a file of the user's own

_BUILDER = string.Template('''\
"""The best network of "$name": $what, $costs.

    from best import build, load
    network = build()        # freshly initialised
    network = load()         # with the weights in best.safetensors, once it is trained
                             # (nas train RUN --recipe ...)

Its code, which needs torch only: nas export RUN --format python
"""

from pathlib import Path

from torch import nn

from nas import create_model

HERE = Path(__file__).parent
MODEL = $model


def build(num_classes: int = $num_classes, in_chans: int = 3) -> nn.Module:
    """Return the full-size network, freshly initialised."""
    return create_model(MODEL, num_classes=num_classes, in_chans=in_chans)


def load(path: Path = HERE / "best.safetensors", num_classes: int = $num_classes) -> nn.Module:
    """Return the network with trained weights, in evaluation mode."""
    return create_model(MODEL, num_classes=num_classes, pretrained=path).eval()


if __name__ == "__main__":
    print(build())
''')


def is_file(space: str) -> bool:
    """Tell whether a recipe's space is a file of the user's own."""
    return space.endswith((".yaml", ".yml"))


def builder(name: str, what: str, space: str, row: Mapping[str, Any], num_classes: int) -> str:
    """Return the text of ``best.py``.

    Args:
        name: Of the run.
        what: Of the network, such as its score.
        space: Where it lives: a name, or a file of which a copy stands beside.
        row: Its ``arch`` (official string), ``params`` and ``flops``.
        num_classes: Width of the classifier.
    """
    arch = row["arch"]
    return _BUILDER.substitute(
        name=name,
        what=what.replace("\\", "/").replace('"', "'"),  # a file's name must not end the docstring
        costs=costs_text(row["params"], row["flops"]),
        model=f'str(HERE / "{SPACE}") + {f"/{arch}"!r}'
        if is_file(space)
        else repr(f"{space}/{arch}"),
        num_classes=num_classes,
    )
