"""What every plant has and asks: a resolver, a clock server, and clouds beyond the router."""

import datetime
import http.client
import ipaddress
import json
import logging
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from eval.testbed.programs.process import machine_random, periodic, retry_pauses, run_daemon
from eval.testbed.site import Machine, Site

log = logging.getLogger(__name__)

# ---- Names: the resolver that knows them (dnsmasq), and how a device asks it ----

_RESOLVER = "dns-1"


def resolver(machine: Machine, site: Site, _folder: Path) -> None:
    """Serve the names of every machine; those in ``answers`` wrongly, and none when ``mute``."""
    if machine.settings.get("mute"):
        log.error("cache exhausted, queries are dropped")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("", 53))
            while True:
                server.recv(4096)
    own = {full_name(site, one.name): one.address for one in site.inside}
    wrong = machine.settings.get("answers", {}).items()
    names = own | machine.settings["names"] | {full_name(site, name): to for name, to in wrong}
    if failing := machine.settings.get("failing"):
        _resolve(names, failing, machine_random(machine, site))
    command = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-"]
    command += ["--user=root", "--pid-file=", "--no-hosts", "--cache-size=0", "--local-ttl=60"]
    # Every name that is not known is said not to exist; there is nobody further to ask.
    command += ["--no-resolv", "--local=/#/"]
    command += [f"--host-record={name},{address}" for name, address in names.items() if address]
    run_daemon(command)


def _resolve(names: Mapping[str, str], failing: Mapping[str, float], rng: Random) -> None:
    """Answer as a resolver does whose own resolver fails: dnsmasq has nobody further to ask."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("", 53))
        while True:
            question, client = server.recvfrom(4096)
            try:
                query = dns.message.from_wire(question)
            except dns.exception.DNSException as error:
                log.warning("%s: %s", client[0], error)
                continue
            answer = dns.message.make_response(query, recursion_available=True)
            asked = query.question[0]
            name, draw = asked.name.to_text(omit_final_dot=True), rng.random()
            for code, share in failing.items():
                if 0 <= draw < share:
                    answer.set_rcode(dns.rcode.from_text(code))
                draw -= share
            if answer.rcode() == dns.rcode.NOERROR and name not in names:
                answer.set_rcode(dns.rcode.NXDOMAIN)
            if answer.rcode() == dns.rcode.NOERROR and asked.rdtype == dns.rdatatype.A:
                answer.answer.append(dns.rrset.from_text(asked.name, 60, "IN", "A", names[name]))
            server.sendto(answer.to_wire(), client)


def find_address(machine: Machine, site: Site, host: str) -> str:
    """The address of a host as the machine comes to know it, asked anew each time.

    An address stands for itself. A device with ``by_name`` off has the plant's addresses written in
    its settings; any other asks its resolver, from a random port, ``dns_tries`` times, each for
    ``dns_timeout_s``.

    Raises:
        OSError: no answer, or none that names an address.
    """
    if _is_address(host):
        return host
    if not machine.settings.get("by_name", True) and "." not in host:
        return _configured_address(site, host)
    name = full_name(site, host)
    server = _configured_address(site, machine.settings.get("dns", _RESOLVER))
    if machine.settings.get("asks_ipv6"):
        _ask(machine, server, name, "AAAA")
    addresses = _ask(machine, server, name, "A")
    if not addresses:
        raise OSError(f"cannot resolve {name}: it has no address")
    return addresses[0]


def full_name(site: Site, host: str) -> str:
    """``plc-1`` with the plant's domain; a name that has dots stays."""
    return host if "." in host else f"{host}.{site.named(_RESOLVER).settings['domain']}"


def _ask(machine: Machine, server: str, name: str, kind: str) -> list[str]:
    timeout_s, wanted = machine.settings.get("dns_timeout_s", 3.0), dns.rdatatype.from_text(kind)
    for _ in range(machine.settings.get("dns_tries", 2)):
        try:
            answer = dns.query.udp(dns.message.make_query(name, kind), server, timeout=timeout_s)
        except (dns.exception.DNSException, OSError) as error:
            log.warning("resolver %s: no answer for %s (%s)", server, name, type(error).__name__)
            continue
        if answer.rcode() != dns.rcode.NOERROR:
            raise OSError(f"cannot resolve {name}: {dns.rcode.to_text(answer.rcode())}")
        found = [records for records in answer.answer if records.rdtype == wanted]
        return [record.address for records in found for record in records]
    raise OSError(f"cannot resolve {name}: {server} does not answer")


def _configured_address(site: Site, host: str) -> str:
    if _is_address(host):
        return host
    try:
        return site.named(host).address
    except KeyError:
        raise OSError(f"no address is set for {host}") from None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


# ---- Beyond the router: web servers, remote sessions over TLS, and how the plant reaches them ----


def cloud(machine: Machine, _site: Site, _folder: Path) -> None:
    """Web pages and telemetry over HTTP on ``port``, remote sessions over TLS on ``tls_port``."""
    port = machine.settings.get("tls_port", 443)
    threading.Thread(target=_serve_sessions, args=(port,), daemon=True).start()
    serve_files(machine.settings.get("port", 80))


def serve_files(port: int) -> None:
    """Take what is put or posted and throw it away; ``GET /pages/4000`` answers 4,000 bytes."""
    log.info("HTTP server on port %d", port)
    with ThreadingHTTPServer(("", port), _Pages) as server:
        server.serve_forever()


