"""The programs of the machines, and how one is run: in its machine's network, with a device's log.

Every setting, as plain JSON values; those after the dash have a default. A changed one counts from
the next start.

    program         settings
    any of them     ntp host, ntp_s; how names are found: dns host, dns_tries, dns_timeout_s,
                    by_name, asks_ipv6; retry {first_s, factor, most_s, jitter}: pauses after failures in a row;
                    timeout_s; remote {host, port, period_s}: the vendor's service over TLS;
                    ssh_key: SSH for root on 22; front {port, behind, ...}: what stands before its
                    server (``eval.testbed.programs.front``), which then listens at ``behind``
    dns             domain, names {name: address} - answers: wrong names, "" is NXDOMAIN; mute;
                    failing {rcode: share}: so many answers fail, as SERVFAIL
    ntp
    plc             unit - port, registers, exceptions (share of requests refused, 0 to 1), scan_s,
                    ignores_other_units, refuse [{code - from_s, to_s, share, units, functions,
                    first and last register}]: requests refused with an exception code
    modbus_gateway  units - port, registers, dead (units), serial_timeout_s, exceptions, refuse
    hmi             polled [{name, port, unit, address, count, function, setpoints, write_s}],
                    poll_s - retries, session_s: each session ends after so long; idle_close_s
    historian       polled, poll_s, write_s, store {host, port} - retries
    workstation     hosts, polled, pace_s
    broker          users {user: password} - port, max_connections (-1: no bound)
    sensor          broker, port, user, password, topic, quantity, period_s, payload_bytes, qos -
                    keepalive_s, client_id, mqtt_version (4 is 3.1.1, 5)
    edge            broker, port, user, password, topic, cloud, batch_s - cloud_port, keepalive_s
    opcua_server    port, axes, cycle_s
    opcua_client    server, port, axes, publish_ms, read_s - also_read [node], written [node]
    s7_server       blocks {number: bytes} - port
    s7_client       server, blocks [{db, start, size, write_s}], poll_s - port, slot, stop_at_s
    enip_server     tags {name: type} - port
    enip_client     server, tags, poll_s - port
    iec104_server   station, measurands, period_s - port, commands
    iec104_client   server, stations, poll_s - port, commands, command_s
    dnp3_outstation station, points - port
    dnp3_master     server, station, poll_s - port, address, command_s, output, restart_s
    bacnet_device   instance, values
    bacnet_client   instance, server, objects [[object, property]], poll_s - whois_s, restart_s
    camera          kbit_s, frames_s
    recorder        cameras [{name, transport: udp or tcp}], port - keepalive_s
    cloud           - port, tls_port

A host is a machine's name, a name with dots, or an address.
"""

import ctypes
import gc
import importlib
import logging
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from eval.testbed.host import join_namespace
from eval.testbed.programs import controllers, front, infrastructure, media, messaging, process
from eval.testbed.site import Machine, Site

log = logging.getLogger(__name__)

Program: TypeAlias = Callable[[Machine, Site, Path], None]

PROGRAMS: dict[str, Program] = {
    "dns": infrastructure.resolver,
    "ntp": infrastructure.clock_server,
    "cloud": infrastructure.cloud,
    "plc": controllers.plc,
    "modbus_gateway": controllers.modbus_gateway,
    "hmi": controllers.hmi,
    "historian": controllers.historian,
    "workstation": controllers.workstation,
    "opcua_server": controllers.opcua_server,
    "opcua_client": controllers.opcua_client,
    "broker": messaging.broker,
    "sensor": messaging.sensor,
    "edge": messaging.edge,
    "camera": media.camera,
    "recorder": media.recorder,
}
# Programs whose libraries few plants need: they are imported by the process that runs one.
_IMPORTED = {
    **dict.fromkeys(("s7_server", "s7_client"), "s7"),
    **dict.fromkeys(("enip_server", "enip_client"), "enip"),
    **dict.fromkeys(("iec104_server", "iec104_client"), "iec104"),
    **dict.fromkeys(("dnp3_outstation", "dnp3_master"), "dnp3"),
    **dict.fromkeys(("bacnet_device", "bacnet_client"), "bacnet"),
}
# What runs beside a program where the setting is there.
_BESIDE: dict[str, Callable[[Machine, Site], None]] = {
    "ntp": infrastructure.keep_time,
    "remote": infrastructure.keep_remote_session,
    "ssh_key": process.ssh_server,
    "front": front.front,
}
_CLONE_NEWNS = 0x20000
_REPEATS_S = 30.0


def run_program(machine: Machine, site: Site, folder: Path, namespace: Path) -> None:
    """Run a machine's program in its network namespace until it is killed, as a process of its own."""
    gc.freeze()  # what was imported before the fork stays shared memory: no collection touches it
    os.setsid()
    join_namespace(namespace)
    _keep_run_to_itself()
    _log_to(folder / "logs" / f"{machine.name}.log", machine)
    log.info("system started")
    for setting, beside in _BESIDE.items():
        if setting in machine.settings:
            threading.Thread(target=beside, args=(machine, site), daemon=True).start()
    try:
        find_program(machine.program)(machine, site, folder)
    except BaseException:
        log.exception("program failed")
        raise
    log.error("program ended")


def find_program(name: str) -> Program:
    """The program of a name, imported where it has not been."""
    if name in _IMPORTED:
        module = importlib.import_module(f"eval.testbed.programs.{_IMPORTED[name]}")
        program: Program = getattr(module, name)
        return program
    return PROGRAMS[name]


def _keep_run_to_itself() -> None:
    """Give the process a /run of its own: what its servers write there goes with it."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "no mount namespace could be made")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    tempfile.tempdir = "/run"


def _log_to(path: Path, machine: Machine) -> None:
    """Send the log, and whatever else is printed, to a file, in the form of syslog."""
    path.parent.mkdir(exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    handler = logging.StreamHandler()
    form = f"%(asctime)s {machine.name} {machine.program}[{os.getpid()}]: %(message)s"
    formatter = logging.Formatter(form, "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.addFilter(_Repeats())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for library in ("pymodbus", "asyncua", "paho", "asyncio", "snap7", "dnp3", "enip", "network"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


class _Repeats(logging.Filter):
    """A message said again within 30 s is counted, not written, as syslog daemons do."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        since, count = self._seen.get(text, (-_REPEATS_S, 0))
        if record.created - since < _REPEATS_S:
            self._seen[text] = (since, count + 1)
            return False
        if count:
            record.msg, record.args = f"{text} (repeated {count} times)", ()
        self._seen[text] = (record.created, 0)
        return True
