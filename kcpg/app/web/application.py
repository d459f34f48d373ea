"""The page's answers to GET and HEAD, for this machine or for whoever has the token."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable
from http.cookies import CookieError, SimpleCookie
from importlib import resources
from typing import Any
from urllib.parse import unquote

from kcpg.app.config.addresses import is_loopback
from kcpg.net.addr import strip_brackets

COOKIE = "kcpg"

# Nothing but our own files, no frames, no forms: what a peer could smuggle into a text has nowhere to go.
SECURITY = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>kcpg</title>
<link rel="icon" href="icon.svg">
<link rel="stylesheet" href="page.css">
<script src="page.js" defer></script>
</head>
<body>
<header><h1>kcpg</h1><p id="summary">asking …</p></header>
<ul id="troubles"></ul>
<section id="plots"></section>
<h2 id="links-title">Links</h2>
<div class="wide"><table id="links"></table></div>
<h2 id="flows-title">Flows</h2>
<div class="wide"><table id="flows"></table></div>
<noscript><p>This page needs its script. <code>kcpg top</code> shows the same in a terminal.</p></noscript>
</body>
</html>
"""

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
    '<path d="M1 12 L5 6 L9 10 L15 3" fill="none" stroke="#2a7de1" stroke-width="2"/></svg>'
)

Start = Callable[[str, list[tuple[str, str]]], Any]
Environ = dict[str, Any]
Answer = tuple[str, list[tuple[str, str]], bytes]


class Web:
    """A WSGI application. `data` gives what the page shows; `token` the token in force, empty for none."""

    def __init__(self, data: Callable[[], dict[str, Any]], token: Callable[[], str]) -> None:
        self._data = data
        self._token = token
        here = resources.files(__package__)
        self._files = {
            "/": ("text/html; charset=utf-8", PAGE.encode()),
            "/page.js": ("text/javascript; charset=utf-8", here.joinpath("page.js").read_bytes()),
            "/page.css": ("text/css; charset=utf-8", here.joinpath("page.css").read_bytes()),
            "/icon.svg": ("image/svg+xml", ICON.encode()),
        }

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        status, headers, body = self._answer(environ)
        start(status, [*headers, *SECURITY, ("Content-Length", str(len(body)))])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _answer(self, environ: Environ) -> Answer:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _plain("405 Method Not Allowed", "this page only reads", [("Allow", "GET, HEAD")])
        token = self._token()
        if not token and not is_local(environ.get("HTTP_HOST", "")):
            # A page elsewhere whose name was made to lead here must not read it (DNS rebinding).
            return _plain("403 Forbidden", "call it by 127.0.0.1, [::1] or localhost, or set web_token")
        if token:
            if same(_given(environ), token):
                cookie = f"{COOKIE}={_pass(token)}; HttpOnly; SameSite=Strict; Path=/"
                return "303 See Other", [("Location", "/"), ("Set-Cookie", cookie)], b""
            if not same(_cookie(environ), _pass(token)):
                return _plain("401 Unauthorized", "a token is missing: open /?token=… with that of web_token")
        path = environ["PATH_INFO"]
        if path == "/data.json":
            body = json.dumps(self._data(), ensure_ascii=False, separators=(",", ":")).encode()
            return "200 OK", [("Content-Type", "application/json")], body
        if path not in self._files:
            return _plain("404 Not Found", "there is no such page")
        kind, body = self._files[path]
        return "200 OK", [("Content-Type", kind)], body


def is_local(host: str) -> bool:
    """Whether a Host header names this machine by its loopback address, or by localhost."""
    name = strip_brackets(host if host.endswith("]") else host.rpartition(":")[0] or host)
    return is_loopback(name.lower())


def same(one: str, other: str) -> bool:
    """Compare secrets in a time that says nothing."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def _given(environ: Environ) -> str:
    for part in environ.get("QUERY_STRING", "").split("&"):
        name, _, value = part.partition("=")
        if name == "token":
            return unquote(value)
    return ""


def _cookie(environ: Environ) -> str:
    try:
        found = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _pass(token: str) -> str:
    """What a browser that had the token keeps: not the token itself."""
    return hashlib.sha256(b"kcpg web page\0" + token.encode()).hexdigest()


def _plain(status: str, text: str, headers: list[tuple[str, str]] | None = None) -> Answer:
    return status, [("Content-Type", "text/plain; charset=utf-8"), *(headers or [])], f"{text}\n".encode()
