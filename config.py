"""The settings, read once: one frozen object, and the only reader of the environment, ``.env`` and Secrets Manager.

What comes in: environment variables, a ``.env`` file in the working directory and, when ``SECRET_ID`` names one, a
JSON secret. What goes out: a :class:`Settings`. Precedence, highest first: environment, secret, ``.env``, default.
This module never connects to a database or a provider, and never puts a secret's value into a message.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from domain.errors import ConfigError
from domain.models import EVERY_SYMBOL

MAX_CHARTS = 10  # in a report
SECRET_KEYS = ("POLYGON_API_KEY", "DATABASE_URL", "SMTP_PASSWORD")
SECRETS_TIMEOUT = 5.0  # seconds to connect, and to answer; without a way to AWS, an invocation must not wait in vain
_SYMBOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9./\-]{0,9}")
_SYMBOL_RULE = "1 to 10 letters, digits, '.', '/' or '-', starting with a letter or digit"


def parse_symbols(value: object, *, files: bool = False) -> tuple[str, ...]:
    """Symbols from a list, comma-separated text, ``"@file"`` or ``"*"``.

    Parameters
    ----------
    value : object
        ``["GOOG", "BRK.B"]``, ``"GOOG, BRK.B"``, ``"@symbols.txt"`` (one symbol or comma-separated symbols a line,
        ``#`` starts a comment; relative to this file's folder) or ``"*"`` for the whole US market.
    files : bool
        Whether ``"@file"`` is read: for settings and the command line, not for events, which may come from anywhere.

    Returns
    -------
    tuple of str
        The symbols in the order given, without repetition; case is kept, as the provider's tickers need it.

    Raises
    ------
    ValueError
        If nothing is named or a symbol is not well formed; the message names it.
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
            raise ValueError(f"{repr(part)[:60]} is not a symbol; valid is {_SYMBOL_RULE}, or '*' alone")
    return tuple(dict.fromkeys(str(part) for part in parts))


def _symbols_file(name: str) -> str:
    try:
        lines = (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the symbols file {name!r} cannot be read: {type(error).__name__}") from None
    return ",".join(line.partition("#")[0] for line in lines)


def _http_url(value: str) -> str:
    try:
        host = urlsplit(value)
        usable = re.fullmatch(r"https?://[^\s/]+\S*", value) and host.hostname and not host.username
    except ValueError:
        usable = None
    if not usable:
        raise ValueError("valid is an http:// or https:// address without a user")
    return value.rstrip("/")


def _address(value: str) -> str:
    if not re.fullmatch(r"[^@\s<>,;\"]+@[^@\s<>,;\"]+", value):
        raise ValueError(f"{value!r} is not an e-mail address; valid is name@example.com")
    return value


def _unsubscribe(value: str) -> str:
    # A longer one would not fit a header's line, and Python would encode it beyond what mail programs understand.
    if len(value) > 70 or not re.fullmatch(r"(mailto:[!-;=?-~]+@|https://)[!-;=?-~]+", value):
        raise ValueError("valid is mailto:name@example.com or an https:// address, ASCII and up to 70 characters")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Address = Annotated[str, AfterValidator(_address)]
Unsubscribe = Annotated[str, AfterValidator(_unsubscribe)]


class Settings(BaseSettings):
    """Every setting of this project, typed and checked; the names are those of the environment, in lower case."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore", frozen=True
    )

    database_url: SecretStr = SecretStr("sqlite:///stock_tracker.db")

    polygon_api_key: SecretStr = SecretStr("")
    polygon_base_url: HttpUrl = "https://api.massive.com"
    polygon_calls_per_minute: int = Field(default=5, ge=0)

    symbols: Annotated[tuple[str, ...], NoDecode] = ("GOOG", "MSFT", "NVDA", "QUBT", "RKLB")
    history_sessions: int = Field(default=70, ge=1, le=10_000)

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
            raise ValueError(f"valid is up to {MAX_CHARTS} symbols with commas between")
        return chosen

    @field_validator("mail_to", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(p.strip() for p in value.split(",") if p.strip()) if isinstance(value, str) else value

    @field_validator("polygon_api_key", "smtp_password")
    @classmethod
    def _one_line(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if not (text.isascii() and text.isprintable()):
            raise ValueError("valid is printable ASCII text in one line")
        return value

    @property
    def transport(self) -> Literal["outbox", "smtp", "ses"]:
        """How mail leaves: what ``MAIL_TRANSPORT`` says, or SMTP as soon as ``SMTP_HOST`` is set, else the outbox."""
        if self.mail_transport == "auto":
            return "smtp" if self.smtp_host else "outbox"
        return self.mail_transport

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the Secrets Manager secret between the environment and ``.env``."""
        return init_settings, env_settings, _SecretSource(settings_cls, dotenv_settings), dotenv_settings


class _SecretSource(PydanticBaseSettingsSource):
    """One Secrets Manager secret, a JSON object with any of :data:`SECRET_KEYS`; fetched only if named."""

    def __init__(self, settings_cls: type[BaseSettings], dotenv: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._dotenv = dotenv

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        # .env is the source after this one, but the name of the secret may stand there.
        named = self.current_state.get("secret_id") or self._dotenv().get("secret_id")
        if not named:
            return {}
        return {name.lower(): value for name, value in read_secret(str(named)).items() if value}


def read_secret(secret_id: str) -> dict[str, str]:
    """The settings inside a Secrets Manager secret.

    Parameters
    ----------
    secret_id : str
        Name or ARN.

    Returns
    -------
    dict of str to str
        Any of :data:`SECRET_KEYS`.

    Raises
    ------
    ConfigError
        If the secret cannot be read or is not a JSON object of those keys; no value is named.
    """
    import boto3
    from aws_lambda_powertools.utilities.parameters import SecretsProvider
    from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    session = boto3.session.Session()
    limits = Config(connect_timeout=SECRETS_TIMEOUT, read_timeout=SECRETS_TIMEOUT, retries={"total_max_attempts": 3})
    try:
        # A provider of its own has no cache: the settings are kept, and read again when a credential is refused.
        text: Any = SecretsProvider(boto_config=limits, boto3_session=session).get(secret_id)
    except (GetParameterError, BotoCoreError) as error:
        place = f"Secrets Manager in {session.region_name or 'no region (AWS_DEFAULT_REGION is not set)'}"
        cause = str(error).splitlines()[0]
        raise ConfigError(f"SECRET_ID is {secret_id!r}, which {place} does not give out: {cause}") from None
    valid = f"valid is a JSON object of text with any of {', '.join(SECRET_KEYS)}"
    try:
        values = json.loads(text)
    except ValueError:
        raise ConfigError(f"the secret {secret_id!r} is not JSON; {valid}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"the secret {secret_id!r} is JSON, but not an object; {valid}")
    for name, value in values.items():
        if name not in SECRET_KEYS or not isinstance(value, str):
            raise ConfigError(f"the secret {secret_id!r} has the key {name!r}, which is unknown or not text; {valid}")
    return values


def load_settings() -> Settings:
    """Read and check all settings.

    Returns
    -------
    Settings

    Raises
    ------
    ConfigError
        Naming the variable, its value (unless secret) and what is valid, in one line.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(detail) for detail in error.errors())) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f".env is not UTF-8 text: {error.reason} at byte {error.start}") from None


def _explain(detail: Any) -> str:
    field, value = str(detail["loc"][0]), detail["input"]
    reason = str(detail["msg"]).removeprefix("Value error, ")
    secret = Settings.model_fields[field].annotation is SecretStr if field in Settings.model_fields else True
    shown = "not usable" if secret else repr(value)
    return f"{field.upper()} is {shown}: {reason[:1].lower()}{reason[1:]}"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read at the first call and kept; ``settings.cache_clear()`` forgets them."""
    return load_settings()


def read_again(used: Settings) -> bool:
    """Read the settings of this process again, its secret included.

    Returns
    -------
    bool
        Whether any of :data:`SECRET_KEYS` is another one now than the one used.

    Raises
    ------
    ConfigError
        As :func:`load_settings`.
    """
    settings.cache_clear()
    return any(getattr(settings(), key.lower()) != getattr(used, key.lower()) for key in SECRET_KEYS)
