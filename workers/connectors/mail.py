"""`mail.send`: one message by SMTP, with what may go wrong sorted by who can help.

Until the text is handed over nothing was sent, so whatever fails before may be tried again. When
the server falls silent after it, nobody can tell whether the message is on its way: that is
`mail.unconfirmed`, which is not retried unless the step says `idempotent: true`. The Message-ID
is made of the step's idempotency key, so a message that was sent again is known to be the same.
"""

import smtplib
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.errors import HeaderParseError
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, parseaddr
from typing import Annotated, Any, Literal

from pydantic import Field

from workers.context import TaskContext
from workers.errors import PermanentError, TaskError
from workers.registry import task
from workflows.language.fields import Timeout
from workflows.language.words import ErrorClass

CODES: Mapping[str, ErrorClass] = {
    "mail.connect": ErrorClass.TRANSIENT,
    "mail.timeout": ErrorClass.TIMEOUT,
    "mail.deferred": ErrorClass.TRANSIENT,
    "mail.refused": ErrorClass.PERMANENT,
    "mail.login": ErrorClass.PERMANENT,
    "mail.tls": ErrorClass.PERMANENT,
    "mail.invalid": ErrorClass.PERMANENT,
    "mail.unconfirmed": ErrorClass.UNCERTAIN,
}
SERVER_SAYS_NEVER = 500

Address = Annotated[str, Field(min_length=3, max_length=320)]
Port = Annotated[int, Field(ge=1, le=65535)]
Tls = Literal["none", "starttls", "tls"]


@task("mail.send", idempotent=False, codes=CODES)
def send(  # noqa: PLR0913, PLR0917 - a step's parameters, given by name
    host: str,
    from_: Address,
    to: Address | Annotated[list[Address], Field(min_length=1, max_length=100)],
    subject: str,
    text: str,
    context: TaskContext,
    html: str | None = None,
    reply_to: Address | None = None,
    port: Port | None = None,
    tls: Tls = "none",
    username: str | None = None,
    password: str | None = None,
    timeout: Timeout = 30.0,
) -> dict[str, Any]:
    """Send a mail by SMTP.

    `port` is 25 unless given, 587 with `tls: starttls`, 465 with `tls: tls`. The output is
    `{message_id, accepted, refused}`: the addresses the server took, and those it did not, each
    with its answer. If it takes none of them the step fails: `mail.deferred` when the server asks
    to come back later, else `mail.refused`.
    """
    recipients = [to] if isinstance(to, str) else to
    message = _message(from_, recipients, subject, text, context)
    if html is not None:
        message.add_alternative(html, subtype="html")
    if reply_to is not None:
        _set(message, "Reply-To", reply_to)
    server = f"{host}:{port or {'none': 25, 'starttls': 587, 'tls': 465}[tls]}"
    with _faults_of(server), _connected(server, tls, timeout) as smtp:
        if username is not None:
            smtp.login(username, password or "")
        smtp.ehlo_or_helo_if_needed()
        refused = _envelope(smtp, from_, recipients, server)
        _hand_over(smtp, message.as_bytes(policy=SMTP), server, context)
    return {
        "message_id": message["Message-ID"],
        "accepted": [address for address in recipients if address not in refused],
        "refused": refused,
    }


def _message(
    sender: str, recipients: list[str], subject: str, text: str, context: TaskContext
) -> EmailMessage:
    message = EmailMessage()
    _set(message, "From", sender)
    _set(message, "To", ", ".join(recipients))
    _set(message, "Subject", subject)
    message["Date"] = formatdate(usegmt=True)
    domain = _mailbox(sender).rpartition("@")[2]
    key = "".join(sign if sign.isalnum() else "-" for sign in context.idempotency_key)
    message["Message-ID"] = f"<{key}@{domain}>"
    message.set_content(text)
    return message


def _set(message: EmailMessage, header: str, value: str) -> None:
    try:
        message[header] = value
    except (ValueError, HeaderParseError) as error:
        said = f"The header {header} of the mail cannot be `{value[:100]}`: {error}."
        raise PermanentError(said, code="mail.invalid") from None


