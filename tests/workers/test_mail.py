"""`mail.send` against a real SMTP server: what it hands over, and what it makes of refusals."""

import socket
from collections.abc import Iterator
from email import message_from_bytes
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.workers.builders import assignment, carry_out, error_of, output_of
from workers.executor import execute
from workflows.language.words import ErrorClass

MAIL = {
    "from": "Care <care@example.com>",
    "to": "ada@example.com",
    "subject": "Grüße",
    "text": "Hello\n.\nend",
}


class PostOffice:
    """Keeps the mails it takes; answers an address or a text as it was told to."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.answers: dict[str, str] = {}
        self.hangs_up = False

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _: SMTP, __: Session, envelope: Envelope, address: str, ___: list[str]
    ) -> str:
        answer = self.answers.get(address, "250 ok")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, _: Session, envelope: Envelope
    ) -> str:
        if self.hangs_up:
            server.transport.abort()
            return "421 bye"
        self.mails.append(envelope)
        return self.answers.get("DATA", "250 taken")


@pytest.fixture
def office() -> PostOffice:
    return PostOffice()


@pytest.fixture
def port(office: PostOffice) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    server = Controller(office, hostname="127.0.0.1", port=number)
    server.start()
    yield number
    server.stop()


def send(port: int, **changes: Any) -> Any:
    """Send the usual mail to this port of this machine, with some changes."""
    return carry_out("mail.send", host="127.0.0.1", port=port, **(MAIL | changes))


def test_a_mail_arrives_as_it_was_written(office: PostOffice, port: int) -> None:
    output = output_of(send(port))

    mail = message_from_bytes(office.mails[0].content)
    assert mail.get_payload(decode=True) == b"Hello\n.\nend\n".replace(b"\n", b"\r\n")
    assert office.mails[0].rcpt_tos == ["ada@example.com"]
    assert output["message_id"] == mail["Message-ID"]


def test_the_message_id_is_the_same_for_every_attempt(office: PostOffice, port: int) -> None:
    arguments = {"host": "127.0.0.1", "port": port, **MAIL}

    for attempt in (1, 2):
        execute(assignment("mail.send", arguments, attempt=attempt))

    first, second = (message_from_bytes(mail.content)["Message-ID"] for mail in office.mails)
    assert first == second == "<run-1-step@example.com>"


def test_an_address_that_is_refused_does_not_keep_the_others_from_their_mail(
    office: PostOffice, port: int
) -> None:
    office.answers["gone@example.com"] = "550 no such person"

    output = output_of(send(port, to=["ada@example.com", "gone@example.com"]))

    assert output["accepted"] == ["ada@example.com"]
    assert output["refused"] == {"gone@example.com": "550 no such person"}


@pytest.mark.parametrize(
    ("place", "answer", "code", "error_class"),
    [
        ("ada@example.com", "550 no such person", "mail.refused", ErrorClass.PERMANENT),
        ("ada@example.com", "451 come back later", "mail.deferred", ErrorClass.TRANSIENT),
        ("DATA", "554 this is spam", "mail.refused", ErrorClass.PERMANENT),
        ("DATA", "452 no room", "mail.deferred", ErrorClass.TRANSIENT),
    ],
)
def test_what_the_server_says_decides_whether_it_is_tried_again(  # noqa: PLR0913, PLR0917
    office: PostOffice, port: int, place: str, answer: str, code: str, error_class: ErrorClass
) -> None:
    office.answers[place] = answer

    error = error_of(send(port))

    assert (error.code, error.error_class) == (code, error_class)
    assert answer in error.message


def test_silence_after_the_text_is_uncertain_and_never_tried_again(
    office: PostOffice, port: int
) -> None:
    office.hangs_up = True

    error = error_of(send(port))

    assert (error.code, error.error_class) == ("mail.unconfirmed", ErrorClass.UNCERTAIN)


def test_a_server_that_is_away_is_worth_another_try() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))

        error = error_of(send(bound.getsockname()[1]))

    assert (error.code, error.error_class) == ("mail.connect", ErrorClass.TRANSIENT)


def test_a_server_that_says_nothing_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = error_of(send(silent.getsockname()[1], timeout=0.1))

    assert (error.code, error.error_class) == ("mail.timeout", ErrorClass.TIMEOUT)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "Hello\r\nBcc: everybody@example.com"},
        {"from": "nobody"},
        {"to": "grüße@example.com"},
    ],
)
def test_what_cannot_be_a_header_or_an_address_is_refused_before_it_is_sent(
    office: PostOffice, port: int, change: dict[str, str]
) -> None:
    error = error_of(send(port, **change))

    assert error.code == "mail.invalid"
    assert office.mails == []


def test_a_server_without_tls_is_not_trusted_with_a_mail_that_asks_for_it(
    office: PostOffice, port: int
) -> None:
    error = error_of(send(port, tls="starttls"))

    assert error.code == "mail.tls"
    assert office.mails == []
