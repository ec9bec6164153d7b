"""The systems that the onboarding talks to, small enough to ship: accounts by HTTP, mail by SMTP.

They listen on free loopback ports and keep what they were told, in order. Like real ones, the
accounts answer a repeated idempotency key with the first answer and do nothing a second time.
"""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http import HTTPStatus
from typing import Any

from examples.servers import Answer, Handler, Request, serving


@dataclass(frozen=True, slots=True)
class Call:
    """What a target was asked to do, and under which key: the mail's is its Message-ID."""

    what: str
    key: str
    told: dict[str, Any]


@dataclass(slots=True)
class Targets:
    """Both servers while they listen, and every call they took.

    While `out_of_plans` the accounts server refuses to provision anybody.
    """

    accounts_url: str = ""
    mail_port: int = 0
    calls: list[Call] = field(default_factory=list)
    out_of_plans: bool = False
    _answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    _one_by_one: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, call: Call) -> dict[str, Any]:
        """Do what an account server does, once for each key."""
        with self._one_by_one:
            if call.key not in self._answers:
                self.calls.append(call)
                self._answers[call.key] = {"id": f"account-{len(self.calls)}", **call.told}
            return self._answers[call.key]

    def take(self, mail: bytes) -> None:
        """Keep a mail."""
        message = message_from_bytes(mail)
        headers = {name: message[name] for name in ("From", "To", "Subject")}
        with self._one_by_one:
            text = message.get_payload(decode=True)
            told = {**headers, "text": text.decode() if isinstance(text, bytes) else ""}
            self.calls.append(Call("mail", message["Message-ID"], told))


@contextmanager
def listening() -> Iterator[Targets]:
    """Have both targets listen until the block ends."""
    targets = Targets()
    mail = _MailServer(("127.0.0.1", 0), _mail_of(targets))
    threading.Thread(target=mail.serve_forever, args=(0.05,), daemon=True).start()
    try:
        with serving(_accounts_of(targets)) as targets.accounts_url:
            targets.mail_port = mail.server_address[1]
            yield targets
    finally:
        mail.shutdown()
        mail.server_close()


class _MailServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def _accounts_of(targets: Targets) -> Handler:
    """Answer POST /accounts, and POST /accounts/<id>/plan."""

    def answer(asked: Request) -> Answer:
        if targets.out_of_plans and asked.path.endswith("/plan"):
            return HTTPStatus.CONFLICT, {"why": "no plan is left"}
        return HTTPStatus.CREATED, targets.answer(Call(asked.what, asked.key, asked.body or {}))

    return answer


def _mail_of(targets: Targets) -> type[socketserver.StreamRequestHandler]:
    class Mail(socketserver.StreamRequestHandler):
        """As much of RFC 5321 as a client needs that sends one mail."""

        def handle(self) -> None:
            self._say("220 onboarding ready")
            for line in self.rfile:
                match line.split(maxsplit=1)[0].upper() if line.strip() else b"":
                    case b"DATA":
                        self._say("354 go on, and end with a dot")
                        targets.take(self._message())
                        self._say("250 taken")
                    case b"QUIT":
                        self._say("221 bye")
                        return
                    case b"EHLO" | b"HELO" | b"MAIL" | b"RCPT" | b"RSET" | b"NOOP":
                        self._say("250 ok")
                    case _:
                        self._say("500 what?")

        def _message(self) -> bytes:
            lines = iter(self.rfile.readline, b".\r\n")
            return b"".join(line.removeprefix(b".") for line in lines)

        def _say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    return Mail
