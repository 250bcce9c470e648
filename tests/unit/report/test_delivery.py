import asyncio
import email
import email.policy
import json
import logging
import re
import socket
import threading
import time
from email.message import EmailMessage
from typing import Any, cast

import boto3
import hypothesis
import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from config import Settings
from domain.errors import ConfigError, CredentialsError, DeliveryError
from report import delivery as delivery_module
from report.delivery import NotAcceptedError, send
from sandbox.local_http import LocalServer, Reply
from tests.support.mail_server import (
    PASSWORD,
    Box,
    conversation,
    drip,
    make_certificate,
    raw_server,
    server_context,
    smtp_server,
)

ONE, TWO = "one@example.com", "two@example.com"


def message(name="weekly-report-2013-03-01", subject="Best: A: 2.0%"):
    mail = EmailMessage(policy=email.policy.SMTP)
    mail["Subject"], mail["From"], mail["To"] = subject, "from@example.com", f"{ONE}, {TWO}"
    mail["Message-ID"] = f"<{name}@example.com>"
    mail.set_content("Grüße\n.\n.dot\n")
    return mail


def settings(port=25, **changes):
    values = {
        "mail_transport": "smtp",
        "mail_from": "from@example.com",
        "mail_to": (ONE, TWO),
        "smtp_host": "127.0.0.1",
        "smtp_port": port,
        "smtp_security": "none",
    }
    return Settings(_env_file=None, **values | changes)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server_side(certificate):
    return server_context(certificate)


