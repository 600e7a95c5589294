"""``faultwise serve``: the operators' page, with the monitor beside it where a plant is watched."""

from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.cli.doors import Certificate, Host, Hostname, Key, Login
from assistant.cli.options import (
    Anew,
    Interface,
    LookBack,
    Operators,
    Replay,
    RunAs,
    Speed,
    ZeekDir,
    narrate,
    say_notes,
    with_settings,
)
from assistant.cli.vain_work import keep_what_is_loaded

if TYPE_CHECKING:
    from assistant.settings import Settings


@with_settings(
    "home", "plant", "local", "site", "adapter", "model", "writer", "model_url", "writer_model",
    "examples", "logs", "readings",
)  # fmt: skip
def serve(
    settings: "Settings",
    capture: Annotated[
        Path | None,
        typer.Option("--capture", help="The capture to show.", metavar="PATH", exists=True),
    ] = None,
    zeek_dir: ZeekDir = None,
    interface: Interface = None,
    replay: Replay = None,
    speed: Speed = 1.0,
    anew: Anew = False,
    minutes: LookBack = 60.0,
    operators: Operators = 1,
    user: RunAs = "",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    host: Host = "127.0.0.1",
    login: Login = False,
    hostname: Hostname = None,
    tls_cert: Certificate = None,
    tls_key: Key = None,
) -> None:
    """Open the page for operators at http://127.0.0.1:7860, a plant watched live or a capture, with
    REST, MCP and metrics beside it."""
    from assistant.answers.answer import answer
    from assistant.api.desk import Desk
    from assistant.api.serve import Bound
    from assistant.api.serve import serve as serve_doors
    from assistant.app.page import build_page, mount_options
    from assistant.app.subject import Subject
    from assistant.app.watching import begin_live, open_watched
    from assistant.session import open_session, read_plant
    from knowledge_base.retriever import search

    bound = Bound(host, port, login, tuple(hostname or ()), tls_cert, tls_key)
    with ExitStack() as stack:
        opened = open_watched(settings, zeek_dir, interface, replay, speed, user, capture, anew)
        if opened is not None:
            stack.callback(opened.lock.release)
        session = stack.enter_context(open_session(settings))
        plant = read_plant(settings)
        if opened is not None:
            live = stack.enter_context(closing(begin_live(opened, session, plant, minutes)))
            subject = Subject(Path(opened.name).name, live=live, plant=plant)
        else:
            with narrate("reading the capture") as progress:
                analysis = session.analyse(capture, progress) if capture else None
            subject = Subject(capture.name if capture else "", analysis, plant=plant)
        page = build_page(session, subject, operators)
        # What every answer needs loads now, so that the first operator does not wait for it.
        search(session.index, "is anything wrong?")
        if subject.analysis is not None:
            answer("what is wrong?", subject.analysis, session.index, history=session.history)
        desk = Desk(session, lambda: subject.analysis, subject.name)
        keep_what_is_loaded()
        serve_doors(desk, page, mount_options(), bound, typer.echo, say_notes)
