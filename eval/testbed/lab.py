"""Machines made of network namespaces, and what can be done to them: unplug, slow down, crash.

A lab lives in a network, mount and process namespace of its own (``eval.testbed.host.enter`` starts
one). So the host's network is never touched, its list of namespaces stays hidden, and all of it is
gone when its first process ends, however it ends.

    plant's machines ── veth ── bridge `plant` ── router ── bridge `beyond` ── machines beyond it
                                      └── tcpdump: every frame once, as a span port would see it
"""

import contextlib
import ipaddress
import json
import multiprocessing
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from eval.testbed.programs.runner import run_program
from eval.testbed.site import ROUTER, Machine, Site

_NETNS = Path("/run/netns")
_LOOK_S = 2.0  # how long what a cable carries is counted


@contextlib.contextmanager
def open_lab(site: Site, folder: Path, programs: BaseContext | None = None) -> Iterator["Lab"]:
    """Build a site's namespaces, links and switches inside ``enter``; end its programs at the end.

    Args:
        site: what to build.
        folder: for logs and the tools' output.
        programs: how programs become processes; by default a server forks them that has imported
            what they need.
    """
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    _NETNS.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(_NETNS)], check=True)
    lab = Lab(site, folder, programs)
    try:
        lab.build()
        yield lab
    finally:
        lab.close()