@pytest.fixture
def trusted(certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(delivery_module, "_FIRST_PAUSE", 0.05)


@pytest.fixture
def attempts(caplog):
    """A function that returns the logged attempts, without their durations."""
    caplog.set_level(logging.DEBUG, logger="stock_tracker.report.delivery")

    def logged():
        lines = [record.getMessage() for record in caplog.records if record.name == "stock_tracker.report.delivery"]
        return [re.fullmatch(r"(.*) in \d+ ms", line).group(1) for line in lines]

    return logged


# SMTP


def test_a_mail_reaches_all_recipients_unchanged():
    box, mail = Box(), message()
    with smtp_server(box) as port:
        delivery = send(mail, settings(port))
    assert (delivery.transport, delivery.recipients) == ("smtp", (ONE, TWO))
    assert (delivery.waiting, delivery.refused) == ({}, {})
    [(sender, recipients, content)] = box.mails
    assert (sender, recipients) == ("from@example.com", [ONE, TWO])
    assert content == mail.as_bytes()


def test_a_recipient_named_twice_gets_one_mail():
    box = Box()
    with smtp_server(box) as port:
        send(message(), settings(port, mail_to=(ONE, ONE)))
    assert box.mails[0][1] == [ONE]


@pytest.mark.usefixtures("trusted")
def test_starttls_and_login(server_side):
    box = Box()
    options = {"tls_context": server_side, "require_starttls": True, "authenticator": box.log_in, "auth_required": True}
    with smtp_server(box, **options) as port:
        send(message(), settings(port, smtp_security="starttls", smtp_user="me", smtp_password=PASSWORD))
    assert (len(box.mails), box.logins) == (1, [("me", PASSWORD)])


@pytest.mark.usefixtures("trusted")
def test_tls_from_the_first_byte(server_side):
    box = Box()
    with smtp_server(box, ssl_context=server_side) as port:
        send(message(), settings(port, smtp_security="tls"))
    assert len(box.mails) == 1


def test_an_untrusted_certificate_is_refused_at_once(server_side):
    box = Box()
    with smtp_server(box, tls_context=server_side) as port, pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY"):
        send(message(), settings(port, smtp_security="starttls"))
    assert box.mails == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_server_without_encryption_never_sees_the_password(security):
    box = Box()
    wanted = {"smtp_security": security, "smtp_user": "me", "smtp_password": PASSWORD}
    with smtp_server(box) as port, pytest.raises(DeliveryError, match=rf"check SMTP_SECURITY \({security}\)") as caught:
        send(message(), settings(port, **wanted), timeout=1)
    assert box.logins == []
    assert PASSWORD not in str(caught.value)


def test_a_refused_login_is_one_line_without_the_password(attempts, caplog):
    box = Box()
    options: dict[str, Any] = {"authenticator": box.log_in, "auth_require_tls": False}
    wanted = {"smtp_user": "me", "smtp_password": "wrong-secret"}
    with smtp_server(box, **options) as port, pytest.raises(CredentialsError) as caught:
        send(message(), settings(port, **wanted))
    text = str(caught.value)
    assert text.startswith(f"the mail server 127.0.0.1:{port} refused the login of 'me': 535 ")
    assert text.endswith("check SMTP_USER and SMTP_PASSWORD")
    assert "\n" not in text
    assert attempts() == [f"mail to 127.0.0.1:{port}: 0 of 2 recipients accepted"]
    assert "wrong-secret" not in text + caplog.text


def test_a_refused_recipient_does_not_keep_the_mail_from_the_others():
    box = Box({TWO: ["550 no such mailbox"]})
    with smtp_server(box) as port:
        delivery = send(message(), settings(port))
    assert delivery.recipients == (ONE,)
    assert delivery.refused == {TWO: "550 no such mailbox"}
    assert [recipients for _, recipients, _ in box.mails] == [[ONE]]


def test_a_greylisted_recipient_gets_the_mail_later_and_the_other_only_once():
    box = Box({TWO: ["451 greylisted, come back"]})
    with smtp_server(box) as port:
        delivery = send(message(), settings(port))
    assert (delivery.recipients, delivery.refused) == ((ONE, TWO), {})
    assert [recipients for _, recipients, _ in box.mails] == [[ONE], [TWO]]


def test_what_the_server_says_is_one_clean_line():
    box = Box({TWO: ["550 no \x1b[31msuch\x07 box " + "x" * 300]})
    with smtp_server(box) as port:
        (reply,) = send(message(), settings(port)).refused.values()
    assert reply == "550 no such box " + "x" * 183 + "…"


def test_when_all_recipients_are_refused_each_is_named_with_its_reply():
    box = Box({ONE: ["550 unknown"], TWO: ["550 blocked"]})
    with smtp_server(box) as port, pytest.raises(DeliveryError) as caught:
        send(message(), settings(port))
    assert f"accepted no recipient: {ONE}: 550 unknown; {TWO}: 550 blocked" in str(caught.value)
    assert box.mails == []


def test_a_transient_failure_is_retried_and_every_attempt_is_logged(attempts):
    box = Box(accept=lambda box: "250 OK" if box.attempts == 2 else "451 try later")
    with smtp_server(box) as port:
        assert send(message(), settings(port)).recipients == (ONE, TWO)
    assert (box.attempts, len(box.mails)) == (2, 1)
    assert attempts() == [f"mail to 127.0.0.1:{port}: {n} of 2 recipients accepted" for n in (0, 2)]


def test_a_permanent_failure_is_not_retried():
    box = Box(accept=lambda box: "554 looks like spam")
    with (
        smtp_server(box) as port,
        pytest.raises(DeliveryError, match=r"accepted no recipient: .*: 554 looks like spam"),
    ):
        send(message(), settings(port))
    assert box.attempts == 1


def test_a_transient_failure_that_stays_is_given_up_at_the_timeout():
    box, started = Box(accept=lambda box: "451 try later"), time.monotonic()
    with smtp_server(box) as port, pytest.raises(DeliveryError, match="451 try later"):
        send(message(), settings(port), timeout=1)
    assert time.monotonic() - started < 1 + 2
    assert box.attempts >= 2


@pytest.mark.usefixtures("attempts")
def test_a_server_that_starts_late_is_waited_for(monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    failed = threading.Event()
    monkeypatch.setattr(delivery_module.logger, "filters", [lambda _: failed.set() or True])
    box, deliveries = Box(), []
    sender = threading.Thread(target=lambda: deliveries.append(send(message(), settings(port))))
    sender.start()
    assert failed.wait(10)
    with smtp_server(box, port=port):
        sender.join()
    assert deliveries[0].recipients == (ONE, TWO)


def test_a_server_that_hangs_up_after_accepting_the_mail_gets_it_once():
    class Rude(SMTP):
        async def smtp_QUIT(self, arg):  # noqa: N802
            cast(asyncio.Transport, self.transport).abort()

    box = Box()
    with smtp_server(box, server_class=Rude) as port:
        assert send(message(), settings(port)).recipients == (ONE, TWO)
    assert len(box.mails) == 1


def test_a_server_that_hangs_is_given_up_at_the_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(DeliveryError, match=r"no connection \(.*timed out\)"):
            send(message(), settings(silent.getsockname()[1]), timeout=0.3)
    assert time.monotonic() - started < 0.3 + 2


def silent(connection):
    """Read all and answer nothing."""
    while connection.recv(65_536):
        pass


def deaf(connection):
    """Leave everything unread."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    time.sleep(10)


def endless_record(connection):
    """Begin a TLS record of 16 KB and send a byte of it now and then."""
    connection.sendall(b"220 go\r\n")
    drip(connection, b"\x16\x03\x03\x40\x00" + bytes(16_000))


OFFERS_TLS = b"250-here\r\n250 STARTTLS\r\n"


@pytest.mark.parametrize(
    ("answers", "security"),
    [
        pytest.param({"GREETING": drip}, "none", id="a greeting that never ends"),
        pytest.param({"EHLO": drip}, "none", id="a feature a day"),
        pytest.param({"RCPT": drip}, "none", id="a recipient who is considered for ever"),
        pytest.param({"GREETING": silent}, "tls", id="a TLS handshake without an answer"),
        pytest.param({"EHLO": OFFERS_TLS, "STAR": endless_record}, "starttls", id="a handshake that never ends"),
        pytest.param({"CONTENT": silent}, "none", id="a mail without an answer"),
        pytest.param({"CONTENT": drip}, "none", id="an answer to the mail that never ends"),
    ],
)
def test_no_server_holds_the_delivery_past_its_timeout(answers, security):
    with raw_server(conversation(**answers)) as port:
        started = time.monotonic()
        with pytest.raises(DeliveryError, match=r"\(timed out\)"):
            send(message(), settings(port, smtp_security=security), timeout=0.7)
        assert time.monotonic() - started < 0.7 + 2


def test_a_server_that_does_not_read_the_mail_is_given_up_at_the_timeout():
    large = message()
    large.add_attachment(bytes(8_000_000), "image", "png")
    with raw_server(conversation(DATA=lambda c: (c.sendall(b"354 go\r\n"), deaf(c)))) as port:
        started = time.monotonic()
        with pytest.raises(DeliveryError, match=r"\(timed out\)"):
            send(large, settings(port), timeout=1)
        assert time.monotonic() - started < 1 + 2


def test_a_flood_of_replies_is_cut_off():
    def flood(connection):
        while True:
            connection.sendall(b"250-and so on\r\n" * 1_000)

    with raw_server(conversation(EHLO=flood)) as port, pytest.raises(DeliveryError, match="its reply is too long"):
        send(message(), settings(port), timeout=0.5)


def test_a_slow_name_server_is_given_up_at_the_timeout(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(3))
    started = time.monotonic()
    with pytest.raises(DeliveryError, match=r"no connection \(timed out\)"):
        send(message(), settings(), timeout=0.3)
    assert time.monotonic() - started < 0.3 + 2


def test_no_thread_and_no_connection_outlives_a_delivery():
    with raw_server(conversation(GREETING=drip)) as port:
        with pytest.raises(DeliveryError):
            send(message(), settings(port), timeout=0.3)
        gone = time.monotonic() + 2
        while any(isinstance(thread, threading.Timer) for thread in threading.enumerate()):
            assert time.monotonic() < gone
            time.sleep(0.01)


def test_a_server_that_dies_after_the_mail_gets_two_copies():
    mails: list[Any] = []
    with raw_server(conversation(CONTENT=mails.append)) as port, pytest.raises(NotAcceptedError) as caught:
        send(message(), settings(port), timeout=5)
    assert len(mails) == 2
    assert caught.value.delivery.doubtful
    assert f"{ONE}, {TWO}: no answer to the mail (Connection unexpectedly closed)" in str(caught.value)


@pytest.mark.parametrize("answer", [b"\xff\xfe\r\n", b"299 perhaps\r\n", b"250-" + b"x" * 9_000, b"354 more\r\n"])
def test_an_answer_to_the_mail_that_says_nothing_is_no_refusal(answer):
    with raw_server(conversation(CONTENT=answer)) as port, pytest.raises(NotAcceptedError) as caught:
        send(message(), settings(port), timeout=3)
    delivery = caught.value.delivery
    assert (delivery.doubtful, list(delivery.waiting), delivery.refused) == (True, [ONE, TWO], {})


def test_a_session_that_ends_before_the_mail_reaches_nobody():
    """smtplib names only the recipient whose reply ended the session, not those accepted before."""
    box = Box({TWO: ["421 too busy"]})
    with smtp_server(box) as port:
        delivery = send(message(), settings(port))
    assert (delivery.recipients, delivery.waiting) == ((ONE, TWO), {})
    assert [recipients for _, recipients, _ in box.mails] == [[ONE, TWO]]


def test_what_becomes_of_each_recipient_is_told():
    three = "three@example.com"
    box = Box({TWO: ["450 greylisted"] * 9, three: ["550 no such mailbox"]})
    with smtp_server(box) as port:
        delivery = send(message(), settings(port, mail_to=(ONE, TWO, three)), timeout=0.3)
    assert delivery.recipients == (ONE,)
    assert delivery.waiting == {TWO: "450 greylisted"}
    assert delivery.refused == {three: "550 no such mailbox"}
    assert not delivery.doubtful


def test_a_mail_can_go_to_some_of_the_recipients_only():
    box = Box()
    with smtp_server(box) as port:
        send(message(), settings(port), recipients=[TWO])
    assert [recipients for _, recipients, _ in box.mails] == [[TWO]]


def test_an_error_after_some_were_accepted_keeps_who_was():
    box = Box({TWO: ["451 later"]}, accept=lambda _: "250 OK")
    wanted = {"smtp_user": "me", "smtp_password": PASSWORD}
    logins = iter([True, False])

    def log_in(*_):
        return AuthResult(success=next(logins), handled=False)

    with smtp_server(box, authenticator=log_in, auth_require_tls=False) as port:
        delivery = send(message(), settings(port, **wanted))
    assert delivery.recipients == (ONE,)
    assert "refused the login of 'me'" in delivery.waiting[TWO]


@given(
    place=st.sampled_from(["GREETING", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "CONTENT", "QUIT"]),
    code=st.sampled_from([b"", b"250-", b"250 ", b"334 ", b"354 ", b"421 ", b"451 ", b"550 ", b"-1 "]),
    said=st.binary(max_size=60),
)
@hypothesis.settings(max_examples=60)
def test_whatever_a_server_says_the_error_is_ours_and_one_line(place, code, said):
    answers = {"EHLO": b"250-here\r\n250-AUTH PLAIN LOGIN CRAM-MD5\r\n250 SIZE\r\n", "AUTH": b"235 in\r\n"}

    def answer(connection):
        connection.sendall(code + said + b"\r\n")

    with raw_server(conversation(**answers | {place: answer})) as port:
        wanted = settings(port, smtp_user="me", smtp_password=PASSWORD)
        try:
            delivery = send(message(), wanted, timeout=0.1)
        except (DeliveryError, CredentialsError) as error:
            texts = [str(error)]
        else:
            texts = [*delivery.waiting.values(), *delivery.refused.values()]
    assert all(len(text.splitlines()) == 1 for text in texts)


def test_a_password_repeated_in_a_reply_is_masked():
    box = Box(accept=lambda box: f"554 I know {PASSWORD}")
    with smtp_server(box) as port, pytest.raises(DeliveryError, match=r"554 I know \*\*\*$"):
        send(message(), settings(port, smtp_password=PASSWORD))


def test_a_login_that_smtp_cannot_carry_is_an_error_without_the_password():
    box = Box()
    options: dict[str, Any] = {"authenticator": box.log_in, "auth_require_tls": False}
    wanted = {"smtp_user": "mé", "smtp_password": PASSWORD}
    with smtp_server(box, **options) as port, pytest.raises(DeliveryError, match="accepts only ASCII") as caught:
        send(message(), settings(port, **wanted))
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("missing", "setting"), [("mail_from", "MAIL_FROM"), ("mail_to", "MAIL_TO"), ("smtp_host", "SMTP_HOST")]
)
def test_a_missing_setting_is_named_before_any_connection(missing, setting):
    wanted = settings().model_copy(update={missing: type(getattr(settings(), missing))()})
    with pytest.raises(ConfigError, match=f"{setting} is not set, but mail by SMTP needs it"):
        send(message(), wanted)


# Amazon SES


@pytest.fixture
def aws(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        yield boto3.client("sesv2")


def ses_settings():
    return settings(mail_transport="ses", smtp_host="")


def test_ses_receives_the_whole_mail(aws, attempts):
    from moto.ses.models import ses_backends

    aws.create_email_identity(EmailIdentity="from@example.com")
    delivery = send(message(), ses_settings())
    assert (delivery.transport, delivery.recipients) == ("ses", (ONE, TWO))
    [sent] = next(iter(ses_backends.values()))["us-east-1"].sent_messages
    assert set(sent.destinations) == {ONE, TWO}
    assert "Message-ID: <weekly-report-2013-03-01@example.com>" in sent.raw_data
    assert attempts() == ["mail to Amazon SES: 2 of 2 recipients accepted"]


def test_the_error_repeats_why_ses_rejected_the_mail(aws):
    with pytest.raises(DeliveryError, match=r"Amazon SES accepted no recipient: .*MessageRejected") as caught:
        send(message(), ses_settings())
    assert "\n" not in str(caught.value)


@pytest.fixture
def strict_ses(monkeypatch):
    """SES for an account that may only mail to verified addresses; yields the lists of recipients it accepted."""
    accepted = []

    def respond(request):
        recipients = json.loads(request.body)["Destination"]["ToAddresses"]
        if unverified := [recipient for recipient in recipients if recipient != ONE]:
            body = {"message": f"Email address is not verified: {', '.join(unverified)}"}
            return Reply(400, json.dumps(body).encode(), {"x-amzn-ErrorType": "MessageRejected"})
        accepted.append(recipients)
        return Reply(200, b'{"MessageId": "1"}', {"Content-Type": "application/json"})

    server = LocalServer(respond)
    server.start()
    for name, value in {
        "AWS_ENDPOINT_URL_SESV2": server.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
    }.items():
        monkeypatch.setenv(name, value)
    yield accepted
    server.stop()


def test_a_recipient_that_ses_rejects_does_not_keep_the_mail_from_the_others(strict_ses):
    delivery = send(message(), ses_settings())
    assert (delivery.recipients, strict_ses) == ((ONE,), [[ONE]])
    assert list(delivery.refused) == [TWO]
    assert f"not verified: {TWO}" in delivery.refused[TWO]


def test_when_ses_rejects_all_recipients_each_is_named(strict_ses):
    with pytest.raises(DeliveryError, match=r"accepted no recipient.*three@example.com.*two@example.com"):
        send(message(), ses_settings().model_copy(update={"mail_to": ("three@example.com", TWO)}))
    assert strict_ses == []


def test_ses_that_is_busy_keeps_the_recipients_waiting(monkeypatch, strict_ses):
    busy = LocalServer(lambda _: Reply(429, b'{"message": "slow down"}', {"x-amzn-ErrorType": "TooManyRequests"}))
    busy.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", busy.url)
    with pytest.raises(NotAcceptedError, match="slow down") as caught:
        send(message(), ses_settings())
    busy.stop()
    delivery = caught.value.delivery
    assert (list(delivery.waiting), delivery.refused, delivery.doubtful) == ([ONE, TWO], {}, False)
    assert strict_ses == []


def test_ses_that_takes_the_mail_and_does_not_answer_is_given_up_at_the_timeout(monkeypatch, strict_ses):
    def converse(connection):
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        drip(connection, b"X-Header: x\r\n")

    with raw_server(converse) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", f"http://127.0.0.1:{port}")
        started = time.monotonic()
        with pytest.raises(NotAcceptedError, match=r"no answer to the mail \(timed out\)") as caught:
            send(message(), ses_settings(), timeout=1)
        assert time.monotonic() - started < 1 + 2
    assert caught.value.delivery.doubtful
    assert strict_ses == []


def test_ses_without_a_region_is_an_error_that_names_it(monkeypatch, tmp_path):
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(DeliveryError, match="You must specify a region"):
        send(message(), ses_settings())
