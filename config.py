"""The settings: the only reader of the environment, ``.env``, Parameter Store and Secrets Manager.

Precedence, highest first: environment variables, the secret that ``SECRET_ID`` names, the ``.env`` file in the working
directory, defaults. No message holds the value of a secret.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote, unquote, urlsplit

from dotenv.parser import Binding, parse_stream
from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from domain.errors import ConfigError
from domain.models import EVERY_SYMBOL
from domain.text import Redactor

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MAX_CHARTS = 10  # per report
SECRET_KEYS = ("POLYGON_API_KEY", "DATABASE_URL", "SMTP_PASSWORD")
AWS_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")  # AWS sets them for the function
IN_PARAMETER_STORE = "ssm:"  # before the name of a secret that is a SecureString
SECRETS_TIMEOUT = 5.0  # seconds to connect, and to answer: a function without a route to AWS must fail early
ALIKE = 0.84  # ratio by difflib from which a name is taken for a misspelled setting: POLYGON_API_KYE, DATABASE_URI
OUR_WORDS = ("POLYGON_", "QUICKCHART_")  # in the environment; other words of ours are everybody's there, like SMTP_
logger = logging.getLogger(f"stock_tracker.{__name__}")
_SYMBOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9./\-]{0,9}")
_SYMBOL_RULE = "1 to 10 letters, digits, '.', '/' or '-', starting with a letter or digit, between commas"


def parse_symbols(value: object, *, files: bool = False) -> tuple[str, ...]:
    """Parse symbols from a list, comma-separated text, ``"@file"`` or ``"*"``.

    Parameters
    ----------
    value : object
        ``["GOOG", "BRK.B"]``, ``"GOOG, BRK.B"``, ``"@symbols.txt"`` (one or more symbols per line, ``#`` starts a
        comment; in the working directory, or else beside this file, as on Lambda) or ``"*"`` for the whole US market.
    files : bool
        Whether to read ``"@file"``. Settings and the command line may; events may not, since anybody could send them.

    Returns
    -------
    tuple of str
        The symbols in the order given, without duplicates. Case is kept: the provider's tickers depend on it.

    Raises
    ------
    ValueError
        If there is no symbol, or one is malformed; the message names it.
    """
    if isinstance(value, str):
        if files and value.startswith("@"):
            value = _symbols_file(value[1:])
        parts: list[object] = [part.strip() for part in value.replace("\n", ",").split(",") if part.strip()]
    elif isinstance(value, list | tuple):
        parts = list(value)
    else:
        raise ValueError(f"{value!r} is not a list of symbols, comma-separated symbols or '*'")
    if not parts:
        raise ValueError(f"{value!r} names no symbol; give at least one, or '*' for the whole US market")
    if parts == [EVERY_SYMBOL]:
        return (EVERY_SYMBOL,)
    for part in parts:
        if not isinstance(part, str) or not _SYMBOL.fullmatch(part):
            raise ValueError(f"{redact(repr(part))[:60]} is not a symbol; valid is {_SYMBOL_RULE}, or '*' alone")
    return tuple(dict.fromkeys(str(part) for part in parts))


def _symbols_file(name: str) -> str:
    here, beside_the_code = Path(name), Path(__file__).parent / name
    try:
        lines = (here if here.exists() else beside_the_code).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ValueError(f"the symbols file {name!r} cannot be read: {error.strerror}") from None
    except ValueError:  # of the text, or of a NUL in the name
        raise ValueError(f"the symbols file {name!r} cannot be read: it is not UTF-8 text") from None
    return ",".join(line.partition("#")[0] for line in lines)


# Pydantic's HttpUrl rewrites the address and accepts a password in it.
def _http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        valid = re.fullmatch(r"https?://[^\s/]+\S*", value) and parts.hostname and not parts.username
    except ValueError:
        valid = None
    if not valid:
        raise ValueError("valid is an http:// or https:// address without a user")
    return value.rstrip("/")


# Pydantic's EmailStr needs another package.
def _address(value: str) -> str:
    if not re.fullmatch(r"[^@\s<>,;\"]+@[^@\s<>,;\"]+", value):
        raise ValueError(f"{value!r} is not an e-mail address; valid is name@example.com")
    return value


def _unsubscribe(value: str) -> str:
    # Python encodes a header value that does not fit on one line, and mail programs then ignore it.
    if len(value) > 70 or not re.fullmatch(r"(mailto:[!-;=?-~]+@|https://)[!-;=?-~]+", value):
        raise ValueError("valid is mailto:name@example.com or an https:// address, ASCII and up to 70 characters")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]


# A bucket's name has 3 to 63 of these characters; a prefix with others would have to be encoded in addresses.
def _site(value: str) -> str:
    if value.startswith("s3://"):
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?", value):
            raise ValueError("valid is s3://bucket or s3://bucket/prefix, of letters, digits, '.', '_', '-' and '/'")
    elif "://" in value or "\0" in value:
        raise ValueError("valid is a folder, s3://bucket or s3://bucket/prefix")
    return value


Site = Annotated[str, AfterValidator(_site)]
Address = Annotated[str, AfterValidator(_address)]
Unsubscribe = Annotated[str, AfterValidator(_unsubscribe)]


class Settings(BaseSettings):
    """All settings. Each is named like its environment variable, in lower case."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8-sig", env_ignore_empty=True, extra="ignore", frozen=True
    )

    database_url: SecretStr = SecretStr("sqlite:///stock_tracker.db")
    database_secret_id: str = ""

    polygon_api_key: SecretStr = SecretStr("")
    polygon_base_url: HttpUrl = "https://api.massive.com"
    polygon_calls_per_minute: int = Field(default=5, ge=0)

    symbols: Annotated[tuple[str, ...], NoDecode] = ("GOOG", "MSFT", "NVDA", "QUBT", "RKLB")
    history_sessions: int = Field(default=70, ge=1, le=10_000)

    settle_sessions: int = Field(default=3, ge=0, le=60)
    audit_calls: int = Field(default=5, ge=0, le=1_000)

    quickchart_url: HttpUrl = "https://quickchart.io/chart"
    chart_symbols: Annotated[tuple[str, ...], NoDecode] = ()

    mail_transport: Literal["auto", "outbox", "smtp", "ses"] = "auto"
    mail_from: Address | None = None
    mail_to: Annotated[tuple[Address, ...], NoDecode] = ()
    mail_unsubscribe: Unsubscribe | None = None
    outbox: Path = Path("outbox")
    smtp_host: str = ""
    smtp_port: int = Field(default=587, ge=1, le=65_535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str = ""
    smtp_password: SecretStr = SecretStr("")

    site: Site = ""
    site_url: HttpUrl | None = None

    secret_id: str = ""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("symbols", mode="before")
    @classmethod
    def _parse_symbols(cls, value: object) -> tuple[str, ...]:
        return parse_symbols(value, files=True)

    @field_validator("chart_symbols", mode="before")
    @classmethod
    def _parse_chart_symbols(cls, value: object) -> tuple[str, ...]:
        chosen = parse_symbols(value) if value else ()
        if EVERY_SYMBOL in chosen or len(chosen) > MAX_CHARTS:
            raise ValueError(f"valid is up to {MAX_CHARTS} comma-separated symbols")
        return chosen

    @field_validator("mail_to")
    @classmethod
    def _name_each_once(cls, value: tuple[Address, ...]) -> tuple[Address, ...]:
        """Keep the first spelling of each recipient: letter case makes no other one."""
        spellings: dict[str, Address] = {}
        for address in value:
            spellings.setdefault(address.casefold(), address)
        return tuple(spellings.values())

    @field_validator("mail_to", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("polygon_api_key", "smtp_password")
    @classmethod
    def _fits_a_header(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if not (text.isascii() and text.isprintable()):
            raise ValueError("valid is one line of printable ASCII text")
        return value

    @property
    def transport(self) -> Literal["outbox", "smtp", "ses"]:
        """How mail is sent: as ``MAIL_TRANSPORT`` says; ``auto`` is SMTP once ``SMTP_HOST`` is set, else the outbox."""
        if self.mail_transport == "auto":
            return "smtp" if self.smtp_host else "outbox"
        return self.mail_transport

    @cached_property
    def redact(self) -> Redactor:
        """Mask all secrets of these settings in a text: the key, the passwords, and those of AWS."""
        return _redactor(getattr(self, name.lower()).get_secret_value() for name in SECRET_KEYS)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the secret after the environment and before ``.env``; a login of the database goes into its URL."""
        secret = _SecretSource(settings_cls, dotenv_settings)
        login = _LoginSource(settings_cls, env_settings, dotenv_settings)
        return init_settings, login, env_settings, secret, dotenv_settings


def _redactor(secrets: Iterable[str]) -> Redactor:
    """Mask the values of :data:`SECRET_KEYS`, and what AWS sets for the function."""
    key, url, password = secrets
    return Redactor([key, _password(url), password, *(os.environ.get(name, "") for name in AWS_SECRETS)])


def _password(url: str) -> str:
    """Return the password of a URL, decoded; also of one that urlsplit refuses."""
    return unquote(url.partition("://")[2].rpartition("@")[0].partition(":")[2])


class _SecretSource(PydanticBaseSettingsSource):
    """The secret that ``SECRET_ID`` names; without that name, nothing is fetched."""

    def __init__(self, settings_cls: type[BaseSettings], dotenv: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._dotenv = dotenv

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        # SECRET_ID may be set in .env, although .env comes after this source.
        secret_id = self.current_state.get("secret_id") or self._dotenv().get("secret_id")
        if not secret_id:
            return {}
        return {name.lower(): value for name, value in read_secret(str(secret_id)).items() if value}


class _LoginSource(PydanticBaseSettingsSource):
    """The URL of the database, with the user and the password of the secret that ``DATABASE_SECRET_ID`` names."""

    def __init__(self, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._sources = sources

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for source in reversed(self._sources):
            given |= source()
        given |= self.current_state
        secret_id, url = given.get("database_secret_id"), str(given.get("database_url", ""))
        if not secret_id:
            return {}
        scheme, separator, rest = url.partition("://")
        if not separator or "@" in rest:
            raise ConfigError("DATABASE_SECRET_ID holds the login for DATABASE_URL: valid is postgresql://host/name")
        login = _read_json(str(secret_id), "DATABASE_SECRET_ID")
        user, password = (login.get(key) for key in ("username", "password"))
        if not isinstance(user, str) or not isinstance(password, str):
            raise ConfigError(f"the secret {secret_id!r} has no username and password as text, which RDS writes there")
        return {"database_url": f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest}"}


def read_secret(secret_id: str, region: str | None = None) -> dict[str, str]:
    """Read a secret: a JSON object with any of :data:`SECRET_KEYS`.

    Parameters
    ----------
    secret_id : str
        ``ssm:/name`` of a SecureString in Parameter Store, or name or ARN of a secret in Secrets Manager.
    region : str, optional
        Default is that of the AWS configuration.

    Raises
    ------
    ConfigError
        If the secret cannot be read, or holds anything else. The message shows none of its values.
    """
    valid = f"valid is a JSON object of text with any of {', '.join(SECRET_KEYS)}"
    values = _read_json(secret_id, "SECRET_ID", valid, region)
    for name, value in values.items():
        if name not in SECRET_KEYS or not isinstance(value, str):
            raise ConfigError(f"the secret {secret_id!r} has the key {name!r}, which is unknown or not text; {valid}")
    return values


def _read_json(
    secret_id: str, variable: str, valid: str = "valid is a JSON object", region: str | None = None
) -> dict[str, Any]:
    """Read a secret that a variable names, and is a JSON object."""
    import boto3
    from aws_lambda_powertools.utilities.parameters import SecretsProvider, SSMProvider
    from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    session = boto3.session.Session(region_name=region)
    limits = Config(connect_timeout=SECRETS_TIMEOUT, read_timeout=SECRETS_TIMEOUT, retries={"total_max_attempts": 3})
    service = "Parameter Store" if secret_id.startswith(IN_PARAMETER_STORE) else "Secrets Manager"
    try:
        # A new provider has an empty cache, so that a rotated secret is seen.
        if service == "Parameter Store":
            name = secret_id.removeprefix(IN_PARAMETER_STORE)
            text: Any = SSMProvider(boto_config=limits, boto3_session=session).get(name, decrypt=True)
        else:
            text = SecretsProvider(boto_config=limits, boto3_session=session).get(secret_id)
    except (GetParameterError, BotoCoreError) as error:
        place = f"{service} in {session.region_name or 'no region (AWS_DEFAULT_REGION is not set)'}"
        cause = str(error).splitlines()[0]
        raise ConfigError(f"{variable} is {secret_id!r}, which cannot be read from {place}: {cause}") from None
    try:
        values: Any = json.loads(text)
    except ValueError:
        raise ConfigError(f"the secret {secret_id!r} is not JSON; {valid}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"the secret {secret_id!r} is JSON, but not an object; {valid}")
    return values


def load_settings() -> Settings:
    """Read and validate all settings.

    Raises
    ------
    ConfigError
        Naming the variable, its value (unless secret) and what is valid, in one line.
    """
    _check_dotenv()
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigError("; ".join(_explain_setting(detail) for detail in error.errors())) from None


def check_settings(values: Mapping[str, str], names: Mapping[str, str]) -> None:
    """Refuse what :func:`load_settings` would refuse in another place, whose environment has these values.

    Parameters
    ----------
    values : mapping of str to str
        By variable; an empty value counts as unset.
    names : mapping of str to str
        What the message calls a variable, if it has another name where its value was written.

    Raises
    ------
    ConfigError
        As :func:`load_settings`.
    """
    given: dict[str, Any] = {variable.lower(): value for variable, value in values.items() if value}
    try:
        Settings(_env_file=None, **{"secret_id": "", "database_secret_id": "", **given})
    except ValidationError as error:
        # This machine's own environment fills in the others, and is of no interest.
        refused = [detail for detail in error.errors() if detail["loc"][0] in given]
        if refused:
            raise ConfigError("; ".join(_explain_setting(detail, names) for detail in refused)) from None


def _check_dotenv() -> None:
    """Refuse a ``.env`` that cannot be read, has a line that sets nothing, or has a misspelled setting.

    A misspelled variable of the environment is only warned of: it may belong to another program.
    """
    bindings = _read_dotenv()
    for binding in bindings:
        is_ours = (binding.key or "").lower() in Settings.model_fields
        if binding.error or (is_ours and binding.value is None):
            text = binding.original.string
            line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
            raise ConfigError(f".env cannot be read from line {line} on: valid is NAME=value, or # and a comment")
    names = [binding.key for binding in bindings if binding.key]
    for name, meant in _misspelled(names, {*names, *os.environ}):
        raise ConfigError(f".env has {name!r}, which is no setting: did you mean {meant}?")
    for message in _misspelled_variables(names):
        _warn_once(message)


def _misspelled_variables(names: Sequence[str]) -> list[str]:
    """Say which variables of the environment are misspelled settings; `names` are those of ``.env``."""
    ours = [name for name in os.environ if name.upper().startswith(OUR_WORDS)]
    found = _misspelled(ours, {*names, *os.environ})
    return [f"the environment has {name!r}, which is no setting: did you mean {meant}?" for name, meant in found]


def unknown_names() -> list[str]:
    """Say which names of ``.env`` are no settings, and which variables of the environment are misspelled ones."""
    names = [binding.key for binding in _read_dotenv() if binding.key]
    unknown = [name for name in names if name.lower() not in Settings.model_fields]
    return [*(f".env has {name!r}, which is no setting" for name in unknown), *_misspelled_variables(names)]


def setting_sources(used: Settings) -> dict[str, str]:
    """Return where each setting that is set comes from: ``the environment``, ``the secret NAME`` or ``.env``."""
    environment = {name.upper() for name, value in os.environ.items() if value}
    dotenv = {binding.key.upper(): binding.value for binding in _read_dotenv() if binding.key}
    sources = {}
    for name in Settings.model_fields:
        key, value = name.upper(), getattr(used, name)
        if name not in used.model_fields_set:
            continue
        if key in environment:
            sources[key] = "the environment"
        elif used.secret_id and key in SECRET_KEYS and value.get_secret_value() != dotenv.get(key):
            sources[key] = f"the secret {used.secret_id}"
        else:
            sources[key] = ".env"
    return sources


def _read_dotenv() -> list[Binding]:
    path = Path(".env")
    try:
        if path.is_dir():
            raise ConfigError(".env is a folder: valid is a file of lines NAME=value, or none")
        if not path.is_file():  # a pipe, as of a password manager, can be read only once: by the settings
            return []
        return list(parse_stream(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except UnicodeDecodeError as error:
        raise ConfigError(f".env is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise ConfigError(f".env cannot be read: {error.strerror}") from None


def _misspelled(names: Iterable[str], present: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each name that is nearly one of a setting, with that one, unless the setting itself is present as well."""
    known = [field.upper() for field in Settings.model_fields]
    absent = set(known) - {name.upper() for name in present}
    for name in names:
        nearest = get_close_matches(name.upper(), known, 1, ALIKE)
        if nearest and nearest[0] in absent:
            yield name, nearest[0]


@lru_cache
def _warn_once(message: str) -> None:
    logger.warning(message)


def _explain_setting(error: ErrorDetails, names: Mapping[str, str] | None = None) -> str:
    name = str(error["loc"][0])
    is_secret = name not in Settings.model_fields or Settings.model_fields[name].annotation is SecretStr
    is_secret |= name.endswith("_url") and "@" in str(error["input"])  # a user and a password
    shown = "not usable" if is_secret else repr(error["input"])
    return explain(error, (names or {}).get(name.upper(), name.upper()), shown)


def explain(error: ErrorDetails, key: str, shown: str, valid: str | None = None) -> str:
    """Say in one line what pydantic refused: the key, its value, and what is valid.

    Parameters
    ----------
    error : pydantic_core.ErrorDetails
    key : str
    shown : str
        The value as the message shows it.
    valid : str, optional
        What is valid, in place of pydantic's own words. A validator of ours says it itself.
    """
    reason = error["msg"].removeprefix("Value error, ").partition(", unable to parse")[0]
    reason = reason.replace("Input should be a valid ", "valid is a ").replace("Input should be ", "valid is ")
    reason = reason.replace("valid is a integer", "valid is an integer")
    if valid and error["type"] != "value_error":
        reason = valid
    return f"{key} is {shown}: {reason[:1].lower()}{reason[1:]}"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings of this process. The first call reads them; ``settings.cache_clear()`` forgets them."""
    return load_settings()


def on_lambda() -> bool:
    """Return whether this process is a function on Lambda."""
    return "AWS_LAMBDA_FUNCTION_NAME" in os.environ


def redact(text: str) -> str:
    """Mask all secrets of this process's settings in a text; before these are read, those of the environment."""
    if settings.cache_info().currsize:
        return settings().redact(text)
    return _redactor(os.environ.get(name, "") for name in SECRET_KEYS)(text)


def secrets_rotated(used: Settings) -> bool:
    """Read the settings again, and tell whether any of :data:`SECRET_KEYS` differs from the settings used so far.

    Raises
    ------
    ConfigError
        As :func:`load_settings`.
    """
    settings.cache_clear()
    return any(getattr(settings(), key.lower()) != getattr(used, key.lower()) for key in SECRET_KEYS)
