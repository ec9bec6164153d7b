"""How the load speaks to the platform: by REST, with a token; what nobody should hear is noted."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

TIMEOUT = 40.0
SERVER_ERROR = 500
UNAVAILABLE = frozenset({502, 503, 504})


@dataclass(slots=True)
class Speech:
    """What is said to a web server that may be killed at any moment."""

    web: str
    faults: list[dict[str, Any]] = field(default_factory=list)
    """Answers that no caller should ever get."""
    unanswered: int = 0

    def token(self, name: str, password: str) -> str:
        """Return a token of somebody."""
        place, who = f"{self.web}/api/v1/tokens/", (name, password)
        answer = httpx.post(place, auth=who, json={}, timeout=TIMEOUT)
        token: str = answer.raise_for_status().json()["token"]
        return token

    def client(self, token: str) -> httpx.Client:
        """Return a client for whoever has the token."""
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.web, headers=headers, timeout=TIMEOUT)

    def list(self, client: httpx.Client, place: str, **query: Any) -> list[dict[str, Any]]:
        """Return the first page of a list; nothing when nobody answers."""
        answer = self.get(client, place, query)
        if answer is None or not answer.is_success:
            return []
        found: list[dict[str, Any]] = answer.json()["results"]
        return found

    def get(
        self, client: httpx.Client, place: str, query: Mapping[str, Any]
    ) -> httpx.Response | None:
        """Return what is at a place; None where there was nobody."""
        return self._said(place, lambda: client.get(f"/api/v1/{place}", params=dict(query)))

    def post(
        self,
        client: httpx.Client,
        place: str,
        body: Any,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response | None:
        """Return the answer to an order; None where there was nobody."""
        told = dict(headers or {})
        return self._said(place, lambda: client.post(f"/api/v1/{place}", json=body, headers=told))

    def call(self, client: httpx.Client, url: str, body: Any) -> httpx.Response | None:
        """Return the answer to a callback; None where there was nobody."""
        return self._said("callback", lambda: client.post(url, json=body))

    def _said(self, place: str, ask: Callable[[], httpx.Response]) -> httpx.Response | None:
        """Return the answer, or None where there was nobody; note what should not be."""
        try:
            answer = ask()
        except httpx.TimeoutException:
            self.faults.append({"at": time.time(), "place": place, "what": "no answer in time"})
            return None
        except httpx.TransportError:
            self.unanswered += 1
            return None
        if answer.status_code >= SERVER_ERROR and answer.status_code not in UNAVAILABLE:
            what = f"{answer.status_code} {answer.text[:300]}"
            self.faults.append({"at": time.time(), "place": place, "what": what})
        return answer
