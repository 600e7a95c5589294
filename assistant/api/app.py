"""REST over HTTP, described by OpenAPI at /api/v1/openapi.json; the page is mounted on the same app.

Every route parses, calls one function of the desk, returns its JSON. A mistake of who asks is one
line, ``{"error": "what; what was expected; what to do"}``, with a status of 4xx.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException

from assistant.api.desk import (
    MOST_COMMANDS,
    MOST_PASSAGES,
    MOST_ROWS,
    QUESTION_CHARS,
    Desk,
    Json,
    describe,
)
from assistant.api.exports import FORMS, export
from assistant.api.guard import COOKIE, Guard, render_form
from assistant.api.mcp import make_mcp
from assistant.api.metrics import Metrics
from assistant.api.uploads import MOST_BYTES, check_announced, receive
from assistant.api.users import SESSION_S, Person, Role, Users
from assistant.locate import FailedCommand
from traffic.errors import UserError
from traffic.files import Strict

Why = Annotated[str, Field(max_length=500)]
Id = Annotated[str, Field(max_length=80)]
Name = Annotated[str, Query(max_length=120)]
Offset = Annotated[int, Query(ge=0)]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS)]
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class Question(Strict):
    """A question about a capture, the newest one where none is named."""

    question: Annotated[str, Field(min_length=1, max_length=QUESTION_CHARS)]
    capture: Id = ""
    device: Id = ""


class Commands(Strict):
    """Failed commands, as ``docs/agent.md`` has them."""

    commands: Annotated[list[FailedCommand], Field(min_length=1, max_length=MOST_COMMANDS)]
    capture: Id = ""
    manuals: bool = True


class Remark(Strict):
    """What a person says of an incident: "false alarm because of a test"."""

    incident: Id
    text: Annotated[str, Field(min_length=1, max_length=QUESTION_CHARS)]
    capture: Id = ""


class Reason(Strict):
    """Why an alarm is taken, or hidden and for how long."""

    why: Why = ""
    hours: float = 8.0


class Login(Strict):
    """Who logs in; ``code`` where the first user is made."""

    name: Annotated[str, Field(max_length=64)]
    password: Annotated[str, Field(max_length=256)]
    code: Annotated[str, Field(max_length=64)] = ""


@dataclass(frozen=True)
class Doors:
    """How a server is opened.

    Attributes:
        login: whether browsers have to log in.
        hosts: names under which it is called; "*" for any.
        secure: whether it speaks TLS, so that cookies go over it alone.
        upload_bytes: of a capture.
    """

    login: bool = False
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "::1")
    secure: bool = False
    upload_bytes: int = MOST_BYTES


def make_app(desk: Desk, users: Users, doors: Doors | None = None) -> FastAPI:
    """The app with all its doors; the page may be mounted on it.

    Args:
        desk: what is offered.
        users: who may come in.
        doors: how it is opened; by default on loopback, without a login.
    """
    doors = doors or Doors()
    mcp, metrics = make_mcp(desk), Metrics(desk)
    inner = mcp.streamable_http_app(json_response=True, stateless_http=True)

    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(mcp.session_manager.run())
            yield

    app = FastAPI(
        title="faultwise", version=version("faultwise"), lifespan=running, docs_url=None, redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )  # fmt: skip
    app.state.users = users
    _word_errors(app)
    _count_requests(app, metrics)
    app.include_router(_make_routes(desk, doors))
    app.include_router(_make_logins(users, doors))

    @app.get("/metrics", include_in_schema=False)
    def show_metrics(_: Operator) -> Response:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.api_route("/api/{path:path}", methods=_METHODS, include_in_schema=False)
    def refuse(path: str, request: Request) -> Response:
        # Else the page, which is mounted behind, says it in its own form.
        asked = f"{request.method} /api/{path[:80]}"
        raise HTTPException(404, f"Not Found: {asked}; expected one of /api/v1/openapi.json")

    app.add_route("/mcp", inner.routes[0].endpoint)  # type: ignore[attr-defined]
    app.add_middleware(Guard, users=users, login=doors.login, hosts=doors.hosts)
    return app


def needs(role: Role) -> Any:
    """A parameter that is who asks; 403 where his role is below ``role``."""

    def find(request: Request) -> Person:
        person: Person | None = request.state.person
        if person is None:
            raise HTTPException(401, "nobody is logged in; POST to /api/v1/login, or send a token")
        if not person.may(role):
            doing = f"{request.method} {request.scope['route'].path}"
            request.app.state.users.note_refusal(person, doing, role)
            raise HTTPException(403, f"{person.name} is {person.role}; this needs {role}")
        return person

    return Depends(find)


Operator = Annotated[Person, needs("operator")]
Engineer = Annotated[Person, needs("engineer")]


def _make_routes(desk: Desk, doors: Doors) -> APIRouter:
    routes = APIRouter(prefix="/api/v1")
    _add_captures(routes, desk, doors)
    _add_questions(routes, desk)
    _add_alarms(routes, desk)
    return routes


def _add_captures(routes: APIRouter, desk: Desk, doors: Doors) -> None:
    get, post = routes.get, routes.post

    @get("/health")
    def health() -> Json:
        """Whether the server answers; anybody may ask."""
        return {"ok": True, "version": version("faultwise")}

    @get("/captures")
    def captures(_: Operator) -> Json:
        """The captures that are open."""
        return desk.captures()

    @post("/captures")
    async def open_capture(request: Request, _: Engineer, name: Name = "") -> Json:
        """Open a capture: its bytes are the body."""
        check_announced(request.headers.get("content-length"), doors.upload_bytes)
        with TemporaryDirectory(prefix="faultwise-") as folder:
            path = await receive(request.stream(), Path(folder), doors.upload_bytes)
            try:
                opened = await run_in_threadpool(desk.open, path, name or "upload")
            except UserError as mistake:
                said = str(mistake).replace(str(path), name or "the upload")
                raise UserError(said.replace(path.name, name or "the upload")) from mistake
        return describe(opened)

    @routes.delete("/captures/{capture}")
    def close_capture(capture: str, _: Engineer) -> Json:
        """Forget a capture."""
        return desk.close_capture(capture)


def _add_questions(routes: APIRouter, desk: Desk) -> None:
    get, post = routes.get, routes.post

    @post("/ask")
    def ask(asked: Question, _: Operator) -> Json:
        """Answer a question: a Diagnosis with facts, citations and checks."""
        return desk.ask(asked.question, asked.capture, asked.device)

    @get("/incidents")
    def incidents(_: Operator, capture: str = "", offset: Offset = 0, limit: Limit = 50) -> Json:
        """What went wrong in a capture, the worst first."""
        return desk.incidents(capture, offset, limit)

    @get("/devices")
    def devices(_: Operator, capture: str = "", offset: Offset = 0, limit: Limit = 50) -> Json:
        """How each device of a capture is doing, the worst first."""
        return desk.devices(capture, offset, limit)

    @get("/sensor")
    def sensor(_: Operator, capture: str = "") -> Json:
        """What the sensor could not see."""
        return desk.sensor(capture)

    @get("/kb/search")
    def search(
        _: Operator,
        q: Annotated[str, Query(max_length=QUESTION_CHARS)],
        k: Annotated[int, Query(ge=1, le=MOST_PASSAGES)] = 5,
    ) -> Json:
        """Passages of manuals and past incidents that answer."""
        return desk.search_documents(q, k)

    @post("/locate")
    def locate(asked: Commands, _: Operator) -> Json:
        """Of failed commands whose fault each was."""
        return desk.locate(asked.commands, asked.capture, asked.manuals)


def _add_alarms(routes: APIRouter, desk: Desk) -> None:
    get, post = routes.get, routes.post

    @post("/feedback")
    def feedback(remark: Remark, person: Operator) -> Json:
        """Keep what a person says of an incident."""
        return desk.feedback(remark.incident, remark.text, person.name, remark.capture)

    @get("/alarms")
    def alarms(
        _: Operator,
        tier: Literal["log", "notification", "alarm"] = "notification",
        hours: Annotated[float, Query(ge=0, le=8760)] = 24.0,
        offset: Offset = 0,
        limit: Limit = 50,
    ) -> Json:
        """Alarms with their states, and how many there are."""
        return desk.alarms(tier, hours, offset, limit)

    @post("/alarms/{incident}/acknowledge")
    def acknowledge(incident: str, person: Operator, reason: Reason | None = None) -> Json:
        """Take an alarm."""
        return desk.acknowledge(incident, person.name, reason.why if reason else "")

    @post("/alarms/{incident}/shelve")
    def shelve(incident: str, reason: Reason, person: Operator) -> Json:
        """Hide an alarm for a time, with a reason."""
        return desk.shelve(incident, person.name, reason.why, reason.hours)

    @post("/alarms/{incident}/undo")
    def undo(incident: str, person: Operator) -> Json:
        """Take back what was declared last."""
        return desk.undo(incident, person.name)

    @get("/export/{form}")
    def export_alarms(
        form: Literal["jsonl", "cef", "syslog", "stix"],
        _: Operator,
        hours: Annotated[float, Query(ge=0, le=8760)] = 24.0,
    ) -> Response:
        """Alarms for other systems: JSON lines, CEF, syslog (RFC 5424), STIX 2.1."""
        text = export(desk.history, form, hours, desk.session.settings.home)
        return PlainTextResponse(text, media_type=FORMS[form])


def _make_logins(users: Users, doors: Doors) -> APIRouter:
    routes = APIRouter()

    def begin(response: Response, name: str, password: str) -> None:
        session = users.log_in(name, password)
        response.set_cookie(
            COOKIE, session, max_age=int(SESSION_S), httponly=True, samesite="strict", secure=doors.secure
        )  # fmt: skip

    @routes.post("/api/v1/login")
    def log_in(login: Login, response: Response) -> Json:
        """Begin a session of a browser."""
        begin(response, login.name, login.password)
        return {"name": login.name}

    @routes.post("/api/v1/setup")
    def set_up(login: Login) -> Json:
        """Make the first user, with the code that the server printed."""
        users.set_up(login.code, login.name, login.password)
        return {"name": login.name}

    @routes.post("/api/v1/logout")
    def log_out(request: Request, response: Response) -> Json:
        """End a session."""
        users.log_out(request.cookies.get(COOKIE, ""))
        response.delete_cookie(COOKIE)
        return {"ok": True}

    @routes.get("/api/v1/me")
    def me(person: Operator) -> Json:
        """Who asks."""
        return {"name": person.name, "role": person.role, "login": person.login}

    @routes.get("/login", include_in_schema=False)
    def show_login() -> Response:
        kind = "setup" if users.none and doors.login else "login"
        page, headers = render_form(kind)
        return HTMLResponse(page, headers=headers)

    @routes.post("/login", include_in_schema=False)
    def post_login(
        name: Annotated[str, Form(max_length=64)], password: Annotated[str, Form(max_length=256)]
    ) -> Response:
        return _try("login", lambda response: begin(response, name, password))

    @routes.post("/setup", include_in_schema=False)
    def post_setup(
        code: Annotated[str, Form(max_length=64)],
        name: Annotated[str, Form(max_length=64)],
        password: Annotated[str, Form(max_length=256)],
    ) -> Response:
        def make(response: Response) -> None:
            users.set_up(code, name, password)
            begin(response, name, password)

        return _try("setup", make)

    return routes


def _try(kind: str, work: Callable[[Response], None]) -> Response:
    """To the page where a form succeeded, else the form again with what was wrong."""
    response = RedirectResponse("/", 303)
    try:
        work(response)
    except UserError as mistake:
        page, headers = render_form(kind, str(mistake))
        return HTMLResponse(page, 400, headers=headers)
    return response


def _word_errors(app: FastAPI) -> None:
    @app.exception_handler(UserError)
    def _mistake(_request: Request, mistake: UserError) -> JSONResponse:
        return JSONResponse({"error": " ".join(str(mistake).split())}, 400)

    @app.exception_handler(StarletteHTTPException)
    def _refused(_request: Request, refused: StarletteHTTPException) -> JSONResponse:
        return JSONResponse({"error": str(refused.detail)}, refused.status_code, refused.headers)

    @app.exception_handler(RequestValidationError)
    def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        told = [
            f"{'.'.join(map(str, one['loc'][1:])) or 'body'}: {one['msg']}"
            for one in error.errors()
        ]
        more = f"; and {len(told) - 5} more" if len(told) > 5 else ""
        return JSONResponse({"error": "; ".join(told[:5]) + more}, 422)


def _count_requests(app: FastAPI, metrics: Metrics) -> None:
    @app.middleware("http")
    async def count(request: Request, call_next: Any) -> Response:
        begun_s = time.perf_counter()
        response = await call_next(request)
        route = request.scope.get("route")
        path = getattr(route, "path", "") or "other"
        if path.startswith("/api/"):
            metrics.count(path, response.status_code, time.perf_counter() - begun_s)
        return response
