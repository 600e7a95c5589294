"""Pictures: cameras that stream when asked (RTSP, RFC 2326; RTP, RFC 3550) and the recorder that
asks them."""

import logging
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from eval.testbed.programs.infrastructure import find, serve_files
from eval.testbed.programs.process import dice_of, pauses
from eval.testbed.site import Machine, Site

log = logging.getLogger(__name__)

_PORT = 554
_PAYLOAD_BYTES = 1200
_TYPE = 96  # the dynamic payload type that the session description names
_DESCRIPTION = "\r\n".join(
    (
        "v=0",
        "o=- 1 1 IN IP4 0.0.0.0",
        "s=live",
        "t=0 0",
        "m=video 0 RTP/AVP 96",
        "a=rtpmap:96 x-noise/90000",
        "",
    )
)


def camera(machine: Machine, site: Site, folder: Path) -> None:
    """Stream ``kbit_s`` to whoever asks, at ``frames_s`` pictures a second, over UDP or within the
    RTSP connection."""
    del folder
    dice = dice_of(machine, site)
    with socket.create_server(("", _PORT), backlog=4) as server:
        log.info("RTSP server on port %d", _PORT)
        while True:
            client, (address, _) = server.accept()
            threading.Thread(
                target=_serve, args=(machine, dice, client, address), daemon=True
            ).start()


def recorder(machine: Machine, site: Site, folder: Path) -> None:
    """Record every camera of ``cameras`` for ever, and keep files that others put on ``port``."""
    del folder
    for entry in machine.settings["cameras"]:
        threading.Thread(
            target=_record, args=(machine, site, entry["name"], entry["transport"]), daemon=True
        ).start()
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


def _serve(machine: Machine, dice: Random, client: socket.socket, address: str) -> None:
    """Answer requests, and send a picture at each beat while the stream plays, until the recorder
    goes."""
    log.info("%s connected", address)
    stream = _Stream(client, address, dice.getrandbits(32))
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
                    _send_picture(machine, dice, stream, datagrams)
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


def _send_picture(
    machine: Machine, dice: Random, stream: _Stream, datagrams: socket.socket
) -> None:
    """One picture in packets; every twentieth is whole and about four times as large as the changes
    between them."""
    mean_bytes = machine.settings["kbit_s"] * 125 / machine.settings["frames_s"]
    size = int(mean_bytes * (3.5 if stream.number % 20 == 0 else 0.87) * dice.uniform(0.8, 1.2))
    stream.number += 1
    stream.stamp = (stream.stamp + round(90000 / machine.settings["frames_s"])) % 2**32
    for left in range(size, 0, -_PAYLOAD_BYTES):
        marker = 0x80 if left <= _PAYLOAD_BYTES else 0
        head = struct.pack(
            "!BBHII", 0x80, marker | _TYPE, stream.sequence, stream.stamp, stream.ssrc
        )
        packet = head + dice.randbytes(min(left, _PAYLOAD_BYTES))
        stream.sequence = (stream.sequence + 1) % 65536
        if stream.port:
            datagrams.sendto(packet, (stream.address, stream.port))
        else:
            stream.control.sendall(struct.pack("!cBH", b"$", 0, len(packet)) + packet)


def _record(machine: Machine, site: Site, name: str, transport: str) -> None:
    """Ask a camera for its stream and take it, for ever."""
    dice = dice_of(machine, site)
    dice.seed(f"{machine.name} {name}")
    wait = pauses(machine, dice)
    while True:
        try:
            address = find(machine, site, name)
            with (
                socket.create_connection((address, _PORT), timeout=5) as control,
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
            ):
                datagrams.bind(("", 0))
                port = datagrams.getsockname()[1] if transport == "udp" else 0
                _open_stream(control, address, port)
                log.info("recording %s", name)
                wait = pauses(machine, dice)
                _take(
                    control,
                    datagrams if port else control,
                    address,
                    machine.settings.get("keepalive_s", 30.0),
                )
        except OSError as error:
            log.warning("%s: video lost: %s", name, error)
        time.sleep(next(wait))


def _open_stream(control: socket.socket, address: str, port: int) -> None:
    way = (
        f"RTP/AVP;unicast;client_port={port}-{port + 1}"
        if port
        else "RTP/AVP/TCP;unicast;interleaved=0-1"
    )
    for number, (verb, more) in enumerate(
        (("OPTIONS", ""), ("DESCRIBE", ""), ("SETUP", f"Transport: {way}\r\n"), ("PLAY", "")), 1
    ):
        _request(control, address, verb, number, more)
        if not control.recv(4096):
            raise OSError(f"closed at {verb}")


def _request(control: socket.socket, address: str, verb: str, number: int, more: str = "") -> None:
    control.sendall(
        f"{verb} rtsp://{address}/live RTSP/1.0\r\nCSeq: {number}\r\n{more}\r\n".encode()
    )


def _take(control: socket.socket, media: socket.socket, address: str, keepalive_s: float) -> None:
    """Take the stream until nothing has come for 5 s; the connection is kept alive by a request now
    and then.

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