def _mailbox(address: str) -> str:
    """Return `ada@example.com` of `Ada <ada@example.com>`."""
    mailbox = parseaddr(address)[1]
    local, _, domain = mailbox.rpartition("@")
    if not (local and domain and mailbox.isascii()):
        message = f"`{address[:100]}` is no mail address. Write ada@example.com."
        raise PermanentError(message, code="mail.invalid")
    return mailbox


@contextmanager
def _connected(server: str, tls: Tls, timeout: float) -> Iterator[smtplib.SMTP]:
    host, _, port = server.rpartition(":")
    smtp: smtplib.SMTP
    if tls == "tls":
        trust = ssl.create_default_context()
        smtp = smtplib.SMTP_SSL(host, int(port), timeout=timeout, context=trust)
    else:
        smtp = smtplib.SMTP(host, int(port), timeout=timeout)
    try:
        if tls == "starttls":
            smtp.starttls(context=ssl.create_default_context())
        yield smtp
    finally:
        smtp.close()


@contextmanager
def _faults_of(server: str) -> Iterator[None]:
    """Name the code of what smtplib and the system raise."""
    try:
        yield
    except smtplib.SMTPAuthenticationError as error:
        raise _refusal(server, "the login", error.smtp_code, error.smtp_error, "login") from None
    except smtplib.SMTPResponseException as error:
        raise _refusal(server, "the connection", error.smtp_code, error.smtp_error) from None
    except ssl.SSLError as error:
        message = f"{server} cannot be trusted: {error.reason or error}."
        raise TaskError(message, code="mail.tls") from error
    except smtplib.SMTPNotSupportedError as error:
        raise TaskError(f"{server} cannot do what was asked: {error}", code="mail.tls") from error
    except (smtplib.SMTPException, OSError) as error:
        # smtplib makes a lost connection of a read that takes too long.
        if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
            raise TaskError(f"{server} did not answer in time.", code="mail.timeout") from error
        message = f"{server} cannot be reached, or broke the connection: {error}."
        raise TaskError(message, code="mail.connect") from error


def _envelope(
    smtp: smtplib.SMTP, sender: str, recipients: list[str], server: str
) -> dict[str, str]:
    """Name sender and recipients; return the recipients that the server did not take."""
    code, answer = smtp.mail(_mailbox(sender))
    if code >= 400:  # noqa: PLR2004 - RFC 5321: 4yz and 5yz are refusals
        raise _refusal(server, f"the sender {sender}", code, answer)
    refusals: dict[str, tuple[int, bytes]] = {}
    for address in recipients:
        code, answer = smtp.rcpt(_mailbox(address))
        if code >= 400:  # noqa: PLR2004
            refusals[address] = code, answer
    if len(refusals) == len(recipients):
        code, answer = min(refusals.values())
        raise _refusal(server, f"every recipient ({', '.join(recipients)[:200]})", code, answer)
    return {address: _said(code, answer) for address, (code, answer) in refusals.items()}


def _hand_over(smtp: smtplib.SMTP, content: bytes, server: str, context: TaskContext) -> None:
    """Send the text. Without an answer to it, nobody knows."""
    try:
        code, answer = smtp.data(content)
    except smtplib.SMTPDataError as error:
        raise _refusal(server, "the message", error.smtp_code, error.smtp_error) from None
    except (smtplib.SMTPServerDisconnected, OSError) as error:
        message = f"{server} fell silent while it took the message, which may be on its way."
        known = ErrorClass.TRANSIENT if context.idempotent else ErrorClass.UNCERTAIN
        raise TaskError(message, code="mail.unconfirmed", error_class=known) from error
    if code >= 400:  # noqa: PLR2004
        raise _refusal(server, "the message", code, answer)


def _refusal(server: str, what: str, code: int, answer: bytes | str, kind: str = "") -> TaskError:
    later = code < SERVER_SAYS_NEVER
    said = _said(code, answer)
    name = "deferred" if later else kind or "refused"
    return TaskError(
        f"{server} refuses {what}: {said}", code=f"mail.{name}", details={"said": said}
    )


def _said(code: int, answer: bytes | str) -> str:
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    return f"{code} {text[:500]}".strip()
