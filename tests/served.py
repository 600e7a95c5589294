"""The page and its doors on a port of this machine, as ``faultwise serve`` opens them."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from assistant.api.app import Doors, make_app
from assistant.api.desk import Desk
from assistant.api.serve import mount_page
from assistant.api.users import Users
from assistant.app.page import build_page, mount_options
from assistant.app.subject import Subject
from assistant.session import Session


@contextmanager
def serve_page(session: Session, subject: Subject, users: Users, doors: Doors) -> Iterator[str]:
    """Serve until the block ends; the address."""
    app = make_app(Desk(session), users, doors)
    app = mount_page(app, build_page(session, subject), mount_options(), doors)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        running = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        running.start()
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        running.join()
