"""Play scenes in labs of their own, several at once, and record each with its truth.

Each scene is a process that is forked from this one, which has imported what programs need, into
network, mount and process namespaces of its own: whatever happens in it ends with it.
"""

import contextlib
import ctypes
import heapq
import ipaddress
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from eval.testbed.cases.case import CaseTruth, Scene, accelerate
from eval.testbed.lab import Lab, open_lab
from eval.testbed.sensor import restamp
from eval.testbed.site import Site
from traffic.files import write_text

log = logging.getLogger(__name__)

_NAMESPACES = 0x40000000 | 0x20000 | 0x20000000  # CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
SERVERS = (
    *("plc", "modbus_gateway", "broker", "opcua_server", "s7_server", "enip_server"),
    *("iec104_server", "dnp3_outstation"),
)
_STARTING_S = 60.0
_SETTLE_S = 5.0  # clients that came before their servers try again, in two to three seconds
_FIRST_S = 1_780_000_000.0  # June 2026: captures are dated from here on


def record_scene(scene: Scene, name: str, out: Path, start_s: float) -> bool:
    """Record ``out/name.pcap`` with its truth in ``out/name.yaml``; returns whether that went well.

    Args:
        scene: what to play.
        name: of the case.
        out: a folder that exists; logs go to ``out/logs/name``.
        start_s: the time of the capture's first frame, seconds since ``_FIRST_S``.
    """
    folder = out / "logs" / name
    folder.mkdir(parents=True, exist_ok=True)
    pcap = folder / "capture.pcap"
    if isolated(lambda: play(scene, folder, pcap), folder / "stage.log") or not pcap.exists():
        return False
    restamped = folder / f"{name}.pcap"
    restamp(pcap, restamped, _FIRST_S + start_s, scene.speed)
    pcap.unlink()
    measured = {
        text: measure(restamped, text, scene.truth.decode) for text in scene.truth.measures.values()
    }
    if missing := [text for text, times in measured.items() if not times]:
        with (folder / "stage.log").open("a") as file:
            print("no frame shows what is true:", *missing, sep="\n  ", file=file)
        return False
    restamped.rename(out / f"{name}.pcap")
    case = {"capture": f"{name}.pcap", **name_local(scene), **describe(scene.truth, measured)}
    text = yaml.safe_dump([case], sort_keys=False, allow_unicode=True, width=10**6)
    write_text(out / f"{name}.yaml", text)
    return True


def isolated(work: Callable[[], None], log_path: Path) -> int:
    """Run something as the first process of new namespaces; returns its exit status."""
    outer = multiprocessing.get_context("fork").Process(target=_enter, args=(work, log_path))
    outer.start()
    outer.join()
    return outer.exitcode or 0


