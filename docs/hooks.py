"""What the site holds that is written elsewhere: measured results, changes, the tour, colours.

Nothing is copied by hand, so nothing can differ: ``benchmarks/README.md`` and its figures,
``CHANGELOG.md``, and the notebook with the outputs that are stored in it.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pygments.formatters import HtmlFormatter

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
INCLUDED = {
    "results.md": "benchmarks/README.md",
    "formulas.md": "benchmarks/formulas.md",
    "changes.md": "CHANGELOG.md",
}
_LINKS = {f"({Path(source).name}": f"({page}" for page, source in INCLUDED.items()}
_NARROW = "table { display: block; overflow-x: auto }\nimg { max-width: 100% }\n"
_ROLE = re.compile(r":(?:meth|class|func|mod|data|attr):(<code>)~?")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and figures that lie outside of ``pages``."""

    def add(uri: str, content: str | bytes) -> None:
        files.append(File.generated(config, uri, content=content))

    for page, source in INCLUDED.items():
        text = (CHECKOUT / source).read_text(encoding="utf-8")
        for wrong, right in _LINKS.items():
            text = text.replace(wrong, right)
        add(page, text)
    for file in sorted((CHECKOUT / "benchmarks" / "results").glob("*.png")):
        add(f"results/{file.name}", file.read_bytes())
    add("results/proxies.csv", (CHECKOUT / "benchmarks/results/proxies.csv").read_bytes())
    page, pictures = notebook(json.loads((HERE / "tour.ipynb").read_text(encoding="utf-8")))
    add("tour.md", page)
    for name, picture in pictures.items():
        add(name, picture)
    for name, style in (("light", "default"), ("dark", "github-dark")):
        add(f"code-{name}.css", HtmlFormatter(style=style).get_style_defs(".codehilite"))
    add("narrow.css", _NARROW)
    return files


def on_page_content(html: str, **_: object) -> str:
    """Take Sphinx's roles out of docstrings; what they name is shown as code."""
    return _ROLE.sub(r"\1", html)


def notebook(content: dict[str, Any]) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as a page, and the pictures in it by name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in content["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        magic, _, rest = text.partition("\n")
        shell = magic.startswith("%%bash")
        parts.append(f"```sh\n{rest}\n```" if shell else f"```python\n{text}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"tour-{len(pictures)}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![what the code above draws]({name})")
            else:
                shown = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f"```text\n{_ANSI.sub('', shown).rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures
