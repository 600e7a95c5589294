"""Beyond the router: small web servers, their remote-service sessions over TLS, and how the plant reaches them."""

import datetime
import http.client
import json
import logging
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from eval.testbed.names import find, full_name
from eval.testbed.rhythm import beats, dice_of, pauses
from eval.testbed.site import Machine, Site

__all__ = ["cloud", "keep_remote_session", "send", "send_batches", "serve_files"]

log = logging.getLogger(__name__)


def cloud(machine: Machine, site: Site, folder: Path) -> None:
    """Web pages and telemetry over HTTP on ``port``, remote-service sessions over TLS on ``tls_port``."""
    del site, folder
    port = machine.settings.get("tls_port", 443)
    threading.Thread(target=_serve_sessions, args=(port,), daemon=True).start()
    serve_files(machine.settings.get("port", 80))


def serve_files(port: int) -> None:
    """Take what is put or posted and throw it away; ``GET /pages/4000`` answers 4,000 bytes."""
    log.info("HTTP server on port %d", port)
    with ThreadingHTTPServer(("", port), _Pages) as server:
        server.serve_forever()


def send(
    machine: Machine, site: Site, target: Mapping[str, Any], method: str, path: str, body: bytes | None = None
) -> int:
    """One HTTP request on a connection of its own to ``{"host": ..., "port": ...}``; returns the size of the answer.

    Raises:
        OSError: no name, no connection, no answer in ``timeout_s``, or a refusal.
        http.client.HTTPException: the answer is no HTTP.
    """
    address = find(machine, site, target["host"])
    connection = http.client.HTTPConnection(address, target["port"], timeout=machine.settings.get("timeout_s", 5.0))
    try:
        headers = {"Host": full_name(site, target["host"]), "User-Agent": machine.role}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        size = len(answer.read())
    finally:
        connection.close()
    if answer.status >= 400:
        raise OSError(f"{target['host']} answers {answer.status}")
    return size


def send_batches(
    machine: Machine, site: Site, rows: list[Any], target: Mapping[str, Any], method: str, path: str, period_s: float
) -> None:
    """Send the rows that others append, every period, for ever; what cannot be sent is kept, up to 5,000 rows."""
    dice = dice_of(machine, site)
    wait = pauses(machine, dice)
    for _ in beats(period_s, dice):
        del rows[:-5000]
        batch = rows[:]
        try:
            send(machine, site, target, method, path, json.dumps(batch).encode())
        except (OSError, http.client.HTTPException) as error:
            log.warning("%d rows not sent to %s: %s", len(batch), target["host"], error)
            time.sleep(next(wait))
        else:
            del rows[: len(batch)]
            wait = pauses(machine, dice)


def keep_remote_session(machine: Machine, site: Site) -> None:
    """Hold a TLS session to the maker's remote service, ``remote``, with a word every ``period_s``, for ever."""
    dice = dice_of(machine, site)
    remote = machine.settings["remote"]
    wait = pauses(machine, dice)
    while True:
        try:
            with _open_session(machine, site, remote) as session:
                log.info("remote service connected")
                wait = pauses(machine, dice)
                for _ in beats(remote["period_s"], dice):
                    session.sendall(dice.randbytes(dice.randint(40, 200)))
                    if not session.recv(4096):
                        raise OSError("closed by the service")
        except OSError as error:
            log.warning("remote service lost: %s", error)
        time.sleep(next(wait))


def _open_session(machine: Machine, site: Site, remote: Mapping[str, Any]) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the service's certificate is made anew at each start
    address = find(machine, site, remote["host"])
    plain = socket.create_connection((address, remote.get("port", 443)), timeout=10)
    try:
        return context.wrap_socket(plain, server_hostname=full_name(site, remote["host"]))
    except OSError:
        plain.close()
        raise


class _Pages(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        size = self.path.rpartition("/")[2]
        self._reply(bytes(min(int(size), 10**8)) if size.isdecimal() else b"ok\n")

    def do_POST(self) -> None:
        left = int(self.headers.get("Content-Length", 0))
        while left > 0 and (part := self.rfile.read(min(left, 65536))):
            left -= len(part)
        self._reply(b'{"accepted": true}')

    do_PUT = do_POST  # noqa: N815

    def _reply(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        log.info("%s " + format, self.client_address[0], *args)


def _serve_sessions(port: int) -> None:
    context = _context_of_a_day()
    with socket.create_server(("", port)) as server:
        while True:
            client, (address, _) = server.accept()
            threading.Thread(target=_answer_session, args=(context, client, address), daemon=True).start()


def _answer_session(context: ssl.SSLContext, client: socket.socket, address: str) -> None:
    """Answer every word with as many bytes and a few more."""
    client.settimeout(600)
    try:
        with context.wrap_socket(client, server_side=True) as session:
            while word := session.recv(4096):
                session.sendall(word + b"accepted")
    except OSError as error:
        log.info("%s: session ended: %s", address, error)


def _context_of_a_day() -> ssl.SSLContext:
    """A server's TLS with a key and a certificate made for this start."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "remote.example")])
    now = datetime.datetime.now(datetime.UTC)
    draft = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    draft = draft.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    certificate = draft.sign(key, hashes.SHA256())
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "key_and_certificate"
        path.write_bytes(key.private_bytes(*form) + certificate.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(path)
    return context
