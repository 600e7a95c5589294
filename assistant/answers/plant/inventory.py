"""Which devices there are, what one is, who is responsible for it, what a code means."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from assistant.answers.asked import Answer, Asked, find_incidents, say
from assistant.answers.attacks.raids import list_raiders
from assistant.answers.incidents.condition import find_blamed, judge_all
from assistant.answers.plant.documents import find_quotations
from assistant.answers.traffic.partners import ask_by_arp
from assistant.detection.incidents import Incident, worst_first
from assistant.diagnosis.health import judge_health, name_health
from assistant.diagnosis.playbook import find_cause, read_playbook
from assistant.facts.fact import Fact, Value, listed
from assistant.facts.moves import move_facts
from assistant.questions.entities import list_machines
from traffic.discovery import describe_hosts_without_ip, draft_plant, find_plant_networks
from traffic.identities import choose_identities
from traffic.labels import ATTACKS, LABELS
from traffic.pcap.protocols import BY_NAME, PROTOCOLS
from traffic.plant import Device, is_link_local

_MOST = 30
_OURS = re.compile(
    r"\b(?:ours|one of us|known|plant\.yaml|inventory|registered|documented|listed|expected|belong\w*|part of)\b"
)
_CODE = re.compile(
    r"(?i)\b(?:[0o]x[0-9a-f]{1,8}|\d[0-9a-f]{2,7}h|[a-z]{1,3}-\d{2,5}|e[a-z]+(?:_[a-z]+)+|bad[a-z]{6,}"
    r"|servfail|nxdomain|refused"
    r"|(?:exception|error|fault|rcode|code|status|cause of transmission|cause|cot|reason|fehler|fehlercode"
    r"|excepci[oó]n|c[oó]digo)"
    r"(?: code| number| no\.?)? ?(?:0x)?[0-9a-f]{1,4})\b"
)

# Whose word a code's name is.
_SPOKEN = {
    "exception": "modbus", "modbus": "modbus", "rcode": "dns", "dns": "dns", "mqtt": "mqtt", "connack": "mqtt",
    "reason code": "mqtt", "return code": "mqtt", "s7": "s7comm", "cip": "enip", "general status": "enip",
    "ethernet/ip": "enip", "opc": "opcua", "bad": "opcua", "bacnet": "bacnet", "dnp3": "dnp3",
    "cause of transmission": "iec104", "iec": "iec104",
}  # fmt: skip


def answer_devices(asked: Asked) -> Answer:
    """All devices with role and state, or what one of them is."""
    addresses = list_machines(asked.analysis)
    named = (*asked.found.mention.devices, *asked.found.mention.peers)
    if (
        len(named) == 1
        and asked.polar
        and (asked.query.state == "unknown" or _OURS.search(asked.query.plain))
    ):
        return is_known(asked)
    if addresses and asked.query.state and (told := _list_by_state(asked, addresses)):
        return told
    several = len(asked.found.mention.devices) > 1 and not asked.query.names_device
    if asked.device and not several:
        return _identify(asked)
    if not addresses:
        return _no_devices(asked)
    if proposed := propose_devices(asked, addresses):
        return proposed
    if several:  # "which devices are PLCs?"
        addresses = [one for one in addresses if one in asked.found.mention.devices]
        return _list_role(asked, addresses)
    worst = {one.device: one for one in reversed(worst_first(list(asked.analysis.incidents)))}
    known = _known_devices(asked)
    blamed = find_blamed(asked.analysis)
    facts = []
    for address in addresses[:_MOST]:
        if address in worst:
            state = read_playbook(worst[address].label).short
        elif address in blamed:
            state = say("concerned").text
        else:
            state = name_health(judge_health(address, asked.analysis.verdicts, asked.view))
        one = known.get(address)
        about = ", ".join(filter(None, [one.role, one.model])) if one else ""
        facts.append(
            say(
                "device_one",
                name=asked.view.name_of(address),
                about=f" – {about}" if about else "",
                state=state,
            )
        )
    if len(addresses) > _MOST:
        facts.append(say("devices_more", n=len(addresses) - _MOST))
    judged = judge_all(asked.analysis)
    unclear = len(judged.devices) - judged.well
    line = say("devices", n=len(addresses), well=judged.well, unclear=unclear, blamed=judged.blamed)
    return Answer(line, tuple(facts), listing=True)


def _list_by_state(asked: Asked, addresses: list[str]) -> Answer | None:
    """Which devices are unknown, healthy, undecided or in trouble; of a kind, where one is named."""
    state, named = asked.query.state, asked.found.mention.devices
    if state == "unknown":
        return _list_unknown(asked, addresses)
    if len(named) == 1 and asked.polar:
        return None
    among = [one for one in addresses if one in named] if named else addresses
    blamed = find_blamed(asked.analysis)
    known = {one: judge_health(one, asked.analysis.verdicts, asked.view) for one in among}
    chosen = [
        one
        for one in among
        if state
        == (
            "troubled"
            if one in blamed
            else "healthy"
            if known[one].standing == "normal"
            else "undecided"
        )
    ]
    facts: list[Fact] = []
    for one in chosen if state != "healthy" else ():
        mine = [each for each in worst_first(list(asked.analysis.incidents)) if each.touches(one)]
        facts += [fact for each in mine[:1] for fact in each.facts[:1] if fact not in facts]
        if state == "undecided":
            facts.append(
                say(
                    "device_one",
                    name=asked.view.name_of(one),
                    about="",
                    state=name_health(known[one]),
                )
            )
    if not chosen:
        line = say("devices_state_none", asked.reply(False), all=len(among), state=state)
        return Answer(line, (judge_all(asked.analysis).line, *asked.sensor))
    names = listed(map(asked.view.name_of, chosen), _MOST)
    line = say(f"devices_{state}", asked.reply(True), n=len(chosen), all=len(among), names=names)
    return Answer(line, tuple(facts))


def is_known(asked: Asked) -> Answer:
    """Whether plant.yaml names a device, for who asks whether it is a stranger."""
    plant = asked.analysis.plant
    about = _identify(asked)
    if plant is None:
        line = say("device_known_no_plant", "unclear", name=asked.name)
        return Answer(line, (about.line, *about.facts))
    known = asked.device in {one.address for one in plant.devices}
    kind = "device_known" if known else "device_unknown"
    stranger = asked.query.state == "unknown"  # "is it unknown?", "is it one of ours?"
    reply = asked.reply(known != stranger)
    return Answer(say(kind, reply, name=asked.name), (about.line, *about.facts))


def _list_unknown(asked: Asked, addresses: list[str]) -> Answer:
    """Addresses of the plant's networks that plant.yaml does not name, with what they did."""
    plant = asked.analysis.plant
    if plant is None:
        line = say("devices_unknown_no_plant", "unclear" if asked.polar else "", n=len(addresses))
        return Answer(line, asked.sensor)
    given = {one.address for one in plant.devices}
    others = _list_machines_once([one for one in addresses if one not in given], asked)
    if not others:
        return Answer(say("devices_unknown_none", asked.reply(False)), asked.sensor)
    guessed, facts = _known_devices(asked), list[Fact]()
    for one in others[:_MOST]:
        worst = [each for each in worst_first(list(asked.analysis.incidents)) if each.device == one]
        state = (
            read_playbook(worst[0].label).short
            if worst
            else name_health(judge_health(one, asked.analysis.verdicts, asked.view))
        )
        role = guessed[one].role if one in guessed else ""
        about = f" – {role}, by what it serves and asks" if role else ""
        values: dict[str, Value] = {
            "name": asked.view.name_of(one), "about": about, "state": state,
        }  # fmt: skip
        flows = asked.view.flows_of(one)
        if len(flows):
            values["first_time_s"] = float(flows["since_s"].min())
        facts.append(say("device_seen" if len(flows) else "device_one", **values))
    names = listed(map(asked.view.name_of, others), _MOST)
    return Answer(
        say("devices_unknown", asked.reply(True), n=len(others), names=names),
        tuple(facts),
        listing=True,
    )


