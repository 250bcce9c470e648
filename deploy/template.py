"""Read ``template.yaml``: which parameters there are, what they allow, and which rules hold between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
TEMPLATE_FILE = ROOT / "template.yaml"
LIST = "CommaDelimitedList"
RULE_FUNCTIONS: dict[str, Callable[[list[Any]], bool]] = {
    "Fn::Equals": lambda given: given[0] == given[1],
    "Fn::Not": lambda given: not given[0],
    "Fn::And": all,
    "Fn::Or": any,
    "Fn::EachMemberEquals": lambda given: all(member == given[1] for member in given[0]),
}


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Reads the short forms of CloudFormation's functions: ``!Ref Name`` is ``{"Ref": "Name"}``."""


def _long_form(loader: Any, name: str, node: Any) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _long_form)


@dataclass(frozen=True)
class Parameter:
    """A parameter of the template."""

    name: str
    kind: str
    default: str
    allowed: tuple[str, ...] = ()
    pattern: str = ".*"
    at_least: int | None = None
    at_most: int | None = None
    constraint: str | None = None

    def problem(self, value: str) -> str | None:
        """Say what is valid, if a value is not."""
        if self.kind == "Number":
            return self._problem_of_number(value)
        if self.allowed and value not in self.allowed:
            return f"valid are {', '.join(self.allowed)}"
        if not re.fullmatch(self.pattern, value):
            return self.constraint or f"valid is what matches {self.pattern}"
        return None

    def _problem_of_number(self, value: str) -> str | None:
        if not re.fullmatch(r"-?(0|[1-9]\d*)", value):
            return "valid is a whole number"
        if self.allowed and value not in self.allowed:
            return f"valid are {', '.join(self.allowed)}"
        if self.at_least is not None and int(value) < self.at_least:
            return f"valid is {self.at_least} or more"
        if self.at_most is not None and int(value) > self.at_most:
            return f"valid is {self.at_most} or less"
        return None


@dataclass(frozen=True)
class Template:
    """The parameters, the rules between them, and the variables of the function that they fill."""

    parameters: Mapping[str, Parameter]
    rules: Mapping[str, Any]
    variables: Mapping[str, str]

    def broken_rules(self, values: Mapping[str, str]) -> Iterator[str]:
        """Say which rules the values of all parameters break, in the template's words."""
        for rule in self.rules.values():
            if self._evaluate(rule.get("RuleCondition", True), values):
                for assertion in rule["Assertions"]:
                    if not self._evaluate(assertion["Assert"], values):
                        yield assertion["AssertDescription"]

    def _evaluate(self, expression: Any, values: Mapping[str, str]) -> Any:
        if isinstance(expression, list):
            return [self._evaluate(part, values) for part in expression]
        if not isinstance(expression, dict):
            return expression if isinstance(expression, bool) else str(expression)
        ((function, argument),) = expression.items()
        if function == "Ref":
            value = values[argument]
            return value.split(",") if self.parameters[argument].kind == LIST else value
        return RULE_FUNCTIONS[function](self._evaluate(argument, values))


def read_template(path: Path = TEMPLATE_FILE) -> Template:
    """Read the template."""
    document = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    variables = document["Resources"]["Function"]["Properties"]["Environment"]["Variables"]
    return Template(
        parameters={name: _parameter(name, **each) for name, each in document["Parameters"].items()},
        rules=document["Rules"],
        variables={name: value["Ref"] for name, value in variables.items() if "Ref" in value},
    )


def _parameter(name: str, **properties: Any) -> Parameter:
    return Parameter(
        name,
        kind=properties["Type"],
        default=str(properties["Default"]),
        allowed=tuple(str(value) for value in properties.get("AllowedValues", ())),
        pattern=properties.get("AllowedPattern", ".*"),
        at_least=properties.get("MinValue"),
        at_most=properties.get("MaxValue"),
        constraint=properties.get("ConstraintDescription"),
    )