def _enter(work: Callable[[], None], log_path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    file = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if libc.unshare(_NAMESPACES):
        raise OSError(ctypes.get_errno(), "no namespaces could be made")
    # A process namespace begins with the next child; when that ends, all in it does.
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    status = 1
    try:
        libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
        work()
        status = 0
    except BaseException:
        log.exception("the scene failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def play(scene: Scene, folder: Path, pcap: Path) -> None:
    speed, site = scene.speed, _accelerated(scene.site, scene.speed)
    with open_lab(site, folder, multiprocessing.get_context("fork")) as lab:
        _refuse_freely(lab)
        for machine in site.machines:
            if machine.name not in scene.late:
                lab.start(machine.name)
        _wait_for_servers(lab, site)
        time.sleep(_SETTLE_S)
        with _capturing(pcap):
            for name in scene.late:
                lab.start(name)
            start_s = time.monotonic()
            agenda = [(step.at_s / speed, number) for number, step in enumerate(scene.steps)]
            heapq.heapify(agenda)
            active: dict[int, contextlib.ExitStack] = {}
            ends: list[tuple[float, int]] = []
            while (now := time.monotonic() - start_s) < scene.length_s / speed:
                while agenda and agenda[0][0] <= now:
                    _, number = heapq.heappop(agenda)
                    step = scene.steps[number]
                    active[number] = contextlib.ExitStack()
                    active[number].enter_context(step.act(lab))
                    heapq.heappush(ends, (step.until_s / speed, number))
                while ends and ends[0][0] <= now:
                    active.pop(heapq.heappop(ends)[1]).close()
                if died := lab.died():
                    log.error("the program of %s ended by itself", ", ".join(died))
                    raise RuntimeError("a program ended by itself")
                time.sleep(0.1)
        # What is still going on ends with the lab, after the capture: nobody sees it undone.


def _wait_for_servers(lab: Lab, site: Site) -> None:
    """Until every server over TCP listens: some build an address space for seconds.

    Raises:
        RuntimeError: one does not, within ``_STARTING_S``.
    """
    until_s = time.monotonic() + _STARTING_S
    for machine in site.machines:
        port = machine.settings.get("front", machine.settings).get("port")
        while machine.program in SERVERS and not lab.listens(machine.name, port):
            if machine.name in lab.died() or time.monotonic() > until_s:
                raise RuntimeError(f"{machine.name} does not listen at port {port}")
            time.sleep(0.2)


def _accelerated(site: Site, speed: float) -> Site:
    machines = [replace(one, settings=accelerate(one.settings, speed)) for one in site.machines]
    return replace(site, machines=tuple(machines))


def _refuse_freely(lab: Lab) -> None:
    """Let every machine say that a port is unreachable as often as it is asked."""
    for machine in lab.site.machines:
        for limit in ("net.ipv4.icmp_ratelimit=0", "net.ipv4.icmp_ratemask=0"):
            lab.run(machine.name, ["sysctl", "-qw", limit]).wait()


@contextlib.contextmanager
def _capturing(pcap: Path) -> Iterator[None]:
    command = ["tcpdump", "--interface=plant", "--buffer-size=16384", "--packet-buffered"]
    command += ["-w", str(pcap), "--relinquish-privileges=root"]
    capture = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        yield
    finally:
        capture.send_signal(signal.SIGTERM)
        capture.wait()


def name_local(scene: Scene) -> dict[str, list[str]]:
    """What an operator names with ``--local``: the plant's network where that is a public one."""
    private = ipaddress.ip_network(scene.site.network).is_private
    return {} if private else {"local": [scene.site.network]}


def describe(truth: CaseTruth, measured: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The truth of a case as its file has it.

    Args:
        truth: as it was fixed before.
        measured: display filter -> seconds after the first frame of each frame that it shows.
    """
    words: dict[str, int] = {}
    counts = {}
    for name, text in truth.measures.items():
        times = measured[text]
        words |= {
            name: len(times),
            f"{name}_first_s": round(times[0]),
            f"{name}_last_s": round(times[-1]),
        }
        ends = {"first_s": round(times[0], 3), "last_s": round(times[-1], 3)}
        counts[name] = {"filter": text, "count": len(times), **ends}
    case: dict[str, Any] = {"ask": truth.ask, "right": truth.right.format(**words)}
    case["standing"] = [*truth.standing]
    case |= {"must": [*truth.must]} if truth.must else {}
    case |= {"must_not": [*truth.must_not]} if truth.must_not else {}
    place = {"device": truth.device, "peers": [*truth.peers], "protocol": truth.protocol}
    case |= {"facts": {**place, **truth.facts}, "measured": counts}
    case |= {"decode": [*truth.decode]} if truth.decode else {}
    return case


def measure(pcap: Path, text: str, decode: Sequence[str]) -> list[float]:
    """Seconds after the first frame of each frame that a display filter shows, by tshark."""
    command = ["tshark", "-r", str(pcap), "-Y", text, "-T", "fields", "-e", "frame.time_relative"]
    command += [part for how in decode for part in ("-d", how)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [float(line) for line in said.split()]