def _list_machines_once(addresses: Sequence[str], asked: Asked) -> list[str]:
    """Those that sent something, each machine by one address: an address that nobody answered at is none, and
    the link-local one of a machine says nothing new."""
    heard = [
        one for one in addresses if asked.view.macs_of(one) or not asked.view.sent_by(one).empty
    ]
    macs = {mac for one in heard if not is_link_local(one) for mac in asked.view.macs_of(one)}
    return [
        one for one in heard if not is_link_local(one) or macs.isdisjoint(asked.view.macs_of(one))
    ]


def propose_devices(asked: Asked, known: Collection[str]) -> Answer | None:
    """The devices that industrial traffic of public addresses lets propose; None where there is none
    of it, or the plant is known."""
    networks = find_plant_networks(asked.analysis.capture)
    if not networks or asked.analysis.plant:
        return None
    draft = draft_plant(asked.analysis.capture).devices
    if len(draft) <= len(known):
        return None
    names = listed([f"{one.address} ({one.role or 'role unknown'})" for one in draft], 12)
    return Answer(
        say("devices_public", networks=listed(networks, 12), n=len(draft), names=names),
        asked.found.facts,
    )


def _list_role(asked: Asked, addresses: list[str]) -> Answer:
    """The devices of the kind that the question names, with what each seems to be."""
    known = _known_devices(asked)
    roles = {one: known[one].role if one in known else "" for one in addresses}
    facts = tuple(
        say("devices_role_one", name=asked.view.name_of(one), role=role or "role unknown")
        for one, role in roles.items()
    )
    names = listed(map(asked.view.name_of, addresses), _MOST)
    return Answer(say("devices_role", n=len(addresses), names=names), facts, listing=True)


