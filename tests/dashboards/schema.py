"""Checks dashboards against Grafana's own types, as its Foundation SDK has them:

    pip install grafana-foundation-sdk==0.0.21
    python3 tests/dashboards/schema.py dashboards/*.json

The SDK reads a dashboard without looking at types, and leaves out what it does not know. So each value is compared with
the annotation of the attribute that holds it, and what comes out with what went in.
"""

import enum
import json
import sys
import types
import typing

from grafana_foundation_sdk.cog import encoder, plugins
from grafana_foundation_sdk.models import dashboard, units

# What the SDK has no types for: options of Prometheus' own in an annotation.
UNTYPED = {"expr", "step", "titleFormat", "textFormat", "tagKeys", "useValueForTime"}


def fits(value, hint):
    """Whether a value is what its annotation says."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in (typing.Any, object):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(item, arguments[1]) for item in value.values())
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return value in [member.value for member in hint]
    # The SDK keeps transformations as it finds them.
    if hint is dashboard.DataTransformerConfig and isinstance(value, dict):
        return set(value) <= {"id", "options", "disabled", "filter", "topic"} and isinstance(value.get("id"), str)
    # And links of panels, which Grafana itself writes short.
    if hint is dashboard.DashboardLink and isinstance(value, dict):
        return set(value) == {"title", "url", "targetBlank"} and all(isinstance(value[key], str) for key in ("title", "url"))
    return isinstance(value, hint) if isinstance(hint, type) else True


def wrong_types(value, place):
    """Attributes that are not what their annotations say."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from wrong_types(item, f"{place}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from wrong_types(item, f"{place}.{key}")
    elif hasattr(value, "to_json") and not isinstance(value, enum.Enum):
        for name, hint in typing.get_type_hints(type(value)).items():
            item = getattr(value, name, None)
            if not fits(item, hint):
                yield f"{place}.{name}: {item!r} is not {hint}"
            yield from wrong_types(item, f"{place}.{name}")


def lost(before, after, place):
    """Keys and values that are not there any more."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, item in before.items():
            if key in after:
                yield from lost(item, after[key], f"{place}.{key}")
            elif item is not None and not (place.startswith(".annotations.list[") and key in UNTYPED):
                yield f"{place}.{key}: not in Grafana's schema"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after)):
            yield from lost(one, other, f"{place}[{index}]")
    elif before != after:
        yield f"{place}: {before!r} became {after!r}"


def unknown_units(value, place):
    """Units that Grafana would print as they are."""
    known = {item for name, item in vars(units).items() if isinstance(item, str) and not name.startswith("_")}
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "unit" and item not in known and not item.startswith(("suffix:", "prefix:")):
                yield f"{place}.{key}: there is no unit {item!r}"
            yield from unknown_units(item, f"{place}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown_units(item, f"{place}[{index}]")


def problems(path):
    with open(path, encoding="utf-8") as file:
        before = json.load(file)
    model = dashboard.Dashboard.from_json(before)
    after = json.loads(encoder.JSONEncoder(sort_keys=True).encode(model))
    yield from wrong_types(model, "")
    yield from lost(before, after, "")
    yield from unknown_units(before, "")


plugins.register_default_plugins()
found = [f"{path}: {problem}" for path in sys.argv[1:] for problem in problems(path)]
print("\n".join(found))
sys.exit(bool(found))