def send(
    machine: Machine,
    site: Site,
    target: Mapping[str, Any],
    method: str,
    path: str,
    body: bytes | None = None,
) -> int:
    """Send one HTTP request to a target's ``host`` and ``port``; returns the answer's bytes.

    Raises:
        OSError: no name, no connection, no answer in ``timeout_s``, or a refusal.
        http.client.HTTPException: the answer is no HTTP.
    """
    address = find_address(machine, site, target["host"])
    timeout_s = machine.settings.get("timeout_s", 5.0)
    connection = http.client.HTTPConnection(address, target["port"], timeout=timeout_s)
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
    machine: Machine,
    site: Site,
    rows: list[Any],
    target: Mapping[str, Any],
    method: str,
    path: str,
    period_s: float,
) -> None:
    """Send the rows that others append, every period; unsent ones are kept, up to 5,000."""
    rng = machine_random(machine, site)
    wait = retry_pauses(machine, rng)
    for _ in periodic(period_s, rng):
        del rows[:-5000]
        batch = rows[:]
        try:
            send(machine, site, target, method, path, json.dumps(batch).encode())
        except (OSError, http.client.HTTPException) as error:
            log.warning("%d rows not sent to %s: %s", len(batch), target["host"], error)
            time.sleep(next(wait))
        else:
            del rows[: len(batch)]
            wait = retry_pauses(machine, rng)


def keep_remote_session(machine: Machine, site: Site) -> None:
    """Hold a TLS session to ``remote``, the vendor's service, with a message every ``period_s``."""
    rng = machine_random(machine, site)
    remote = machine.settings["remote"]
    wait = retry_pauses(machine, rng)
    while True:
        try:
            with _open_session(machine, site, remote) as session:
                log.info("remote service connected")
                wait = retry_pauses(machine, rng)
                for _ in periodic(remote["period_s"], rng):
                    session.sendall(rng.randbytes(rng.randint(40, 200)))
                    if not session.recv(4096):
                        raise OSError("closed by the service")
        except OSError as error:
            log.warning("remote service lost: %s", error)
        time.sleep(next(wait))


def _open_session(machine: Machine, site: Site, remote: Mapping[str, Any]) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the service's certificate is made anew at each start
    address = find_address(machine, site, remote["host"])
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
    context = _make_tls_context()
    with socket.create_server(("", port)) as server:
        while True:
            client, (address, _) = server.accept()
            args = (context, client, address)
            threading.Thread(target=_answer_session, args=args, daemon=True).start()


def _answer_session(context: ssl.SSLContext, client: socket.socket, address: str) -> None:
    """Answer every message with as many bytes and a few more."""
    client.settimeout(600)
    try:
        with context.wrap_socket(client, server_side=True) as session:
            while message := session.recv(4096):
                session.sendall(message + b"accepted")
    except OSError as error:
        log.info("%s: session ended: %s", address, error)


def _make_tls_context() -> ssl.SSLContext:
    """A server's TLS with a key and a certificate made for this start, valid for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "remote.example")])
    now = datetime.datetime.now(datetime.UTC)
    draft = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    draft = draft.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    certificate = draft.sign(key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "key_and_certificate"
        path.write_bytes(pem + certificate.public_bytes(Encoding.PEM))
        context.load_cert_chain(path)
    return context


# ---- Time: the server that has it (chronyd), and how a device asks (SNTP, RFC 4330) ----

_EPOCH_1900_S = 2_208_988_800  # from 1900, where NTP counts from, to 1970
_CHRONY = "local stratum 2\nallow all\ncmdport 0\nbindcmdaddress /\npidfile {folder}/pid\n"


def clock_server(_machine: Machine, _site: Site, _folder: Path) -> None:
    """Serve the host's time and leave its clock alone (``-x``)."""
    with tempfile.TemporaryDirectory() as own:
        config = Path(own) / "chrony.conf"
        config.write_text(_CHRONY.format(folder=own))
        run_daemon(["chronyd", "-x", "-d", "-u", "root", "-f", str(config)])


def keep_time(machine: Machine, site: Site) -> None:
    """Ask ``ntp`` for the time every ``ntp_s``; after a failure sooner, as most devices do."""
    rng = machine_random(machine, site)
    period_s = machine.settings["ntp_s"]
    for _ in periodic(period_s, rng):
        for attempt in range(3):
            try:
                offset_s = ask_time(find_address(machine, site, machine.settings["ntp"]))
            except OSError as error:
                log.warning("time not set: %s", error)
                time.sleep(min(4.0 * 2**attempt, period_s))
            else:
                log.debug("clock offset %.6f s", offset_s)
                break


def ask_time(server: str) -> float:
    """The server's clock less ours, in seconds.

    Raises:
        OSError: no answer in time, or one that is no NTP.
    """
    sent_s = time.time()
    whole, part = int(sent_s) + _EPOCH_1900_S, int(sent_s % 1 * 2**32)
    question = struct.pack("!B39xII", 0x23, whole, part)  # version 4, client
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(2.0)
        client.connect((server, 123))
        client.send(question)
        answer = client.recv(512)
    if len(answer) < 48:
        raise OSError(f"{server} answers {len(answer)} bytes; expected 48")
    whole, part = struct.unpack("!II", answer[40:48])
    return float(whole - _EPOCH_1900_S + part / 2**32 - (sent_s + time.time()) / 2)
