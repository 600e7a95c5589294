"""Whether anything that names a device reaches a model: under other addresses, traffic must give
the same texts."""

import ipaddress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from prompts.window_text import render_windows
from traffic.capture import Capture
from traffic.reader import read_capture
from traffic.samples import make_samples
from traffic.windows import make_windows

SAMPLE = Path(__file__).parents[2] / "assistant" / "samples" / "bottling-line"
_ENDS = ("id.orig_h", "id.resp_h")


@dataclass(frozen=True)
class Renaming:
    """What a change of all addresses did to a capture's texts."""

    windows: int
    addresses: int
    differing: int


def compare_texts(path: Path = SAMPLE, seed: int = 0) -> Renaming:
    """Change every address of a capture and count the window texts that are others then.

    Args:
        path: a capture in any form.
        seed: of the new addresses.

    Raises:
        UserError: the capture cannot be read.
    """
    capture = read_capture(path)
    new = _new_addresses(_addresses(capture), seed)
    before, after = (_texts(one) for one in (capture, rename_addresses(capture, new)))
    differing = sum(a != b for a, b in zip(before, after, strict=False)) + abs(
        len(before) - len(after)
    )
    return Renaming(len(before), sum(old != name for old, name in new.items()), differing)


def _texts(capture: Capture) -> list[str]:
    """Every window's text, in an order that no address decides."""
    return sorted(render_windows(make_windows(make_samples(capture))))


def rename_addresses(capture: Capture, new: dict[str, str]) -> Capture:
    """The same capture with other addresses; what ``new`` does not name stays."""

    def renamed(table: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
        return table.assign(
            **{
                name: table[name].map(lambda one: new.get(one, one)).astype("str")
                for name in columns
            }
        )

    return replace(
        capture,
        flows=renamed(capture.flows, _ENDS),
        evidence=renamed(capture.evidence, ("src", "dst")),
    )


def _addresses(capture: Capture) -> list[str]:
    columns = [capture.flows[name] for name in _ENDS] + [
        capture.evidence[name] for name in ("src", "dst")
    ]
    return sorted(set(pd.concat(columns).astype("str")))


def _new_addresses(old: list[str], seed: int) -> dict[str, str]:
    """Another address for each IPv4 host, of its own kind: local in a local network, outside
    outside.

    Networks stay networks (/24), so that a broadcast stays one; groups and addresses of no host
    keep theirs, because a protocol's own addresses name nobody.
    """
    rng = np.random.default_rng(seed)
    hosts = {one: ip for one in old if (ip := _host(one)) is not None}
    networks = sorted({int(ip) >> 8 for ip in hosts.values()})
    places = rng.permutation(250)[: len(networks)]
    order = {network: rng.permutation(np.arange(1, 255)) for network in networks}
    named = {}
    for text, ip in hosts.items():
        network, host = int(ip) >> 8, int(ip) & 255
        place = int(places[networks.index(network)])
        other = host if host in (0, 255) else int(order[network][host - 1])
        named[text] = f"{f'10.77.{place}' if ip.is_private else f'9.{place}.{place}'}.{other}"
    return named


def _host(text: str) -> ipaddress.IPv4Address | None:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    fixed = (
        ip.is_multicast or ip.is_unspecified or ip.is_loopback or ip.is_link_local or ip.is_reserved
    )
    return ip if isinstance(ip, ipaddress.IPv4Address) and not fixed else None