def _no_devices(asked: Asked) -> Answer:
    without = describe_hosts_without_ip(asked.analysis.capture)
    if without:
        spoken = listed([f"{mac} ({does})" for mac, does in without.items()], 12)
        return Answer(say("devices_without_ip", n=len(without), names=spoken), asked.found.facts)
    if proposed := propose_devices(asked, ()):
        return proposed
    return Answer(say("devices_none"), asked.found.facts, refused=True)


def _known_devices(asked: Asked) -> dict[str, Device]:
    """By address: what plant.yaml says, else what the traffic lets guess."""
    guessed = {one.address: one for one in draft_plant(asked.analysis.capture).devices}
    given = {
        one.address: one for one in (asked.analysis.plant.devices if asked.analysis.plant else ())
    }
    return guessed | given


def _identify(asked: Asked) -> Answer:
    """Make, model, firmware and role of one device, each with its source."""
    told = choose_identities(asked.analysis.capture.identities)
    told = told[told["device"] == asked.device]
    facts = [
        say(
            "identity_one",
            field=row.field,
            value=f"“{row.value}”",
            source=row.source,
            sure=row.sure,
        )
        for row in told.itertuples()
    ]
    given = {
        one.address: one for one in (asked.analysis.plant.devices if asked.analysis.plant else ())
    }
    one = _known_devices(asked).get(asked.device)
    made = [str(row.value) for row in told.itertuples() if row.field in ("make", "model")]
    about = listed(filter(None, [one.role, one.model or " ".join(made)] if one else made))
    kind = (
        "identity"
        if about and asked.device in given
        else "identity_guess"
        if about and one and one.role
        else "identity_made"
        if about
        else "identity_unknown"
    )
    if asked.view.sent_by(asked.device).empty and (
        told := ask_by_arp(replace(asked, guessed=True), active=False)
    ):
        reply = asked.reply(False) if "exist" in asked.query.plain else ""
        return Answer(say("identity_nobody", reply, name=asked.name), (told.line, *told.facts))
    macs = asked.view.macs_of(asked.device)
    if asked.analysis.plant and asked.device not in given and (acts := _find_acts(asked)):
        # What it serves and asks is guessed from what it attacks: what it did says more.
        line = say("identity_stranger", name=asked.name, what=acts[0].facts[0].text)
        seen = [say("identity_mac", macs=listed(macs))] if macs else []
        return Answer(
            line, (*seen, *acts[0].facts[1:3], *(one.facts[0] for one in acts[1:]), *facts)
        )
    facts += [say("identity_mac", macs=listed(macs))] if macs else []
    facts += move_facts(asked.view, asked.device)
    own = [one for one in worst_first(list(asked.analysis.incidents)) if one.device == asked.device]
    facts += [fact for one in own[:2] for fact in one.facts[:1]]
    return Answer(say(kind, name=asked.name, about=about), tuple(facts))


_WHO_IS = re.compile(
    r"^(?:and |so |but |ok )*(?:who|what|wer|was|quien|que)(?: the \w+)? (?:is|ist|es) (?:that |this "
    r"|the )?dev(?:\W*$|,? (?:and|und|y) |, (?:is|ist|es|was|may) )"
    r"|^(?:and |so )?dev (?:is|are|ist|steht) (?:\w+ )?not? (?:\w+ )*(?:list|plan|inventory|map|liste), who is"
    r" (?:that|it)\b"
)


def answer_who_is(asked: Asked) -> Answer | None:
    """Who a machine is that is named: what plant.yaml says, else that nobody knows it and what it did."""
    return _identify(asked) if asked.device and _WHO_IS.match(asked.query.plain) else None


def _find_acts(asked: Asked) -> list[Incident]:
    """Attacks that a machine takes part in, the worst first; else incidents at whose other end it is."""
    found = find_incidents(asked, LABELS)
    mine = [one for one in found if one.label in ATTACKS]
    does = [one for one in mine if asked.device in list_raiders(one, asked.view)]
    return does or [one for one in found if asked.device in one.peers[:1]]


def answer_responsible(asked: Asked) -> Answer:
    """Contact and zone, as plant.yaml has them."""
    device = asked.device or (asked.incident.device if asked.incident else "")
    plant = asked.analysis.plant
    one = next((one for one in (plant.devices if plant else ()) if one.address == device), None)
    name = asked.view.name_of(device) if device else asked.name
    if one is None or not (one.contact or one.zone):
        return Answer(say("responsible_unknown" if plant else "responsible_no_plant", name=name))
    kind = (
        "responsible"
        if one.contact and one.zone
        else "responsible_contact"
        if one.contact
        else "responsible_zone"
    )
    return Answer(say(kind, name=name, contact=one.contact, zone=one.zone))


