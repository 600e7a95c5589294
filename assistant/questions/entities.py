"""Find the devices a question names: by address, name, zone or kind, typing errors forgiven."""

import ipaddress
import re
import weakref
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import chain

from assistant.detection.incidents import worst_first
from assistant.detection.pipeline import Analysis
from assistant.facts.fact import find_whole
from assistant.questions.forms import is_ordinary, vocabulary
from assistant.questions.plain import MAX_CHARS
from traffic.discovery import draft_plant
from traffic.identities import choose_identities
from traffic.plant import Device

_MOST_IDS = 4  # under which one device logs in

# What operators call a device -> words that stand in its role or name.
_SYNONYMS = {
    "camera": ("camera", "cam", "webcam", "cctv", "video"),
    "plc": ("plc", "controller", "cpu", "rtu"),
    "controller": ("plc", "controller", "cpu", "rtu", "outstation", "bacnet", "iec 104"),
    "outstation": ("rtu", "outstation", "station"),
    "rtu": ("rtu", "outstation"),
    "hmi": ("hmi", "panel", "screen", "display", "touchscreen", "scada", "dashboard", "master"),
    "gateway": ("gateway", "converter"),
    "broker": ("broker", "mosquitto"),
    "switch": ("switch",),
    "router": ("router", "firewall", "modem"),
    "sensor": ("sensor", "probe", "thermometer", "meter", "transmitter", "node"),
    "drive": ("drive", "inverter", "motor", "vfd"),
    "printer": ("printer", "plotter"),
    "workstation": ("workstation", "laptop", "computer", "notebook", "desktop"),
    "server": ("server", "historian", "nas"),
    "robot": ("robot",),
    "lamp": ("lamp", "light", "bulb", "hue"),
    "lock": ("lock", "doorlock"),
    "speaker": ("speaker", "echo"),
}
# What a plant is made of; an inventory names few of them, and who asks means what controls them.
_MACHINES = """boiler centrifuge compressor conveyor crane elevator extruder filler forklift furnace heater labeller
lathe mixer oven palletiser press pump scanner tank turbine valve ventilator wrapper"""
_PLACES = frozenset(("line", "cell", "hall", "zone", "station", "area"))
_SYNONYMS |= {one: (one,) for one in (*_MACHINES.split(), *sorted(_PLACES))}
# Roles of an inventory that people call by other words, as patterns.
_ROLE_NAMES = {
    "dns": r"(?:dns|name|names) ?servers?|nameservers?|resolvers?|servidor(?:es)? dns",
    "ntp": r"(?:ntp|time|clock|zeit) ?servers?|zeitserver|servidor(?:es)? de (?:hora|tiempo)",
    "workstation": r"(?:engineering )?work ?stations?|laptops?",
    "recorder": r"(?:video )?recorders?|nvr|dvr",
    "edge": r"edge (?:devices?|gateways?|box(?:es)?|computers?|nodes?|servers?)|the edge",
    "mes": r"mes(?: servers?)?",
}
# What these words name may be another thing than a device: the sensor that recorded, a wrong gateway.
_VAGUE_ROLES = frozenset(("sensor", "switch", "gateway", "router", "server", "device"))
_ARTICLE = r"(?:the|our|my|this|that|der|die|das|den|dem|unser\w*|el|la|nuestr[oa])"
_MADE_UP_NAME = re.compile(r"\b([a-z][a-z]+)(?:([-_])| ?)(\d{1,3})\b")


@dataclass(frozen=True)
class Mention:
    """What a question points at.

    Attributes:
        devices: addresses of devices of the capture or the inventory, in the order in which they
            matter.
        peers: addresses that devices of the capture talk with, but that are no devices themselves.
        missing: addresses or names that nothing in the capture bears.
        kind: a kind of device that was named without one being known, "camera"; "" where there is
            none.
        alike: the devices are several of one zone, model or kind that was named, "the broker", and
            not each of them.
    """

    devices: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    kind: str = ""
    alike: bool = False


