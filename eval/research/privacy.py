"""What of a device's name reaches a model: the classifier's texts and the writer's prompts."""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from assistant.detection.pipeline import analyse
from assistant.diagnosis import diagnose
from assistant.diagnosis.llm_writer import make_prompt, write
from assistant.llm.adapters import load_adapter
from prompts.window_text import render_windows
from traffic.capture import Capture
from traffic.plant import Plant, load_plant
from traffic.reader import read_capture
from traffic.samples import make_samples
from traffic.windows import make_windows

SAMPLE = Path(__file__).parents[2] / "assistant" / "samples" / "bottling-line"
_ENDS = {"flows": ("id.orig_h", "id.resp_h"), "evidence": ("src", "dst")}


# ---- the classifier's texts ----


@dataclass(frozen=True)
class Renaming:
    """What a change of all addresses did to a capture's texts."""

    windows: int
    addresses: int
    differing: int


def compare_texts() -> Renaming:
    """Change every address of the sample and count the window texts that are others then."""
    capture = read_capture(SAMPLE)
    new = _draw_addresses(_list_addresses(capture))
    before, after = (list_texts(one) for one in (capture, rename_addresses(capture, new)))
    unequal = sum(a != b for a, b in zip(before, after, strict=False))
    changed = sum(old != name for old, name in new.items())
    return Renaming(len(before), changed, unequal + abs(len(before) - len(after)))


def list_texts(capture: Capture) -> list[str]:
    """Every window's text, in an order that no address decides."""
    return sorted(render_windows(make_windows(make_samples(capture))))


def rename_addresses(capture: Capture, new: dict[str, str]) -> Capture:
    """The same capture with other addresses; what ``new`` does not name stays."""
    tables: dict[str, pd.DataFrame] = {}
    for name, columns in _ENDS.items():
        table = getattr(capture, name)
        renamed = {
            column: table[column].map(lambda one: new.get(one, one)).astype("str")
            for column in columns
        }
        tables[name] = table.assign(**renamed)
    return replace(capture, **tables)


def _list_addresses(capture: Capture) -> list[str]:
    columns = [getattr(capture, name)[end] for name, ends in _ENDS.items() for end in ends]
    return sorted(set(pd.concat(columns).astype("str")))


def _draw_addresses(old: list[str]) -> dict[str, str]:
    """Another address for each IPv4 host: local in a local network, outside outside.

    Networks stay networks (/24), so that a broadcast stays one; groups and addresses of no host
    keep theirs, because a protocol's own addresses name nobody.
    """
    rng = np.random.default_rng(0)
    hosts = {one: ip for one in old if (ip := _find_host(one)) is not None}
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


def _find_host(text: str) -> ipaddress.IPv4Address | None:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    fixed = (
        ip.is_multicast or ip.is_unspecified or ip.is_loopback or ip.is_link_local or ip.is_reserved
    )
    return ip if isinstance(ip, ipaddress.IPv4Address) and not fixed else None


# ---- the writer's prompts ----


@dataclass(frozen=True)
class Naming:
    """Prompts that a writer would get, and how many hold a device's address or name."""

    prompts: int
    naming: int


def count_naming_prompts() -> Naming:
    """Count the prompts that name a device, a zone, a hardware address or the sample: of a writer
    that orders and one that words, asked of the sample, each device and each incident."""
    plant = load_plant(SAMPLE / "plant.yaml")
    analysis = analyse(SAMPLE, *load_adapter(), plant)
    naming = _find_names(analysis.capture, plant)
    prompts: list[str] = []
    for free in (False, True):
        reader = _Reader(free)
        for device in plant.devices:
            question = f"What is wrong with {device.name} ({device.address}) in {SAMPLE.name}?"
            write(diagnose(question, analysis, None), reader, plant)
        prompts += reader.prompts
        for one in analysis.incidents:
            made = make_prompt("why?", "", "likely", one.facts, free=free)
            prompts += [message["content"] for message in made.messages]
    return Naming(len(prompts), sum(bool(naming.search(prompt)) for prompt in prompts))


class _Reader:
    """A model that keeps what it is sent and says nothing."""

    name = "reader"

    def __init__(self, free_prose: bool) -> None:
        self.free_prose, self.prompts = free_prose, list[str]()

    def stream(self, messages: list[dict[str, str]], max_tokens: int) -> Iterator[str]:
        del max_tokens
        self.prompts += [message["content"] for message in messages]
        yield from ()


def _find_names(capture: Capture, plant: Plant) -> re.Pattern[str]:
    """What no prompt may hold: addresses, names, zones, files."""
    names = {one for one in _list_addresses(capture) if _find_host(one)}
    for device in plant.devices:
        names |= {device.name, device.mac, device.zone, device.contact, *device.aliases}
    names |= {SAMPLE.name, *(path.name for path in SAMPLE.iterdir())}
    known = "|".join(re.escape(one) for one in sorted(names) if one)
    return re.compile(rf"(?i)(?<![\w.-])(?:{known})(?![\w-])")
