"""Who asks, and whether he may: looked at before any request reaches REST, MCP or the page.

    Authorization: Bearer fw_…   ─▶ a token, of a program
    cookie                       ─▶ a session, of a browser; what changes anything must come from our own page
    neither                      ─▶ 401, or the login page; where no login is asked for, this machine's operator

A page on another site can make a browser send requests here. So the host must be one of ours, and a
request that changes something must name our own page as its origin (or come from no browser).
"""

import json
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from anyio.to_thread import run_sync

from assistant.api.users import Person, Users
from traffic.errors import UserError

COOKIE = "faultwise"
LOCAL = Person("operator", "engineer", login=False)
_OPEN = ("/login", "/setup", "/api/v1/health", "/api/v1/login", "/api/v1/setup")
_SAFE = ("GET", "HEAD", "OPTIONS")
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
)
# What Gradio's page needs, all of it from here (CSP level 3, W3C).
_PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'"
)
_UPLOADS = "/gradio_api/upload"  # of the page, where only engineers have anything to upload
JSON_BYTES = 1 << 18
_HEADERS = {
    b"content-security-policy": _PAGE_POLICY.encode(),
    b"referrer-policy": b"same-origin",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}
_NOT_KEPT = {b"cache-control": b"no-store"}  # what a login gave must not be read after a logout


class RefusedError(Exception):
    """Why a request goes no further, in one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


class Guard:
    """ASGI middleware that puts a ``Person`` into each request's state, or refuses it."""

    def __init__(self, app: Any, users: Users, login: bool, hosts: tuple[str, ...]) -> None:
        """Guard an app.

        Args:
            app: what lies behind.
            users: who may come in.
            login: whether browsers have to log in; a program's token counts in any case.
            hosts: names under which this server is called; "*" for any.
        """
        self._app, self._users, self._login, self._hosts = app, users, login, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        try:
            person = await run_sync(self._admit, scope, headers)
        except RefusedError as refused:
            await _refuse(scope, send, refused, headers)
            return
        scope.setdefault("state", {})["person"] = person

        async def sealed(message: Any) -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message["headers"]}
                told = _HEADERS | (_NOT_KEPT if scope["path"].startswith("/api/") else {})
                more = [(name, value) for name, value in told.items() if name not in known]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await self._app(scope, receive, sealed if scope["type"] == "http" else send)

    def _admit(self, scope: Any, headers: dict[str, str]) -> Person | None:
        """Who it is; None for the few paths that anybody may ask."""
        path, method = scope["path"], scope.get("method", "GET")
        self._check_host(headers.get("host", ""))
        if path.startswith(("/api/", "/login", "/setup")) and method not in _SAFE:
            _check_length(path, headers)
        bearer = headers.get("authorization", "")
        if bearer.lower().startswith("bearer "):
            try:
                return self._users.find_token(bearer[7:].strip())
            except UserError as mistake:
                raise RefusedError(401, str(mistake)) from mistake
        if path == "/mcp" or path.startswith("/mcp/"):
            raise RefusedError(401, "MCP needs a token; `faultwise users token NAME` makes one")
        changes = method not in _SAFE or scope["type"] == "websocket"
        person = self._find_person(headers)
        if changes:
            _check_origin(headers, person is not None)
        if person is None and not self._login:
            person = LOCAL
        if path.startswith(_UPLOADS) and person is not None and not person.may("engineer"):
            self._users.note_refusal(person, "upload a file", "engineer")
            raise RefusedError(403, f"{person.name} is {person.role}; uploads need engineer")
        if person is None and path not in _OPEN:
            raise RefusedError(
                401, "nobody is logged in, or the session has ended; log in at /login"
            )
        return person

    def _find_person(self, headers: dict[str, str]) -> Person | None:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return None
        return self._users.find_session(found.value) if found else None

    def _check_host(self, host: str) -> None:
        name = urlsplit(f"//{host}").hostname or ""
        if "*" not in self._hosts and name not in self._hosts:
            raise RefusedError(421, f"this server is not called {name[:60]!r}; expected one of: "
                               f"{', '.join(self._hosts)}; name others with --hostname")  # fmt: skip


def _check_length(path: str, headers: dict[str, str]) -> None:
    """Refuse a long question before it is read; captures have a bound of their own."""
    length = headers.get("content-length", "" if "transfer-encoding" in headers else "0")
    if not length.isdigit():
        raise RefusedError(411, "the length is missing; expected Content-Length")
    size = int(length)
    if size > JSON_BYTES and not path.startswith("/api/v1/captures"):
        raise RefusedError(413, f"the request has {size:,} bytes; expected at most {JSON_BYTES:,}; "
                           "a question needs a few lines, a capture goes to /api/v1/captures")  # fmt: skip


def _check_origin(headers: dict[str, str], cookie: bool) -> None:
    """Refuse what another site made a browser send (OWASP: verifying origin; Fetch Metadata)."""
    origin, site = headers.get("origin", ""), headers.get("sec-fetch-site", "")
    if origin and origin != "null":
        good = urlsplit(origin).netloc == headers.get("host", "")
    else:
        good = site == "same-origin" or (not site and not origin and not cookie)
    if not good:
        raise RefusedError(403, "the request comes from another page than this server's own")


async def _refuse(scope: Any, send: Any, refused: RefusedError, headers: dict[str, str]) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": str(refused)[:120]})
        return
    wants_page = "text/html" in headers.get("accept", "") and not scope["path"].startswith("/api/")
    status, body, kind = refused.status, json.dumps({"error": str(refused)}), b"application/json"
    more = []
    if refused.status == 401 and wants_page:
        status, body, more = 303, "", [(b"location", b"/login")]
    elif refused.status == 401:
        more = [(b"www-authenticate", b"Bearer")]
    start = [(b"content-type", kind), *more, *_HEADERS.items()]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body.encode()})


# ---- The login page: plain HTML, nothing to fetch ----

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>faultwise: {title}</title><style>body{{font:16px system-ui,sans-serif;max-width:22rem;margin:12vh auto;
padding:0 1rem;color-scheme:light dark}}label,input,button{{display:block;width:100%;box-sizing:border-box;
font:inherit}}input,button{{padding:.5rem;margin:.25rem 0 1rem}}</style><h1>{title}</h1><p role="alert">{line}</p>
<form method="post" action="{action}">{fields}<button>{title}</button></form></html>"""
_FIELD = '<label>{label}<input name="{name}" type="{type}" autocomplete="{auto}" required></label>'
_FORMS = {
    "login": ("Log in", (("User", "name", "text", "username"),
                         ("Password", "password", "password", "current-password"))),
    "setup": ("Set up", (("Set-up code", "code", "text", "one-time-code"),
                         ("Your user name", "name", "text", "username"),
                         ("Password, 12 characters or more", "password", "password", "new-password"))),
}  # fmt: skip


def render_form(kind: str, line: str = "") -> tuple[str, dict[str, str]]:
    """The page of a form, ``login`` or ``setup``, and its headers."""
    title, fields = _FORMS[kind]
    names = ("label", "name", "type", "auto")
    shown = "".join(_FIELD.format(**dict(zip(names, one, strict=True))) for one in fields)
    safe = line.replace("&", "&amp;").replace("<", "&lt;")
    page = _PAGE.format(title=title, line=safe, action=f"/{kind}", fields=shown)
    return page, {"content-security-policy": _POLICY}