def read_devices(question: str, analysis: Analysis) -> Mention:
    """Find the devices that a question names.

    A name wins over a zone, a zone over a model, a model over a kind; of several devices of one zone,
    model or kind the one with the worst incident comes first. Where there is no inventory, kinds are
    guessed from what devices serve and ask.
    """
    text = question[:MAX_CHARS]
    known = set(list_addresses(analysis))
    peers = _talked_with(analysis) - known
    last = _by_last_number(text, known) or _by_last_number(text, peers)
    addresses = [*_addresses(text), *last]
    machine_of, named = analysis.view.machine_of, _named(text, analysis)
    in_zone = _in_zone(text, analysis)
    roles = set(_flat(_roles_in(text, analysis, article=False, vague=True))) if in_zone else set()
    described = [one for one in in_zone if one in roles]  # "the camera in mixing"
    sole = described if len(described) == 1 else []
    given = [*(machine_of(one) for one in addresses if one in known), *named, *sole]
    alike = [] if named else described or in_zone or _of_model(text, analysis)
    devices = list(dict.fromkeys([*given, *alike]))
    if devices or set(addresses) & peers:  # "does the broker answer plc-1?"
        given += _sole_of_role(text, analysis)
        devices = list(dict.fromkeys([*devices, *given]))
    missing = [address for address in addresses if address not in known | peers]
    if devices:
        missing += _find_missing(text, analysis)
    outside = tuple(one for one in addresses if one in peers)
    found = Mention(tuple(devices), outside, tuple(missing), alike=len(alike) > 1 and not given)
    if found.devices or found.peers or found.missing:
        return found
    if not _made_up(text):
        of_role = _flat(_roles_in(text, analysis, article=False))
        if of_role:
            known_ones = [one for one in _known(analysis).described if one.address in of_role]
            return Mention(tuple(_troubled_first(known_ones, analysis)), alike=len(known_ones) > 1)
    return _by_kind(text, analysis)


def list_addresses(analysis: Analysis) -> list[str]:
    """All devices that can be asked about: of the inventory, the capture, and incidents."""
    inventory = [device.address for device in _inventory(analysis)]
    seen = [str(device) for device in analysis.samples["device"].unique()]
    blamed = [one.device for one in analysis.incidents]
    return list(dict.fromkeys([*inventory, *seen, *blamed]))


def list_machines(analysis: Analysis) -> list[str]:
    """`list_addresses`, each device by the one address that it is known by: it counts once."""
    return list(dict.fromkeys(map(analysis.view.machine_of, list_addresses(analysis))))


def list_names(analysis: Analysis) -> list[str]:
    """Names that stand for devices in a question: those of plant.yaml, their aliases, and what
    devices call themselves."""
    given = [name for one in _inventory(analysis) for name in (one.name, *one.aliases) if name]
    return list(dict.fromkeys([*given, *_known(analysis).own_names]))


@dataclass(frozen=True)
class _Known:
    """What stands for devices beside plant.yaml.

    Attributes:
        own_names: what a device calls itself -> its address; the addresses of all who log in under
            one client id, which two may share by mistake.
        described: the inventory, then the other devices with the role, model and MAC that the
            traffic tells, without names.
    """

    own_names: dict[str, tuple[str, ...]]
    described: tuple[Device, ...]


# By the id of an analysis, which cannot be hashed; an entry goes with its analysis.
_KNOWN: dict[int, _Known] = {}


def _known(analysis: Analysis) -> _Known:
    key = id(analysis)
    if key not in _KNOWN:
        inventory = _inventory(analysis)
        given = {one.address for one in inventory}
        drafted = draft_plant(analysis.capture).devices
        others = [replace(one, name="") for one in drafted if one.address not in given]
        _KNOWN[key] = _Known(_own_names(analysis), (*inventory, *others))
        weakref.finalize(analysis, _KNOWN.pop, key, None)
    return _KNOWN[key]


def _own_names(analysis: Analysis) -> dict[str, tuple[str, ...]]:
    """What devices call themselves, whole and without a domain; not what two are called, but for
    the ids they log in under, and not what consists of the words of questions: a host may call
    itself "network"."""
    told = choose_identities(analysis.capture.identities)
    told = told[(told["field"] == "name") & told["device"].isin(list_addresses(analysis))]
    bearers: dict[str, set[str]] = defaultdict(set)
    for name, address in zip(told["value"], told["device"], strict=True):
        for one in {name, name.split(".")[0]}:
            bearers[one.lower()].add(str(address))
    unique = {name: tuple(addresses) for name, addresses in bearers.items() if len(addresses) == 1}
    return {
        name: addresses
        for name, addresses in (_client_ids(analysis) | unique).items()
        if len(_plain(name)) > 2 and not is_ordinary(_plain(name))
    }


def _client_ids(analysis: Analysis) -> dict[str, tuple[str, ...]]:
    """The ids under which devices open sessions, each with all who use it."""
    asked = analysis.capture.exchanges
    named = asked[(asked["kind"] == "session") & asked["name"].notna()]
    pairs = named[["client", "name"]].astype("str").drop_duplicates()
    own = pairs[pairs["client"].isin(list_addresses(analysis))]
    # A flood invents ids by the thousand; who has many is called by none of them.
    own = own[own.groupby("client")["name"].transform("size") <= _MOST_IDS]
    users = own.groupby(own["name"].str.lower())["client"].unique()
    return {str(name): tuple(sorted(clients)) for name, clients in users.items()}


