"""Fail unless the wheel holds the packages, every recipe, predictor and formula, nothing else."""

import sys
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def main(wheel: str) -> None:
    """Compare the wheel's files with the checkout's."""
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {
        path.relative_to(CHECKOUT).as_posix()
        for package in ("nas", "searchers", "spaces")
        for path in (CHECKOUT / package).rglob("*")
        if path.suffix in (".py", ".typed", ".html", ".j2", ".npz", ".yaml")
    }
    folder = CHECKOUT / "recipes"
    recipes = {f"nas/recipes/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*")}
    expected = sources | {name for name in recipes if name.endswith((".yaml", ".json"))}
    if inside != expected:
        missing, extra = sorted(expected - inside), sorted(inside - expected)
        sys.exit(f"wheel: missing {missing}, unexpected {extra}")


if __name__ == "__main__":
    main(sys.argv[1])