def holds_code(asked: Asked) -> bool:
    """Whether a question holds what looks like a code: 0x0B, SERVFAIL, E-431, or spells one out."""
    return bool(_CODE.search(asked.question) or _find_spelt(asked))


def _find_spelt(asked: Asked) -> str:
    """The name of a code that occurs in the capture and that a question spells out: "path destination unknown"."""
    letters, rows = re.sub(r"[^a-z]", "", asked.question.lower()), asked.view.exchanges
    refused = rows.loc[rows["code"] > 0, ["protocol", "code"]].drop_duplicates()
    names = [
        BY_NAME[str(row.protocol)].refusals.get(int(row.code), "") for row in refused.itertuples()
    ]
    spelt = [re.sub(r"[^a-z]", "", one.split("(")[0].lower()) for one in names]
    held = [
        name for name, word in zip(names, spelt, strict=True)
        if len(word) >= _LONG_WORD and word in letters
    ]  # fmt: skip
    return max(held, key=len, default="")


_LONG_WORD = 10  # letters: "not supported" and shorter words may be no code


def names_code(asked: Asked) -> bool:
    """Whether a question holds a code, or a word that may be one."""
    return holds_code(asked) or not _SEEN.match(asked.query.plain)


_SEEN = re.compile(
    r"(?:and )?(?:which|what|welche\w*|que) (?:\w+ )?(?:status|codes?|errors?|exceptions?|reasons?) (?!is\b)"
)


def answer_code(asked: Asked) -> Answer:
    """What a code means in the protocols that are read and in the documents, and where it was seen."""
    found = _CODE.search(asked.question)
    code = found[0] if found else _find_spelt(asked) or asked.question.strip(" ?")
    facts = [*_by_protocol(code, asked)]
    citations = find_quotations(asked.index, asked.question)
    holding = tuple(one for one in citations if code.lower() in one.excerpt.lower())
    if facts:
        meaning = _say_meaning(asked, str(facts[0].values["said"]))
        return Answer(facts[0], (*meaning, *facts[1:]), citations=holding, quotes=bool(holding))
    if holding or citations:
        return Answer(say("code_documents", code=code), citations=holding or citations, quotes=True)
    return Answer(say("code_unknown", code=code), refused=True)


def _say_meaning(asked: Asked, code: str) -> tuple[Fact, ...]:
    """What a code means in plain words, where an incident is about it."""
    for one in asked.analysis.incidents:
        for fact in one.facts[:1]:
            told = str(fact.values.get("code", fact.values.get("codes", "")))
            if code in told and (cause := find_cause((fact,))):
                return (say("as_it_is", text=cause.meaning),)
    return ()


def _by_protocol(code: str, asked: Asked) -> list[Fact]:
    """One fact for each protocol that knows the code; those that speak in the capture first."""
    digits = re.search(r"(0x)?([0-9a-f]+)$", code.lower())
    number = -1
    if digits and not re.match(r"(?i)bad|[a-z]{1,3}-", code):
        number = int(digits[2], 16) if digits[1] else int(digits[2]) if digits[2].isdigit() else -1
    plain = re.sub(r"[^a-z]", "", code.lower())
    rows, named = asked.view.exchanges, asked.question.lower()
    facts = []
    for protocol in PROTOCOLS:
        for value, word in protocol.refusals.items():
            letters = [re.sub(r"[^a-z]", "", one.lower()) for one in (word, word.split("(")[0])]
            same = (0 <= number == value) or (len(plain) > 6 and plain in letters)
            same = same or protocol.say_code(value, word).lower().startswith(f"{code.lower()} ")
            if not same:
                continue
            mine = rows[(rows["protocol"] == protocol.name) & (rows["code"] == value)]
            kind = "code_seen" if len(mine) else "code_meaning"
            servers = listed(
                map(asked.view.name_of, mine["server"].astype("str").value_counts().index[:3])
            )
            fact = say(
                kind,
                protocol=protocol.spoken,
                said=protocol.say_code(value, word),
                code=value,
                n=len(mine),
                servers=servers,
            )
            rank = (
                protocol.name not in named,
                not len(mine),
                protocol.name not in set(rows["protocol"].astype("str")),
            )
            facts.append((rank, fact, protocol.name))
    spoken = {protocol for word, protocol in _SPOKEN.items() if word in named}
    facts = [one for one in facts if one[2] in spoken] or facts
    facts.sort(key=lambda one: one[0])
    return [fact for rank, fact, _ in facts if rank[:2] == facts[0][0][:2]]
