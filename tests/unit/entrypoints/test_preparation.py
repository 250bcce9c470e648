"""INIT on Lambda: it prepares what it can, and an error there is left to the invocation."""

import threading
from functools import partial
from importlib.util import find_spec

import pytest

from config import Settings
from domain.errors import ConfigError
from domain.validation import validate_bars
from entrypoints import preparation
from entrypoints.preparation import prepare, rehearse
from report import delivery
from report.chart_config import CHART_SESSIONS


def test_the_rehearsal_rejects_no_bar_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answers = []

    def validate(*given):
        answers.append(validate_bars(*given))
        return answers[-1]

    monkeypatch.setattr(preparation, "validate_bars", validate)
    rehearse()
    ((accepted, rejected),) = answers
    assert len(accepted) == 2 * CHART_SESSIONS
    assert rejected == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", preparation.LATER)
def test_a_module_that_is_imported_in_advance_exists(name):
    assert find_spec(name)


def test_settings_that_cannot_be_read_are_left_to_the_invocation(monkeypatch):
    def refuse():
        raise ConfigError("SECRET_ID is 'x', which cannot be read")

    monkeypatch.setattr(preparation, "settings", refuse)
    prepare()


def test_settings_that_are_late_do_not_use_up_the_time_of_init(monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(preparation, "settings", answered.wait)
    monkeypatch.setattr(preparation, "SETTINGS_SECONDS", 0.1)
    prepare()
    answered.set()


@pytest.mark.parametrize("transport", ["ses", "smtp"])
def test_the_first_mail_finds_its_client_or_certificates_built(monkeypatch, transport):
    """A client of SES is built twenty times sooner once another one has read the files of botocore."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    configured = Settings(mail_transport=transport, smtp_host="mail.example.com")
    monkeypatch.setattr(preparation, "settings", lambda: configured)
    built = []

    def counted(name, make, *given):
        built.append(name)
        return make(*given)

    for name in ("_ses_client", "_trusting"):
        monkeypatch.setattr(delivery, name, partial(counted, name, getattr(delivery, name)))
    prepare()
    assert built == [{"ses": "_ses_client", "smtp": "_trusting"}[transport]]
