"""The secret of a stage: read and written by AWS's API, never by CloudFormation, so that no deployment touches it.

``ssm:/name`` is a SecureString in Parameter Store, which costs nothing; any other name is in Secrets Manager.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from config import IN_PARAMETER_STORE, SECRET_KEYS, check_settings, read_secret
from deploy.cloud import CloudError, client, is_absent, one_line_errors
from deploy.stage import PROJECT, Stage
from deploy.template import ROOT
from domain.errors import ConfigError
from storage.engine import open_engine

PARAMETER_BYTES = 4096  # of a standard parameter, which is free
ON_LAMBDA = "/opt/"  # where the layer's files are there
ASKED = {
    "POLYGON_API_KEY": "Key of massive.com",
    "DATABASE_URL": "postgresql://user:password@host/name",
    "SMTP_PASSWORD": "Password of SmtpUser",
}

Ask = Callable[[str], str]


def exists(stage: Stage) -> bool:
    """Whether there is a secret; its content is not read."""
    name, in_store = _name(stage)
    with one_line_errors(f"the secret {stage.secret_id} cannot be looked up"):
        try:
            if in_store:
                client(stage, "ssm").get_parameter(Name=name)  # encrypted as it is
            else:
                client(stage, "secretsmanager").describe_secret(SecretId=name)
        except ClientError as error:
            if is_absent(error):
                return False
            raise
    return True


def require(stage: Stage) -> None:
    """Raise a CloudError if the stage has no secret yet."""
    if not exists(stage):
        raise CloudError(f"the secret {stage.secret_id} does not exist yet: run make secret STAGE={stage.name}")


def needed_keys(stage: Stage) -> tuple[str, ...]:
    """Return the keys without which the stage does not work."""
    needed = {
        "POLYGON_API_KEY": True,
        "DATABASE_URL": stage.values["CreateDatabase"] == "false",
        "SMTP_PASSWORD": bool(stage.values["SmtpUser"]),
    }
    return tuple(key for key in SECRET_KEYS if needed[key])


def complete(
    stage: Stage,
    environment: Mapping[str, str],
    ask: Ask | None,
    *,
    change: Sequence[str] = (),
    copy_from: str | None = None,
) -> str:
    """Ask for what the secret lacks, write it, and say what was done.

    Parameters
    ----------
    environment : mapping of str to str
        Variables of the same names come first.
    ask : callable or None
        Asks a person; None where nobody is to be asked.
    change : sequence of str
        Keys that get a new value although they have one.
    copy_from : str, optional
        Another secret, as ``SECRET_ID`` names it, whose values fill in what is missing.

    Raises
    ------
    ConfigError
        If a value is missing or not valid; nothing is written then.
    """
    if unknown := [key for key in change if key not in SECRET_KEYS]:
        raise ConfigError(f"CHANGE is {unknown[0]!r}: valid are {', '.join(SECRET_KEYS)}")
    is_new = not exists(stage)
    stored = {} if is_new else read_secret(stage.secret_id, stage.region)
    source = read_secret(copy_from, stage.region) if copy_from else {}
    wanted = [key for key in SECRET_KEYS if key in change or not stored.get(key)]
    given = {key: value for key in wanted if (value := environment.get(key) or source.get(key))}
    missing = [key for key in wanted if key not in given and (key in change or key in needed_keys(stage))]
    if missing and ask is None:
        raise ConfigError(f"{' and '.join(missing)} must be set in the environment, as there is no terminal to ask at")
    if missing and ask is not None:
        given |= {key: ask(f"{ASKED[key]} ({key}, not shown): ") for key in missing}
    if not given:
        return f"{stage.secret_id} has all it needs"
    for key, value in given.items():
        _check(key, value)
    _write(stage, {**stored, **given}, is_new=is_new)
    return f"{stage.secret_id}: {' and '.join(given)} written"


def _check(key: str, value: str) -> None:
    if not value:
        raise ConfigError(f"{key} is empty: nothing was written")
    check_settings({key: value}, {})
    if key == "DATABASE_URL":
        if not value.startswith(("postgres://", "postgresql://")):
            raise ConfigError("DATABASE_URL is not usable: valid on Lambda is postgresql://user:password@host/name")
        open_engine(value.replace(f"={ON_LAMBDA}", f"={ROOT / 'layer'}/")).dispose()


def remove(stage: Stage) -> str:
    """Remove the secret for good, and say so."""
    name, in_store = _name(stage)
    if not exists(stage):
        return f"{stage.secret_id} does not exist"
    with one_line_errors(f"the secret {stage.secret_id} cannot be removed"):
        if in_store:
            client(stage, "ssm").delete_parameter(Name=name)
        else:
            client(stage, "secretsmanager").delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    return f"{stage.secret_id} is removed"


def _name(stage: Stage) -> tuple[str, bool]:
    """Return the name, and whether it is in Parameter Store."""
    return stage.secret_id.removeprefix(IN_PARAMETER_STORE), stage.secret_id.startswith(IN_PARAMETER_STORE)


def _write(stage: Stage, values: Mapping[str, str], *, is_new: bool) -> None:
    name, in_store = _name(stage)
    text = json.dumps(values)
    if in_store and len(text.encode()) > PARAMETER_BYTES:
        raise ConfigError(f"{stage.secret_id} holds {PARAMETER_BYTES} bytes: set SecretStore=secrets-manager for more")
    tags = [{"Key": "project", "Value": PROJECT}, {"Key": "stage", "Value": stage.name}]
    described = {"Description": "Key, password and database URL of Stock Tracker"}
    with one_line_errors(f"the secret {stage.secret_id} cannot be written"):
        service: Any = client(stage, "ssm" if in_store else "secretsmanager")
        if in_store:
            create: dict[str, Any] = {"Tags": tags} if is_new else {"Overwrite": True}
            service.put_parameter(Name=name, Value=text, Type="SecureString", **described, **create)
        elif is_new:
            service.create_secret(Name=name, SecretString=text, Tags=tags, **described)
        else:
            service.put_secret_value(SecretId=name, SecretString=text)
