"""Reads and writes YAML 1.2 (core schema); PyYAML itself implements YAML 1.1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bench.common.errors import UserError
from bench.common.files import read_regular

SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),  # from 1.1, but widely used
)
"""How plain scalars are resolved: tag, pattern, first characters. The first match counts."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML declares it so

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse duplicate keys, as YAML requires; PyYAML would take the last value."""
        node = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        names = [key.value for key in keys]
        for place, key in enumerate(keys):
            if key.value in names[:place]:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {key.value}", problem_mark=key.start_mark)
        return node

    def construct_int(self, node: yaml.ScalarNode) -> int:
        """Decimal; in YAML 1.1, 010 is eight and 1:30 is ninety."""
        text = str(self.construct_scalar(node))
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version would read as another type."""


for _tag, _form, _first in SCALARS:
    for _own in (_Loader, _Dumper):
        _own.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_form})\\Z"), _first)


def dumped(content: Mapping[str, Any]) -> str:
    """YAML text from which `read_yaml` gives the same content."""
    return yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False)


def read_yaml(path: Path) -> dict[str, Any]:
    """The content of a ``--config`` file.

    Raises:
        UserError: it cannot be read, or is not a map.
    """
    try:
        content = yaml.load(read_regular(path).decode(), _Loader)
    except OSError as error:
        raise UserError("--config", path, error.strerror or "cannot be read") from None
    except UnicodeDecodeError:
        raise UserError("--config", path, "is not UTF-8 text") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where, problem = getattr(error, "problem_mark", None), getattr(error, "problem", "")
        line = f" in line {where.line + 1}: {problem}" if where else ""
        raise UserError("--config", path, f"is not YAML{line}") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError("--config", path, "must be a map from names to values, e.g. `method: protonet`")
    return content
