"""Video: cameras that stream (RTSP, RFC 2326; RTP, RFC 3550) and the recorder that asks them."""

import logging
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from eval.testbed.programs.infrastructure import find_address, serve_files
from eval.testbed.programs.process import machine_random, retry_pauses
from eval.testbed.site import Machine, Site

log = logging.getLogger(__name__)

_PORT = 554
_PAYLOAD_BYTES = 1200
_TYPE = 96  # the dynamic payload type that the session description names
_DESCRIPTION = (
    "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=live\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 x-noise/90000\r\n"
)


def camera(machine: Machine, site: Site, _folder: Path) -> None:
    """Stream ``kbit_s`` at ``frames_s`` to whoever asks, over UDP or within the RTSP connection."""
    rng = machine_random(machine, site)
    with socket.create_server(("", _PORT), backlog=4) as server:
        log.info("RTSP server on port %d", _PORT)
        while True:
            client, (address, _) = server.accept()
            args = (machine, rng, client, address)
            threading.Thread(target=_serve, args=args, daemon=True).start()


def recorder(machine: Machine, site: Site, _folder: Path) -> None:
    """Record every camera of ``cameras`` for ever, and keep files that others put on ``port``."""
    for entry in machine.settings["cameras"]:
        args = (machine, site, entry["name"], entry["transport"])
        threading.Thread(target=_record, args=args, daemon=True).start()
    serve_files(machine.settings["port"])


@dataclass
class _Stream:
    """One stream to one recorder: where it goes, and how far it is."""

    control: socket.socket
    address: str
    ssrc: int
    port: int = 0  # of the recorder, for UDP; 0 is within the RTSP connection
    playing: bool = False
    sequence: int = 0
    stamp: int = 0
    number: int = 0


def _serve(machine: Machine, rng: Random, client: socket.socket, address: str) -> None:
    """Answer requests and send pictures while the stream plays, until the recorder goes."""
    log.info("%s connected", address)
    stream = _Stream(client, address, rng.getrandbits(32))
    period_s = 1 / machine.settings["frames_s"]
    due_s = time.monotonic()
    with client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        client.settimeout(20)
        try:
            while True:
                left_s = max(0.0, due_s - time.monotonic()) if stream.playing else 90.0
                if select.select([client], [], [], left_s)[0]:
                    _reply(stream, client.recv(4096).decode(errors="replace"))
                elif not stream.playing:
                    raise OSError("no request in 90 s")
                else:
                    _send_picture(machine, rng, stream, datagrams)
                    due_s = max(due_s + period_s, time.monotonic())
        except OSError as error:
            log.info("%s disconnected: %s", address, error)


def _reply(stream: _Stream, request: str) -> None:
    """Answer one RTSP request; SETUP tells where the stream goes, PLAY starts it.

    Raises:
        OSError: the recorder has closed, or asks to.
    """
    if not request:
        raise OSError("closed by the recorder")
    verb = request.partition(" ")[0]
    headers = dict(line.split(": ", 1) for line in request.split("\r\n") if ": " in line)
    lines, body = [f"CSeq: {headers.get('CSeq', '0')}", "Session: 1"], ""
    if verb == "DESCRIBE":
        body = _DESCRIPTION
        lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
    elif verb == "SETUP":
        transport = headers.get("Transport", "")
        ports = transport.partition("client_port=")[2]
        stream.port = int(ports.partition("-")[0]) if ports else 0
        lines.append(f"Transport: {transport}")
    stream.control.sendall("\r\n".join(["RTSP/1.0 200 OK", *lines, "", body]).encode())
    stream.playing |= verb == "PLAY"
    if verb == "TEARDOWN":
        raise OSError("stream ended")


def _send_picture(machine: Machine, rng: Random, stream: _Stream, datagrams: socket.socket) -> None:
    """Send one picture in packets.

    Every twentieth is whole, and about four times as large as the changes between them.
    """
    frames_s = machine.settings["frames_s"]
    mean_bytes = machine.settings["kbit_s"] * 125 / frames_s
    size = int(mean_bytes * (3.5 if stream.number % 20 == 0 else 0.87) * rng.uniform(0.8, 1.2))
    stream.number += 1
    stream.stamp = (stream.stamp + round(90000 / frames_s)) % 2**32
    for left in range(size, 0, -_PAYLOAD_BYTES):
        kind = _TYPE | (0x80 if left <= _PAYLOAD_BYTES else 0)  # the marker of the last packet
        fields = (0x80, kind, stream.sequence, stream.stamp, stream.ssrc)
        packet = struct.pack("!BBHII", *fields) + rng.randbytes(min(left, _PAYLOAD_BYTES))
        stream.sequence = (stream.sequence + 1) % 65536
        if stream.port:
            datagrams.sendto(packet, (stream.address, stream.port))
        else:
            stream.control.sendall(struct.pack("!cBH", b"$", 0, len(packet)) + packet)


def _record(machine: Machine, site: Site, name: str, transport: str) -> None:
    """Ask a camera for its stream and take it, for ever."""
    rng = machine_random(machine, site, name)
    wait, keepalive_s = retry_pauses(machine, rng), machine.settings.get("keepalive_s", 30.0)
    while True:
        try:
            address = find_address(machine, site, name)
            with (
                socket.create_connection((address, _PORT), timeout=5) as control,
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
            ):
                datagrams.bind(("", 0))
                port = datagrams.getsockname()[1] if transport == "udp" else 0
                _open_stream(control, address, port)
                log.info("recording %s", name)
                wait = retry_pauses(machine, rng)
                _take(control, datagrams if port else control, address, keepalive_s)
        except OSError as error:
            log.warning("%s: video lost: %s", name, error)
        time.sleep(next(wait))


def _open_stream(control: socket.socket, address: str, port: int) -> None:
    way = "RTP/AVP/TCP;unicast;interleaved=0-1"
    if port:
        way = f"RTP/AVP;unicast;client_port={port}-{port + 1}"
    requests = {"OPTIONS": "", "DESCRIBE": "", "SETUP": f"Transport: {way}\r\n", "PLAY": ""}
    for number, (verb, more) in enumerate(requests.items(), 1):
        _request(control, address, verb, number, more)
        if not control.recv(4096):
            raise OSError(f"closed at {verb}")


def _request(control: socket.socket, address: str, verb: str, number: int, more: str = "") -> None:
    head = f"{verb} rtsp://{address}/live RTSP/1.0\r\nCSeq: {number}\r\n"
    control.sendall(f"{head}{more}\r\n".encode())


def _take(control: socket.socket, media: socket.socket, address: str, keepalive_s: float) -> None:
    """Take the stream until nothing has come for 5 s, with a request now and then to keep it alive.

    Raises:
        OSError: the stream or the connection has ended.
    """
    ask_s, number = time.monotonic() + keepalive_s, 5
    media.settimeout(5)
    while media.recv(65536):
        if time.monotonic() > ask_s:
            _request(control, address, "GET_PARAMETER", number)
            ask_s, number = ask_s + keepalive_s, number + 1
            if control is not media and not control.recv(4096):
                raise OSError("closed by the camera")
    raise OSError("closed by the camera")
