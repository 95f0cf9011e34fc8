"""The JSON schema that editors check and complete recipes of searches with."""

from __future__ import annotations

from typing import Any

from nas.proxies import PROXIES
from nas.recipe.fields import options_model
from nas.recipe.search import Recipe
from nas.workers import EXECUTORS, RAY_ADDRESS
from searchers import STRATEGIES
from spaces import SPACES

SCHEMA_NAME = "recipe.schema.json"


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema that editors check and complete recipes with."""
    schema = Recipe.model_json_schema()
    definitions, properties = schema["$defs"], schema["properties"]
    del definitions["Choice"]
    own = {
        "type": "string",
        "pattern": r"(\.ya?ml$|:)",
        "description": "FILE.yaml, or module:SPACE",
    }
    _rename(properties, "space", {"anyOf": [{"enum": sorted(SPACES)}, own]})
    strategies = _selector_schema({name: info.options for name, info in STRATEGIES.items()})
    proxies = _selector_schema({name: proxy.options for name, proxy in PROXIES.items()})
    names = "|".join(sorted(PROXIES))
    proxies["anyOf"][0] = {"type": "string", "pattern": f"^({names})(:.+)?$"}
    proxies["anyOf"].append(
        {
            "type": "object",
            "properties": {"formula": {"type": "string", "description": "A formula's file."}},
            "required": ["formula"],
            "additionalProperties": False,
        }
    )
    executors = _selector_schema({name: info.options for name, info in EXECUTORS.items()})
    executors["anyOf"].append({"type": "string", "pattern": f"^{RAY_ADDRESS}"})
    definitions |= {"Strategy": strategies, "Proxy": proxies, "Executor": executors}
    _rename(properties, "strategy", {"$ref": "#/$defs/Strategy"})
    schema["required"].remove("proxy")
    schema["oneOf"] = [{"required": ["proxy"]}, {"required": ["oracle"]}]
    _rename(properties, "executor", {"$ref": "#/$defs/Executor"})
    _rename(properties, "proxy", {"$ref": "#/$defs/Proxy"})
    _rename(properties, "tie_break", {"anyOf": [{"$ref": "#/$defs/Proxy"}, {"type": "null"}]})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _rename(properties: dict[str, Any], key: str, form: dict[str, Any]) -> None:
    """Replace the form of one property, keeping what describes it."""
    kept = {k: v for k, v in properties[key].items() if k in ("description", "title", "default")}
    properties[key] = {**form, **kept}


def _selector_schema(options: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a name, or of a mapping with a name and the options it allows."""
    forms: list[dict[str, Any]] = [{"type": "string", "enum": sorted(options)}]
    for name in sorted(options):
        form = options_model(options[name]).model_json_schema()
        form["properties"] = {"name": {"const": name}, **form.get("properties", {})}
        form["required"] = ["name", *form.get("required", [])]
        forms.append(form)
    return {"anyOf": forms}
