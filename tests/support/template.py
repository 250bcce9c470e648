"""Read ``template.yaml`` and ``statemachine.asl.yaml`` as data."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from cfnlint.decode import decode_str
from samtranslator.translator.transform import transform

ROOT = Path(__file__).parents[2]
TEMPLATE_FILE = ROOT / "template.yaml"
ARTIFACTS = ("CodeUri", "ContentUri", "DefinitionUri")


class _NoManagedPolicies:
    """No ARNs to look up: the template uses no managed policy."""

    def load(self) -> dict[str, str]:
        return {}


@cache
def template() -> dict[str, Any]:
    """The template as written, with intrinsic functions in their long form."""
    decoded, problems = decode_str(TEMPLATE_FILE.read_text(encoding="utf-8"))
    assert not problems
    return _plain(decoded)


@cache
def transformed() -> dict[str, Any]:
    """The template after SAM's transform: plain resources."""
    fragment = copy.deepcopy(template())
    for resource in fragment["Resources"].values():
        for name in set(resource.get("Properties", {})) & set(ARTIFACTS):
            resource["Properties"][name] = f"s3://bucket/{name}"
    defaults = {name: each["Default"] for name, each in fragment["Parameters"].items()}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_DEFAULT_REGION", "eu-west-1")  # SAM asks boto3 for the partition
        return _plain(transform(fragment, defaults, _NoManagedPolicies()))


def resources(kind: str) -> dict[str, dict[str, Any]]:
    """The properties of every resource of a type by logical name, after SAM's transform."""
    found = transformed()["Resources"].items()
    return {name: each.get("Properties", {}) for name, each in found if each["Type"] == kind}


def state_machine(**substitutions: str) -> dict[str, Any]:
    """The definition of the state machine, with substitutions as the template makes them."""
    text = (ROOT / "statemachine.asl.yaml").read_text(encoding="utf-8")
    definition: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{(\w+)\}", lambda m: substitutions[m[1]], text))
    return definition


def every_mapping(node: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a document, at any depth."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from every_mapping(value)
    elif isinstance(node, list):
        for value in node:
            yield from every_mapping(value)


def _plain(node: Any) -> Any:
    """Convert to plain types, without the parser's line numbers."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    return str(node) if isinstance(node, str) else node