class Lab:
    """A running site. Every change is undone by its opposite; machines are meant by name."""

    def __init__(self, site: Site, folder: Path, programs: BaseContext | None = None) -> None:
        self.site = site
        self.folder = folder
        self._running: dict[str, BaseProcess] = {}
        self._machines = {machine.name: machine for machine in site.machines}
        self._ports: dict[str, str] = {}  # machine -> its port of the switch
        self._tools: list[subprocess.Popen[bytes]] = []
        self._programs = programs or multiprocessing.get_context("forkserver")
        # Forked from a server that has imported it, so that two dozen programs share one import.
        self._programs.set_forkserver_preload(["eval.testbed.programs.runner"])

    def build(self) -> None:
        """Make switches, namespaces and links; nothing runs yet."""
        _ip("link set lo up", *(f"link add {name} type bridge" for name in ("plant", "beyond")))
        # A bridge in promiscuous mode hands every frame up, which is what tcpdump then sees, once.
        _ip("link set plant up promisc on", "link set beyond up")
        for machine in self.site.machines:
            self._plug_in(machine)
        subprocess.run(self._inside(ROUTER, ["sysctl", "-qw", "net.ipv4.ip_forward=1"]), check=True)

    def start(self, name: str, **changes: Any) -> None:
        """Run a machine's program, with settings changed; one that runs is ended first."""
        self.stop(name)
        machine = self._machines[name]
        if machine.program:
            machine = replace(machine, settings={**machine.settings, **changes})
            args = (machine, self.site, self.folder, _NETNS / name)
            process = self._programs.Process(  # type: ignore[attr-defined]
                target=run_program, args=args, name=name, daemon=False
            )
            self._running[name] = process
            process.start()

    def stop(self, name: str) -> None:
        """End a machine's program and what it started; its kernel stays and refuses connections."""
        process = self._running.pop(name, None)
        if process is not None and process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()  # one that has hardly begun leads no group yet
            process.join()

    def pause(self, name: str, on: bool = True) -> None:
        """Freeze a machine's program: its connections live, and nothing is said on them."""
        process = self._running.get(name)
        if process is not None and process.pid is not None:
            os.killpg(process.pid, signal.SIGSTOP if on else signal.SIGCONT)

    def link(self, name: str, up: bool) -> None:
        """Plug a machine in or out at the switch."""
        _ip(f"link set {self._ports[name]} {'up' if up else 'down'}")

    def lose(self, name: str, share: float) -> None:
        """Drop a share of a machine's frames, 0 to 1, each way, on its cable to the switch.

        They are dropped where they arrive: a kernel that drops what it sends tells the sender
        (EPERM), a cable never.
        """
        port, choice = self._ports[name], f"numgen random mod 1000 < {round(share * 1000)}"
        # On the way to the machine the other end is the source, on the way from it the destination.
        for inside, device, end in ((self._inside(name, []), "eth0", "saddr"), ([], port, "daddr")):
            rules = f"table netdev {port}\ndelete table netdev {port}\n"
            if share > 0:
                rules += f"""table netdev {port} {{
                    set dropped {{ type ipv4_addr; flags dynamic; size 4096; }}
                    chain lost {{ update @dropped {{ ip {end} counter }}; }}
                    chain cable {{ type filter hook ingress device {device} priority 0; {choice} jump lost; }}
                }}
                add rule netdev {port} lost drop
                """
            subprocess.run([*inside, "nft", "-f", "-"], input=rules.encode(), check=True)

    def lost(self, name: str) -> dict[str, int]:
        """How many packets ``lose`` has dropped so far, by the address at the other end."""
        port, lost = self._ports[name], Counter[str]()
        for inside in (self._inside(name, []), []):
            command = [*inside, "nft", "-j", "list", "set", "netdev", port, "dropped"]
            listed = json.loads(_output(command))["nftables"][-1]["set"]
            for entry in listed.get("elem", []):
                lost[entry["elem"]["val"]] += entry["elem"]["counter"]["packets"]
        return dict(lost)

    def limit(self, name: str, kbit: float, queue_ms: float = 300) -> None:
        """Slow a machine's cable down to so many kbit/s each way; 0 is full speed again.

        ``queue_ms``: what waits longer is dropped.
        """
        # A bucket of 96 ms, but never less than one frame, which would then not pass at all.
        port, burst = self._ports[name], max(1600, int(kbit * 12))
        shape = f"tbf rate {kbit:.0f}kbit burst {burst} latency {queue_ms:.0f}ms".split()
        for inside, device in ((self._inside(name, []), "eth0"), ([], port)):
            tc = [*inside, "tc", "qdisc"]
            subprocess.run([*tc, "del", "dev", device, "root"], capture_output=True)
            if kbit > 0:
                subprocess.run([*tc, "add", "dev", device, "root", *shape], check=True)

    def carried_kbit(self, name: str) -> float:
        """What a machine's cable carries now, in its busier direction, in kbit/s."""
        before = _carried_bytes(name)
        time.sleep(_LOOK_S)
        carried = zip(before, _carried_bytes(name), strict=True)
        return max(after - earlier for earlier, after in carried) * 8 / 1000 / _LOOK_S

    def connections(self, name: str, port: int) -> list[str]:
        """The addresses that hold a TCP connection to a machine's port."""
        command = ["ss", "-Htn", "state", "established", f"( sport = :{port} )"]
        lines = _output(self._inside(name, command)).splitlines()
        return sorted({line.split()[3].rpartition(":")[0] for line in lines})

    def listens(self, name: str, port: int) -> bool:
        """Whether a machine's TCP port is open."""
        command = ["ss", "-Hltn", f"( sport = :{port} )"]
        return bool(_output(self._inside(name, command)).strip())

    def address(self, name: str, address: str, gateway: str) -> None:
        """Give a machine another address and gateway, as a wrong entry in its settings would."""
        prefix = self.site.network.rpartition("/")[2]
        _ip("addr flush dev eth0", f"addr add {address}/{prefix} dev eth0", namespace=name)
        _ip(f"route replace default via {gateway} dev eth0 onlink", namespace=name)

    def add(self, machine: Machine) -> None:
        """Plug in a machine that the site does not list: an intruder, a copy, a newcomer."""
        self._machines[machine.name] = machine
        self._plug_in(machine)

    def remove(self, name: str) -> None:
        """Take away a machine that was added."""
        self.stop(name)
        subprocess.run(["ip", "netns", "delete", name], check=True)
        del self._machines[name]

    def run(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a tool on a machine, to end with the lab at the latest.

        Its output goes to ``tools/<name>-<tool>.log``; ``logs/`` holds what devices say themselves.
        """
        path = self.folder / "tools" / f"{name}-{Path(command[0]).name}.log"
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as file:
            tool = subprocess.Popen(
                self._inside(name, command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._tools.append(tool)
        return tool

    def machine(self, name: str) -> Machine:
        """A machine of the site, or one that was added."""
        return self._machines[name]

    def died(self) -> list[str]:
        """Machines whose program has ended by itself."""
        return [name for name, process in self._running.items() if not process.is_alive()]

    def close(self) -> None:
        """End every program and tool."""
        for name in list(self._running):
            self.stop(name)
        for tool in self._tools:
            end(tool)

    def _plug_in(self, machine: Machine) -> None:
        port = self._ports[machine.name] = f"port{len(self._ports)}"
        prefix = 24 if machine.beyond else int(self.site.network.rpartition("/")[2])
        bridge = "beyond" if machine.beyond else "plant"
        subprocess.run(["ip", "netns", "add", machine.name], check=True)
        _add_cable(port, "eth0", machine.name, bridge)
        # One segment a packet, as on a real wire: a virtual cable would carry 64 kB in one frame.
        inside = ["link set lo up", f"link set eth0 address {machine.mac} gso_max_segs 1 up"]
        inside.append(f"addr add {machine.address}/{prefix} dev eth0")
        if machine.name == ROUTER:
            _add_cable(f"{port}b", "eth1", ROUTER, "beyond")
            addresses = [f"addr add {_first(network)}/24 dev eth1" for network in self.site.outside]
            inside += ["link set eth1 up", *addresses]
        else:
            gateway = self.site.gateway if not machine.beyond else _first(f"{machine.address}/24")
            inside.append(f"route add default via {gateway} dev eth0 onlink")
        _ip(*inside, namespace=machine.name)

    @staticmethod
    def _inside(name: str, command: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", name, *command]


def end(tool: subprocess.Popen[bytes]) -> None:
    """End a tool and what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(tool.pid, signal.SIGKILL)
    tool.wait()


def _first(network: str) -> str:
    """The first address of the network that an address with its prefix lies in: the router's."""
    return str(ipaddress.ip_interface(network).network[1])


def _add_cable(port: str, device: str, name: str, bridge: str) -> None:
    """A cable from a device of a machine to a port of a bridge."""
    _ip(f"link add {port} type veth peer name {device} netns {name}")
    _ip(f"link set {port} master {bridge} up")


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _carried_bytes(name: str) -> list[int]:
    command = ["ip", "-n", name, "-json", "-stats", "link", "show", "eth0"]
    counters = json.loads(_output(command))[0]["stats64"]
    return [counters[way]["bytes"] for way in ("rx", "tx")]


def _ip(*lines: str, namespace: str | None = None) -> None:
    """Run lines of ``ip`` as one batch."""
    where = ["-n", namespace] if namespace else []
    subprocess.run(
        ["ip", *where, "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True
    )
