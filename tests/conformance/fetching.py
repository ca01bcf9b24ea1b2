"""A page of a browser as far as other origins go: preflights, the CORS check, and the fields that a script sees.

WHATWG Fetch §3.2 (HTTP-CORS protocol), §4.8 (CORS-preflight fetch), §4.9 (CORS check).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.conformance.servers import Answer, Server, get

SAFE_METHODS = {"GET", "HEAD", "POST"}
SAFE_REQUEST_HEADERS = {"accept", "accept-language", "content-language"}
SAFE_RESPONSE_HEADERS = {
    "cache-control",
    "content-language",
    "content-length",
    "content-type",
    "expires",
    "last-modified",
    "pragma",
}


class NetworkError(Exception):
    """What `fetch` rejects with: the page learns nothing of the answer."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of `origin`."""

    origin: str

    def fetch(
        self,
        server: Server,
        target: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        credentials: bool = False,
    ) -> Answer:
        """The answer as a script sees it. Raises `NetworkError` where a browser hides it."""
        asked = {name.lower(): value for name, value in (headers or {}).items()}
        unsafe = sorted(asked.keys() - SAFE_REQUEST_HEADERS)
        if unsafe or method not in SAFE_METHODS:
            self._preflight(server, target, method, unsafe, credentials=credentials)
        sent = "".join(f"{name}: {value}\r\n" for name, value in asked.items())
        answer = get(server, target, method=method, headers=f"Origin: {self.origin}\r\n{sent}")
        self._check(answer, credentials=credentials)
        exposed = names(answer, "access-control-expose-headers") | SAFE_RESPONSE_HEADERS
        seen = {name: value for name, value in answer.headers.items() if name in exposed}
        return Answer(answer.status, seen, answer.body)

    def _preflight(self, server: Server, target: str, method: str, unsafe: list[str], *, credentials: bool) -> None:
        sent = f"Origin: {self.origin}\r\nAccess-Control-Request-Method: {method}\r\n"
        if unsafe:
            sent += f"Access-Control-Request-Headers: {','.join(unsafe)}\r\n"
        answer = get(server, target, method="OPTIONS", headers=sent)
        self._check(answer, credentials=credentials)
        if not 200 <= answer.status < 300:
            raise NetworkError(f"the preflight was answered {answer.status}")
        if method.lower() not in names(answer, "access-control-allow-methods") | {"get", "head", "post"}:
            raise NetworkError(f"{method} is not allowed")
        refused = set(unsafe) - names(answer, "access-control-allow-headers")
        if refused:
            raise NetworkError(f"{sorted(refused)} are not allowed")

    def _check(self, answer: Answer, *, credentials: bool) -> None:
        allowed = answer.headers.get("access-control-allow-origin")
        if allowed == "*" and not credentials:
            return
        if allowed != self.origin:
            raise NetworkError(f"{allowed} is not {self.origin}")
        if credentials and answer.headers.get("access-control-allow-credentials") != "true":
            raise NetworkError("no credentials")


def names(answer: Answer, field: str) -> set[str]:
    return {name.strip().lower() for name in answer.headers.get(field, "").split(",")}
