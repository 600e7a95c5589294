"""One server for the page and all doors: on loopback unless told otherwise, with TLS by files."""

import ipaddress
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request

from assistant.api.app import Doors, make_app
from assistant.api.desk import Desk
from assistant.api.uploads import MOST_BYTES
from assistant.api.users import Users, open_users
from traffic.errors import UserError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Bound:
    """Where a server listens, and how.

    Attributes:
        host, port: the address.
        login: whether people have to log in though only this machine can reach it.
        hostnames: further names under which it is called.
        certificate, key: PEM files; None for no TLS.
        upload_bytes: of a capture.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    login: bool = False
    hostnames: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    upload_bytes: int = MOST_BYTES

    @property
    def beyond(self) -> bool:
        """Whether other machines can reach it."""
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"

    @property
    def url(self) -> str:
        """What a browser on this machine opens."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}"


def open_doors(bound: Bound, users: Users) -> tuple[Doors, tuple[str, ...]]:
    """How the doors are opened, and what to tell whoever starts the server.

    Raises:
        UserError: TLS files that do not fit.
    """
    _check_tls(bound)
    login = bound.login or bound.beyond or not users.none
    notes = []
    if login and users.none:
        notes.append(f"nobody is known yet: open {bound.url}/setup or /login and give this code, "
                     f"good for one hour: {users.begin_setup()}")  # fmt: skip
    if not login:
        notes.append(
            "no login: whoever uses this machine is the operator; `faultwise users add NAME` changes that"
        )
    if bound.beyond and not bound.certificate:
        notes.append(
            "without TLS passwords pass the network readable; give --tls-cert and --tls-key"
        )
    any_host = bound.host in ("0.0.0.0", "::")  # noqa: S104
    named = dict.fromkeys((*LOOPBACK, bound.host, *bound.hostnames))
    hosts = ("*",) if any_host and not bound.hostnames else tuple(named)
    return Doors(login, hosts, bound.certificate is not None, bound.upload_bytes), tuple(notes)


def _check_tls(bound: Bound) -> None:
    if (bound.certificate is None) != (bound.key is None):
        raise UserError("one of --tls-cert and --tls-key is missing; expected both, or neither")
    if bound.certificate is None or bound.key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(bound.certificate, bound.key)
    except (OSError, ssl.SSLError) as error:
        raise UserError(
            f"{bound.certificate} and {bound.key} cannot be used for TLS ({error.strerror or error}); "
            "expected a certificate and its key, PEM, without a passphrase"
        ) from error


def serve(
    desk: Desk,
    page: gr.Blocks | None,
    options: dict[str, Any],
    bound: Bound,
    tell: Callable[[str], None],
    note: Callable[[tuple[str, ...]], None],
) -> None:
    """Serve the page and all doors until interrupted.

    Args:
        desk: what is offered.
        page: mounted at the root; None for the doors alone.
        options: of ``gradio.mount_gradio_app``: looks, keys, bounds.
        bound: where to listen.
        tell: gets the address once it is served.
        note: gets what else whoever starts the server should know.

    Raises:
        UserError: the address, the port or the TLS files cannot be used.
    """
    with open_users(desk.session.settings.home) as users:
        doors, notes = open_doors(bound, users)
        app = make_app(desk, users, doors)
        if page is not None:
            app = mount_page(app, page, options, doors)

        def begun() -> None:
            note(notes)
            tell(f"{bound.url} until Ctrl-C")

        run(app, bound, begun)


def mount_page(app: FastAPI, page: gr.Blocks, options: dict[str, Any], doors: Doors) -> FastAPI:
    """Put the page at the root of an app, behind its guard.

    Args:
        app: as ``make_app`` has it.
        page: the operators' page.
        options: of ``gradio.mount_gradio_app``.
        doors: how the app is opened.
    """
    # The guard has let nobody else through; Gradio learns the name of who logged in.
    named = {"auth_dependency": _name_of} if doors.login else {}
    return gr.mount_gradio_app(app, page, path="", **named, **options)


def _name_of(request: Request) -> str | None:
    person = getattr(request.state, "person", None)
    return person.name if person else None


def run(app: FastAPI, bound: Bound, told: Callable[[], None]) -> None:
    """Serve until interrupted; ``told`` is called once the port is ours.

    Raises:
        UserError: the address or port cannot be used.
    """
    tls: dict[str, Any] = {}
    if bound.certificate and bound.key:
        tls = {"ssl_certfile": str(bound.certificate), "ssl_keyfile": str(bound.key)}
    config = uvicorn.Config(
        app, host=bound.host, port=bound.port, log_level="warning", access_log=False, server_header=False,
        proxy_headers=False, timeout_graceful_shutdown=3, limit_concurrency=200, **tls,
    )  # fmt: skip
    family = socket.AF_INET6 if ":" in bound.host else socket.AF_INET
    try:
        listening = socket.create_server((bound.host, bound.port), family=family)
    except OSError as mistake:
        raise UserError(
            f"{bound.host} port {bound.port} cannot be used; it may be taken, or no address of this machine; "
            "choose others with --host and --port"
        ) from mistake
    told()
    # Who presses Ctrl-C ends it as it was told: uvicorn has closed everything, and raises it again.
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
