"""What tests read of ``template.yaml`` and ``statemachine.asl.yaml``: the same text that is deployed, as data."""

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
    """The template names none of AWS's policies, so their ARNs need not be looked up."""

    def load(self) -> dict[str, str]:
        return {}


@cache
def template() -> dict[str, Any]:
    """The template as it is written, intrinsic functions in their long form."""
    decoded, problems = decode_str(TEMPLATE_FILE.read_text(encoding="utf-8"))
    assert not problems
    return _plain(decoded)


@cache
def transformed() -> dict[str, Any]:
    """The template as CloudFormation sees it after SAM: plain resources."""
    fragment = copy.deepcopy(template())
    for resource in fragment["Resources"].values():
        for name in set(resource.get("Properties", {})) & set(ARTIFACTS):
            resource["Properties"][name] = f"s3://bucket/{name}"
    defaults = {name: each["Default"] for name, each in fragment["Parameters"].items()}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_DEFAULT_REGION", "eu-west-1")  # SAM asks boto3 which partition it is in
        return _plain(transform(fragment, defaults, _NoManagedPolicies()))


def resources(kind: str) -> dict[str, dict[str, Any]]:
    """The properties of every resource of a type, after SAM, by logical name."""
    found = transformed()["Resources"].items()
    return {name: each.get("Properties", {}) for name, each in found if each["Type"] == kind}


def state_machine(**substitutions: str) -> dict[str, Any]:
    """The state machine's definition, with values in place of what the template puts in."""
    text = (ROOT / "statemachine.asl.yaml").read_text(encoding="utf-8")
    definition: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{(\w+)\}", lambda m: substitutions[m[1]], text))
    return definition


def every_mapping(node: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a document, whatever it is inside of."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from every_mapping(value)
    elif isinstance(node, list):
        for value in node:
            yield from every_mapping(value)


def _plain(node: Any) -> Any:
    """Plain dictionaries, lists and texts, without the places in the file that the parser notes."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    return str(node) if isinstance(node, str) else node
