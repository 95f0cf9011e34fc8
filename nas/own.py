"""Objects of the user's own, named on the command line as ``package.module:callable``."""

from __future__ import annotations

import inspect
from typing import Any

from nas.plugins import find_attribute, import_module
from nas.seeds import seeded_globals
from spaces.errors import NasError


def own_object(text: str, option: str, seed: int) -> Any:  # noqa: ANN401 - whatever the user has there
    """Return what ``package.module:name`` is or, if it is callable, what it returns.

    Modules are looked up from the current folder first, as ``python -m`` does. A network, which is
    callable too, is taken as it is. What the user's code draws from global generators follows from
    the seed, and what it raises while it runs is raised.

    Args:
        text: What the user wrote.
        option: Where, for the message.
        seed: Of what is drawn.

    Raises:
        NasError: It cannot be imported, or not be called without arguments.
    """
    module, colon, path = text.partition(":")
    if not colon or not module or not path:
        raise NasError(f"{option}: expected package.module:callable, got {text!r}")
    with seeded_globals(seed, "import", option):
        found = find_attribute(import_module(module, option), path, module, option)
    if not callable(found) or (hasattr(found, "state_dict") and not inspect.isclass(found)):
        return found
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise NasError(
            f"{option}: {text!r} is called without arguments, which it does not allow: {error}"
        ) from None
    except ValueError:
        pass  # a callable of C has no signature to check
    with seeded_globals(seed, "call", option):  # whether it was imported just now or before
        return found()
