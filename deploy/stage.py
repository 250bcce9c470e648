"""A stage: its name, and the values of the template's parameters in ``deploy/<stage>.env``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from dotenv.parser import parse_stream

from config import IN_PARAMETER_STORE, SECRET_KEYS, check_settings
from deploy.template import Template, read_template
from domain.errors import ConfigError

FOLDER = Path("deploy")
EXAMPLE = "example.env"
PRODUCTION, PROJECT = "production", "stock-tracker"
REGION = "Region"  # not a parameter of the template: where its stack is
# A database's identifier has the strictest form: no two hyphens in a row, none at the end, up to 63 characters.
STAGE_NAME = re.compile(r"[a-z]([a-z0-9]|-(?=[a-z0-9])){0,19}")
REGION_NAME = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
SECRETS = {"".join(word.capitalize() for word in key.split("_")): key for key in SECRET_KEYS}
# The SAM CLI removes outer quotes, and a backslash before a space or a quote, from whatever it reads, more than once.
LOST_ON_THE_WAY = re.compile(r"""\\[ "']|\A(["'])(.*\1)?\Z""", re.DOTALL)
VARIABLES_BYTES = 4096 - 512  # Lambda's limit of names and values together, less those that the template fills


@dataclass(frozen=True)
class Stage:
    """A stage whose values are valid.

    Attributes
    ----------
    values : mapping of str to str
        Of all parameters, the template's defaults among them: a value that leaves the file does not stay in the stack.
    region : str or None
        None is the region of this machine's AWS configuration.
    """

    name: str
    values: Mapping[str, str]
    region: str | None = None

    @property
    def stack(self) -> str:
        """The name of the stack, and the first part of the names of what is in it."""
        return stack_name(self.name)

    @property
    def secret_id(self) -> str:
        """The stage's secret, as the function's ``SECRET_ID`` names it."""
        name = f"{self.stack}/secret"
        return name if self.values["SecretStore"] == "secrets-manager" else f"{IN_PARAMETER_STORE}/{name}"


def stack_name(stage: str) -> str:
    """Return the name of a stage's stack.

    Raises
    ------
    ConfigError
        If it is no name of a stage.
    """
    if not STAGE_NAME.fullmatch(stage):
        raise ConfigError(
            f"STAGE is {stage!r}: valid are up to 20 small letters, digits and single hyphens, such as staging"
        )
    return PROJECT if stage == PRODUCTION else f"{PROJECT}-{stage}"


def stage_file(stage: str, folder: Path = FOLDER) -> Path:
    """Return where the values of a stage are."""
    return folder / f"{stage}.env"


def read_stage(name: str, folder: Path = FOLDER, template: Template | None = None) -> Stage:
    """Read and validate the values of a stage.

    Raises
    ------
    ConfigError
        Naming the file, the parameter, its value and what is valid, in one line.
    """
    stack_name(name)
    path, template = stage_file(name, folder), template or read_template()
    if path.name == EXAMPLE:
        raise ConfigError(f"STAGE is {name!r}, which is for copying: valid is any other name")
    given = _read_values(path)
    region = given.pop(REGION, None)
    try:
        _check_names(given, template)
        if region is not None and not REGION_NAME.fullmatch(region):
            raise ConfigError(f"{REGION} is {region!r}: valid is the name of a region, such as eu-west-1")
        values = {each.name: each.default for each in template.parameters.values()} | given
        for parameter in template.parameters.values():
            value = values[parameter.name]
            if problem := parameter.problem(value):
                raise ConfigError(f"{parameter.name} is {value!r}: {problem}")
            if LOST_ON_THE_WAY.search(value):
                valid = "without quotes around all of it, and without a backslash before a space or a quote"
                raise ConfigError(f"{parameter.name} is {value!r}: valid is a value {valid}")
        for broken in template.broken_rules(values):
            raise ConfigError(broken)
        variables = {variable: values[parameter] for variable, parameter in template.variables.items()}
        check_settings(variables, template.variables)
        _check_size(variables)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return Stage(name, values, region)


def _read_values(path: Path) -> dict[str, str]:
    """Read the lines of a file, without those that have no value."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            bindings = list(parse_stream(file))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist: copy deploy/{EXAMPLE} to it, and change what differs") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    values: dict[str, str] = {}
    for binding in bindings:
        line = binding.original.string.strip()
        if binding.error or (binding.key and binding.value is None):
            at = binding.original.line + len(binding.original.string) - len(binding.original.string.lstrip("\n"))
            raise ConfigError(f"{path} has {line!r} in line {at}: valid is Name=value, or # and a comment")
        if not binding.key:
            continue
        if binding.key in values:
            raise ConfigError(f"{path} has {binding.key} twice: keep one of them")
        values[binding.key] = binding.value or ""
    return {name: value for name, value in values.items() if value}


def _check_names(given: Mapping[str, str], template: Template) -> None:
    for name in given:
        if name in SECRETS or name in SECRET_KEYS:
            raise ConfigError(f"{name} is a secret: remove its line, and let make secret ask for it")
        if name not in template.parameters:
            nearest = get_close_matches(name, [*template.parameters, REGION], 1)
            meant = f": did you mean {nearest[0]}?" if nearest else f": deploy/{EXAMPLE} lists all"
            raise ConfigError(f"{name} is no parameter{meant}")


def _check_size(variables: Mapping[str, str]) -> None:
    size = sum(len(f"{name}{value}".encode()) for name, value in variables.items())
    if size > VARIABLES_BYTES:
        longest = max(variables, key=lambda name: len(variables[name]))
        raise ConfigError(
            f"the values take {size:,} bytes, and Lambda has {VARIABLES_BYTES:,}: shorten {longest}; symbols may be"
            " in a file, as Symbols=@symbols.txt"
        )