def _inventory(analysis: Analysis) -> tuple[Device, ...]:
    return analysis.plant.devices if analysis.plant else ()


def _addresses(text: str) -> list[str]:
    """IPv4, IPv6 and hardware addresses of a text; what only looks like one is none."""
    found = []
    for candidate in re.findall(
        r"(?i)(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f:]*:[0-9a-f:]+)(?!\w)", text
    ):
        try:
            found.append(str(ipaddress.ip_address(candidate.strip("."))))
        except ValueError:
            continue
    return list(dict.fromkeys(found))


def find_named(text: str, analysis: Analysis) -> list[str]:
    """The addresses that a text of our own names, by address or by name, in its order."""
    named = [(one.name, one.address) for one in _inventory(analysis) if one.name]
    at: dict[str, int] = {}
    for name, address in [*((one, one) for one in _addresses(text)), *named]:
        if found := find_whole(name, text):
            at[address] = min(found.start(), at.get(address, found.start()))
    return sorted(at, key=lambda address: at[address])


_LAST_NUMBER = re.compile(r"(?<![\w.])\.(\d{1,3})(?![\w.]*\d)")


def _by_last_number(text: str, known: Collection[str]) -> list[str]:
    """Addresses that are named by their last number, ".104", where one alone ends so."""
    found = []
    for number in _LAST_NUMBER.findall(text):
        ends = [one for one in known if one.endswith(f".{number}")]
        found += ends if len(ends) == 1 else []
    return found


def _talked_with(analysis: Analysis) -> set[str]:
    flows = analysis.capture.flows
    peers = {peer for one in analysis.incidents for peer in one.peers}
    return set(flows["id.orig_h"].unique()) | set(flows["id.resp_h"].unique()) | peers


def _named(text: str, analysis: Analysis) -> list[str]:
    lowered = text.lower()
    by_mac = [
        one.address
        for one in _known(analysis).described
        if one.mac and one.mac.lower() in lowered.replace("-", ":")
    ]
    if by_mac:
        return by_mac
    names = {_plain(name): address for name, address in _known(analysis).own_names.items()}
    names |= {
        _plain(name): (one.address,)
        for one in _inventory(analysis)
        for name in (one.name, *one.aliases)
        if name
    }
    asked = f" {_plain(text)} "
    exact = sorted((name for name in names if f" {name} " in asked), key=len, reverse=True)
    if exact:
        kept = [
            name
            for i, name in enumerate(exact)
            if not any(f" {name} " in f" {long} " for long in exact[:i])
        ]
        return _flat(names[name] for name in sorted(kept, key=asked.find))
    # Only letters may be mistyped: plc-2 is not a misspelt plc-1.
    words = asked.split()
    starts = {word[0] for word in words}
    close = {
        name: names[name]
        for name in names
        if len(name) >= 4 and name[0] in starts and _nearly_in(name, words)
    }
    return _flat(close.values())


def _roles_in(
    text: str, analysis: Analysis, *, article: bool, vague: bool = False
) -> list[tuple[str, ...]]:
    """The devices of each role of the inventory that a text names, in the order there.

    Args:
        article: only "the recorder", not "recorder"; a number behind it names a device instead.
        vague: also words that may mean many things, "the gateway", where a zone says which.
    """
    lowered = " ".join(text.lower().split())
    by_role: dict[str, tuple[str, ...]] = {}
    for one in _inventory(analysis):
        by_role[one.role] = (*by_role.get(one.role, ()), one.address)
    found = {}
    for role, addresses in by_role.items():
        if not role or (role in _VAGUE_ROLES and not vague):
            continue
        names = _ROLE_NAMES.get(role, rf"{re.escape(role)}s?")
        before = rf"\b{_ARTICLE} (?:\w+ )?" if article else r"\b"
        place = re.search(rf"{before}(?:{names})\b(?![-_ ]?\d)(?!\.\w)", lowered)
        if place:
            found[place.start()] = addresses
    return [found[at] for at in sorted(found)]


_FEW_WORDS = 3


def _sole_of_role(text: str, analysis: Analysis) -> list[str]:
    """Devices that are called by a role that no other has: "the historian"."""
    # "recorder too?" can mean nothing but it, "the recorder missed it" the one that recorded.
    roles = _roles_in(text, analysis, article=len(text.split()) > _FEW_WORDS)
    return [addresses[0] for addresses in roles if len(addresses) == 1]


def _flat(addresses: Iterable[tuple[str, ...]]) -> list[str]:
    return list(dict.fromkeys(chain.from_iterable(addresses)))


