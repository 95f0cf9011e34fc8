"""Fail unless the wheel and the source distribution hold what they should, and nothing else.

The wheel: the packages, every recipe, predictor and formula. The source distribution: every file of
the checkout that is not of a service such as this folder.
"""

import sys
import tarfile
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
# Written by the build.
MADE = {"PKG-INFO", "setup.cfg"}


def expected_of_wheel() -> set[str]:
    """Return what the wheel should hold, its own metadata aside."""
    sources = {
        path.relative_to(CHECKOUT).as_posix()
        for package in ("nas", "searchers", "spaces")
        for path in (CHECKOUT / package).rglob("*")
        if path.suffix in (".py", ".typed", ".html", ".j2", ".npz", ".yaml")
    }
    folder = CHECKOUT / "recipes"
    recipes = {f"nas/recipes/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*")}
    return sources | {name for name in recipes if name.endswith((".yaml", ".json"))}


def of_wheel(path: Path) -> set[str]:
    """Return what the wheel holds, its own metadata aside."""
    with zipfile.ZipFile(path) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def of_source(path: Path) -> set[str]:
    """Return the files of the source distribution, without what the build writes into it."""
    with tarfile.open(path) as archive:
        names = {
            name.partition("/")[2]
            for name in archive.getnames()
            if not archive.getmember(name).isdir()
        }
    return {name for name in names - MADE if ".egg-info/" not in name}


def compare(what: str, inside: set[str], expected: set[str]) -> list[str]:
    """Return what is wrong with it, as at most one line."""
    if inside == expected:
        return []
    missing, extra = sorted(expected - inside), sorted(inside - expected)
    return [f"{what}: missing {missing}, unexpected {extra}"]


def main(folder: str, listed: str) -> None:
    """Compare both with the checkout.

    Args:
        folder: Where one of each lies.
        listed: A file that lists what git tracks, one path a line.
    """
    tracked = {name for name in Path(listed).read_text().splitlines() if not name.startswith(".")}
    (wheel,), (source,) = Path(folder).glob("*.whl"), Path(folder).glob("*.tar.gz")
    faults = compare("wheel", of_wheel(wheel), expected_of_wheel())
    faults += compare("source distribution", of_source(source), tracked - MADE)
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main(*sys.argv[1:])
