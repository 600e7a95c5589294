"""Names of the plant: the resolver that knows them (dnsmasq), and how a device asks it."""

import ipaddress
import logging
import socket
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from eval.testbed.programs.process import run_daemon
from eval.testbed.site import Machine, Site

__all__ = ["find", "full_name", "resolver"]

log = logging.getLogger(__name__)

_RESOLVER = "dns-1"


def resolver(machine: Machine, site: Site, folder: Path) -> None:
    """Serve the names of every machine; those in ``answers`` wrongly, and nothing at all when ``mute``."""
    del folder
    if machine.settings.get("mute"):
        _listen_without_a_word()
    names = {full_name(site, other.name): other.address for other in site.machines if not other.beyond}
    names |= machine.settings["names"]
    names |= {full_name(site, name): address for name, address in machine.settings.get("answers", {}).items()}
    command = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-", "--user=root"]
    # Every name that is not known is said not to exist; there is nobody further to ask.
    command += ["--pid-file=", "--no-resolv", "--no-hosts", "--cache-size=0", "--local-ttl=60", "--local=/#/"]
    command += [f"--host-record={name},{address}" for name, address in names.items() if address]
    run_daemon(command)


def find(machine: Machine, site: Site, host: str) -> str:
    """The address of a host as the machine comes to know it, asked anew each time.

    An address stands for itself. A device with ``by_name`` off has the plant's addresses written in its settings; any
    other asks its resolver, from a random port, ``dns_tries`` times, each for ``dns_timeout_s``.

    Raises:
        OSError: no answer, or none that names an address.
    """
    if _is_address(host):
        return host
    if not machine.settings.get("by_name", True) and "." not in host:
        return _written(site, host)
    name = full_name(site, host)
    server = _written(site, machine.settings.get("dns", _RESOLVER))
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
    for _ in range(machine.settings.get("dns_tries", 2)):
        try:
            answer = dns.query.udp(
                dns.message.make_query(name, kind), server, timeout=machine.settings.get("dns_timeout_s", 3.0)
            )
        except (dns.exception.DNSException, OSError) as error:
            log.warning("resolver %s: no answer for %s (%s)", server, name, type(error).__name__)
            continue
        if answer.rcode() != dns.rcode.NOERROR:
            raise OSError(f"cannot resolve {name}: {dns.rcode.to_text(answer.rcode())}")
        wanted = dns.rdatatype.from_text(kind)
        return [record.address for records in answer.answer if records.rdtype == wanted for record in records]
    raise OSError(f"cannot resolve {name}: {server} does not answer")


def _written(site: Site, host: str) -> str:
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


def _listen_without_a_word() -> None:
    log.error("cache exhausted, queries are dropped")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("", 53))
        while True:
            server.recv(4096)