def _in_zone(text: str, analysis: Analysis) -> list[str]:
    """Devices of the zones that a text names: "line 3" where plant.yaml has that zone."""
    asked = f" {_plain(text)} "
    found = [one for one in _inventory(analysis) if one.zone and f" {_plain(one.zone)} " in asked]
    return _troubled_first(found, analysis)


def _of_model(text: str, analysis: Analysis) -> list[str]:
    """Devices of the models that a text names, with or without the maker: "the CX-20"."""
    asked = f" {_plain(text)} "
    found = []
    for one in _known(analysis).described:
        model = _plain(one.model)
        short = model.partition(" ")[2]
        spoken = [model, short] if any(map(str.isdigit, short)) else [model]
        if any(len(name) > 3 and f" {name} " in asked for name in spoken):
            found.append(one)
    return _troubled_first(found, analysis)


def _troubled_first(devices: list[Device], analysis: Analysis) -> list[str]:
    """Addresses, those with the worst incidents first, then those that others' incidents touch."""
    incidents = worst_first(list(analysis.incidents))

    def rank(device: Device) -> tuple[int, int]:
        own = (at for at, one in enumerate(incidents) if one.device == device.address)
        touching = (at for at, one in enumerate(incidents) if one.touches(device.address))
        return next(own, len(incidents)), next(touching, len(incidents))

    return [one.address for one in sorted(devices, key=rank)]


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z]+|\d+", text.lower()))


def _nearly_in(name: str, words: list[str]) -> bool:
    parts = name.split()
    for start in range(len(words) - len(parts) + 1):
        pairs = zip(parts, words[start : start + len(parts)], strict=True)
        if all(part == word or (part.isalpha() and bool(get_close_matches(word, [part], cutoff=0.8)))
               for part, word in pairs):  # fmt: skip
            return True
    return False


def _made_up(text: str) -> dict[str, set[str]]:
    """Names of a text such as "plc-9" or "camera 2", each with the kinds of device that it may mean."""
    found = {}
    for word, hyphen, number in _MADE_UP_NAME.findall(text.lower()):
        kinds = _kinds(word) - _PLACES
        if kinds or word == "device" or (hyphen and not is_ordinary(word)):
            found[f"{word}-{number}"] = kinds
    return found


def _find_missing(text: str, analysis: Analysis) -> list[str]:
    """Names that no device bears, of a text that names another one."""
    names = {_plain(one) for one in list_names(analysis)}
    return [
        name
        for name, kinds in _made_up(text).items()
        if kinds
        and re.search(rf"\b{name}\b", text.lower())
        and not any(_plain(name) in one for one in names)
    ]


def _by_kind(text: str, analysis: Analysis) -> Mention:
    kinds = _kinds(text)
    described = _inventory(analysis) or _known(analysis).described
    kinds_of = {role: _kinds(role) for role in {f"{one.role} {one.name}" for one in described}}

    def bear(wanted: set[str]) -> list[Device]:
        return [one for one in described if wanted & kinds_of[f"{one.role} {one.name}"]]

    made_up = _made_up(text)
    if made_up and _inventory(analysis):
        # "camera 2" may be cam-02, but "hmi-1" is no plc-1, whatever else the question names.
        meant = {name: _numbered(name, bear(wanted)) for name, wanted in made_up.items()}
        found = tuple(dict.fromkeys(filter(None, meant.values())))
        return Mention(found, missing=tuple(name for name in meant if not meant[name]))
    bearers = bear(kinds)
    if not bearers:
        return Mention(kind=min(kinds, default=""))
    return Mention(tuple(_troubled_first(bearers, analysis)), alike=len(bearers) > 1)


def _numbered(name: str, bearers: list[Device]) -> str:
    """ "camera 2" is the device of that kind whose own name ends with the number."""
    number = name.rpartition("-")[2].lstrip("0")
    fits = [one.address for one in bearers if re.sub(r".*?0*(\d*)$", r"\1", one.name) == number]
    return fits[0] if len(fits) == 1 else ""


_OF_TEXT = re.compile(r"\b(?:one|single|a few) lines?\b")  # of an answer, not of a plant


def _kinds(text: str) -> set[str]:
    found = set()
    for word in re.findall(r"[a-z]+", _OF_TEXT.sub(" ", text.lower())):
        for kind, names in _SYNONYMS.items():
            single = word.removesuffix("s") if len(word) > 3 else word
            if single in names or (
                len(word) > 4
                and word not in vocabulary()
                and get_close_matches(word, _similar(word, names), n=1, cutoff=0.84)
            ):
                found.add(kind)
    return found


def _similar(word: str, names: tuple[str, ...]) -> list[str]:
    """Names that a word may be a misspelling of: people get a first letter right, and leave out
    one, not two."""
    return [name for name in names if name[0] == word[0] and abs(len(name) - len(word)) <= 1]
