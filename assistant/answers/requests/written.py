"""What was written: "what did he write?", "what was register 77 set to?", "what was it before?", "is it as it
was?", from the values that write commands carry and that reads next to them found."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from assistant.answers.asked import PLANT, Answer, Asked, Reply, say
from assistant.answers.attacks.denials import deny
from assistant.answers.plant.descriptions import name_unread
from assistant.detection.incidents import Incident
from assistant.diagnosis.choosing import find_culprits
from assistant.facts.fact import Fact, Proof, Value, kind_of, listed, plural
from assistant.facts.proofs import from_to, pick_frames
from assistant.facts.requests import is_refused
from assistant.facts.traffic_view import TrafficView
from assistant.facts.written import Trace, read_values, trace_places, writes_nothing
from assistant.questions.written import WrittenForm, read_written_form
from traffic.pcap.protocols import BY_NAME

_MOST, _MOST_FACTS, _FEW_FRAMES = 3, 8, 5
_HOLDING = 40001  # registers as manuals number them: 40001 is the address 0
_OTHER_KINDS = ("feedback", "manual", "code", "help")


def answer_written(asked: Asked) -> Answer | None:
    """Which values were written to what, what stood there before, and whether it does again; None where
    none of these is asked."""
    form = read_written_form(asked.query.plain)
    if form is None or (asked.query.kind in _OTHER_KINDS and not asked.query.guessed):
        return None
    commands, incident = _find_commands(asked), _find_incident(asked)
    if form.of_talk and (commands.empty or incident is None):
        return None
    if commands.empty:
        return None if form.values else _tell_none(asked)
    rows = asked.view.exchanges
    if not form.numbers:
        rows = rows[rows["server"].isin(commands["server"].unique())]
    values = read_values(rows)
    mine = values[values["exchange"].isin(commands.index)]
    if not (mine["value"] != "").any():
        return _tell_unkept(asked, commands)
    if form.numbers:
        said = _tell_named(asked, form, values, commands, mine)
        if form.values and kind_of(said.line) == "written_never":
            return None  # what is read alone is not kept
    else:
        said = _tell_pairs(asked, form, values, commands, mine)
    ends = {*commands["client"], *commands["server"]}
    about = incident is not None and incident.device in ends
    return replace(said, incident=incident if about else None)


def _tell_pairs(
    asked: Asked,
    form: WrittenForm,
    values: pd.DataFrame,
    commands: pd.DataFrame,
    mine: pd.DataFrame,
) -> Answer:
    """What one client wrote to one server, and what others did."""
    # Of who is asked about no more than the commands that are meant.
    theirs = (values["kind"] == "write") & values["client"].isin(commands["client"].unique())
    values = values[~theirs | values["exchange"].isin(commands.index)]
    (client, server), *others = _rank_pairs(asked, mine)
    traces = sorted(trace_places(values, client, server), key=lambda one: not one.last.value)
    lasts = [_say_place(asked, one) for one in traces[:_MOST_FACTS]]
    if form.back:
        return Answer(_say_back(asked, traces), tuple(lasts), about=server)
    if form.before:
        each = [_say_before(asked, one) for one in traces[:_MOST_FACTS]]
        known = [one for one in traces if one.before is not None]
        if len(traces) > 1 and known:
            return Answer(_say_befores(asked, traces, known), (*each, *lasts))
        return Answer(each[0], (*each[1:], *lasts))
    line = _say_all(asked, commands, traces)
    more = [_say_all(asked, commands, trace_places(values, *ends)) for ends in others[:4]]
    told = (*more[:1], *(lasts if len(traces) > 1 else ()), *more[1:])
    return Answer(line, told, about=asked.device or client)


def _find_commands(asked: Asked) -> pd.DataFrame:
    """The write commands that are meant: of who is named, else of who does what the talk is about."""
    rows = _select_writes(asked.requests)
    device, second = asked.device, asked.second
    by_device, to_device = rows[rows["client"] == device], rows[rows["server"] == device]
    if device and asked.query.names_device:
        if second and len(both := by_device[by_device["server"] == second]):
            return both
        active = len(by_device) and (asked.query.active or to_device.empty)
        return by_device if active else to_device
    incident = _find_incident(asked)
    if incident is not None:
        every = _select_writes(asked.about("", asked.span).requests)
        theirs = every[every["client"].isin(find_culprits(incident))]
        theirs = theirs[theirs["server"].isin([incident.device, *incident.peers])]
        if len(theirs):
            return theirs
    return by_device if len(by_device) else to_device if device else rows


def _select_writes(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows[(rows["kind"] == "write") & ~rows["outcome"].isin(["unasked", "malformed"])]
    return rows[~writes_nothing(rows)]


def _find_incident(asked: Asked) -> Incident | None:
    """The commands that nobody expected, where the talk is about such; else those of the device."""
    known = (asked.focus, asked.incident)
    return next((one for one in known if one and one.label == "unauthorized_command"), None)


def _rank_pairs(asked: Asked, mine: pd.DataFrame) -> list[tuple[str, str]]:
    """Who wrote to whom: who does what the talk is about first, then who wrote most."""
    incident = _find_incident(asked)
    culprits = find_culprits(incident) if incident is not None else []
    counts = mine.groupby(["client", "server"], sort=False).size()
    pairs = [(str(client), str(server), int(n)) for (client, server), n in counts.items()]
    pairs.sort(key=lambda one: (one[0] not in culprits, -one[2]))
    return [(client, server) for client, server, _ in pairs]


# ---- Where nothing is seen ----


def _tell_none(asked: Asked) -> Answer:
    """That nobody wrote, or that nothing was read that would show it."""
    unread = name_unread(asked.view)
    if asked.requests.empty:
        why = say("part_why_unread", names=unread) if unread else say("part_why_no_requests")
        counted = asked.view.writes  # a log may count commands and not hold them
        why = say("part_why_log") if len(counted) else why
        return Answer(
            say("written_unseen", "unclear", why=why.text), asked.known, standing="inconclusive"
        )
    return deny(
        asked, "nobody_write_active" if asked.query.active and asked.device else "nobody_write"
    )


def _tell_unkept(asked: Asked, commands: pd.DataFrame) -> Answer:
    client, server = commands.groupby(["client", "server"], observed=True).size().idxmax()
    rows = commands[(commands["client"] == client) & (commands["server"] == server)]
    why = say("part_why_packets" if (rows["frame"] > 0).any() else "part_why_log")
    line = say(
        "written_unkept", "unclear", _prove(asked.view, rows), why=why.text, n=len(rows),
        client=asked.view.name_of(str(client)), server=asked.view.name_of(str(server)),
    )  # fmt: skip
    return Answer(line, asked.known, standing="inconclusive")


# ---- One client and one server ----


def _say_all(asked: Asked, commands: pd.DataFrame, traces: Sequence[Trace]) -> Fact:
    """What one client wrote to one server: the first few places with what they were set to last."""
    client, server = (str(getattr(traces[0].first, name)) for name in ("client", "server"))
    rows = commands[(commands["client"] == client) & (commands["server"] == server)]
    n = sum(len(one.mine) for one in traces)
    kept = [one for one in traces if one.last.value]
    names = _name_values(kept)[:_MOST] + [
        say(kind, n=count).text
        for kind, count in (
            ("part_more", len(kept) - _MOST), ("part_unkept_some", len(traces) - len(kept)),
        )
        if count > 0
    ]  # fmt: skip
    values: dict[str, Value] = {
        "client": asked.view.name_of(client), "server": asked.view.name_of(server), "n": n,
        "places": _count_places(traces), "took": _say_took(asked, rows, server) + _say_unread(rows),
        "first_time_s": float(rows["ts"].min()), "last_time_s": float(rows["ts"].max()),
        "names": listed(names, len(names)), "kept": len(kept), "more": max(len(kept) - _MOST, 0),
        "unkept": len(traces) - len(kept),
    }  # fmt: skip
    kind = "written_many" if len(traces) > 1 else "written_one" if n == 1 else "written_last"
    return say(kind, "", _prove(asked.view, rows), **values)


def _name_values(traces: Sequence[Trace]) -> list[str]:
    """Each place with what it was set to last, and what it was before: "77 = 1940 (before 1325)"."""
    units = len({one.first.unit for one in traces}) > 1
    short = len(traces) > 1 and all(one.first.place.startswith("register ") for one in traces)
    names = []
    for one in traces:
        place = str(one.first.number) if short else one.first.place
        place = f"unit {one.first.unit} {place}" if units else place
        known = len({row.value for row in one.mine})
        notes = [f"the last of {known} values"] if known > 1 else []
        notes += [f"before {one.before.value}"] if one.before is not None else []
        names.append(f"{place} = {_value(one.last)}" + (f" ({', '.join(notes)})" if notes else ""))
    return names


def _count_places(traces: Sequence[Trace]) -> str:
    """How many, and of what: "34 registers"."""
    spaces = {
        str(one.first.place).rpartition(" ")[0] if one.first.number >= 0 else "place"
        for one in traces
    }
    return f"{len(traces):,} {plural(len(traces), spaces.pop() if len(spaces) == 1 else 'place')}"


def _value(row: Any) -> str:
    return row.value or say("part_unkept").text


def _say_took(asked: Asked, rows: pd.DataFrame, server: str) -> str:
    """Whether the server accepted these commands."""
    name, n = asked.view.name_of(server), len(rows)
    good, vain = (int((rows["outcome"] == one).sum()) for one in ("answered", "unanswered"))
    refused = int(is_refused(rows).sum())
    every = say("part_took_it" if n == 1 else "part_took_every").text
    if n in (good, refused, vain):
        kind = "part_took_all" if good else "part_took_none" if refused else "part_took_vain"
        return say(kind, name=name, every=every).text
    if not (good or refused or vain):
        return say("part_took_unseen", name=name).text
    rest = [
        say(kind, n=count).text
        for kind, count in (
            ("part_took_refused", refused), ("part_took_left", vain), ("part_took_unknown", n - good - refused - vain),
        )
        if count
    ]  # fmt: skip
    return say("part_took_some", name=name, good=good, all=n, rest=listed(rest)).text


def _say_unread(rows: pd.DataFrame) -> str:
    """How many of these commands wrote values that are not known."""
    unknown = int(rows["points"].isna().sum())
    return say("part_unread", unknown=unknown).text if unknown else ""


def _say_back(asked: Asked, traces: Sequence[Trace]) -> Fact:
    """Whether the places that a client wrote to are as they were before."""
    changed = [one for one in traces if one.is_back is False]
    unknown = [one for one in traces if one.is_back is None]
    shown = changed or unknown or traces
    first = shown[0]
    client, server = (str(getattr(first.first, name)) for name in ("client", "server"))
    values: dict[str, Value] = {
        "client": asked.view.name_of(client), "server": asked.view.name_of(server),
        "place": str(first.first.place), "places": _count_places(traces), "changed": len(changed),
        "unknown": len(unknown), "n": len(traces), "at_time_s": _last_seen(shown),
    }  # fmt: skip
    if not changed and unknown:
        return say("written_unsure", "unclear", _prove_reads(asked.view, shown), **values)
    kind = "written_changed" if changed else "written_back"
    values["names"] = listed(map(_say_change, shown), _MOST)
    reply = asked.reply(not changed)
    one = "_one" if len(traces) == 1 else ""
    return say(f"{kind}{one}", reply, _prove_reads(asked.view, shown), **values)


def _say_change(trace: Trace) -> str:
    now = trace.now.value
    if trace.is_back:
        return say("part_is", place=trace.first.place, value=now).text
    return say("part_was", place=trace.first.place, value=now, before=trace.before.value).text


def _last_seen(traces: Sequence[Trace]) -> float:
    seen = [float(one.now.seen_s) for one in traces if one.now is not None]
    return max(seen, default=float(traces[0].last.seen_s))


# ---- One place ----


def _tell_named(
    asked: Asked,
    form: WrittenForm,
    values: pd.DataFrame,
    commands: pd.DataFrame,
    mine: pd.DataFrame,
) -> Answer:
    """What was written to registers that are named, by whom, what they were before and are now."""
    lines, facts = list[Fact](), list[Fact]()
    every = values[values["kind"] == "write"]
    for number in form.numbers:
        # What the talk is about may not have it: then whoever does is meant.
        places = [mine] if asked.query.names_device else [mine, every]
        here = next(
            (one for rows in places for one in _select_numbered(rows, number) if len(one)), None
        )
        if here is None:
            lines.append(_say_never(asked, number, places[-1], commands))
            continue
        wanted = here["number"].iloc[0]
        pairs = _rank_pairs(asked, here)
        traces = [
            one
            for pair in pairs[:_MOST_FACTS]
            for one in trace_places(values, *pair)
            if one.first.number == wanted
        ]
        reply: Reply = "" if form.back or form.before else asked.reply(True)
        places = [_say_place(asked, one, reply if one is traces[0] else "") for one in traces]
        before, now = _say_before(asked, traces[0]), _say_now(asked, traces[0])
        if form.back:
            lines.append(_say_back(asked, traces[:1]))
        lines += [before] if form.before else [] if form.back else places[:1]
        facts += [
            *places[:1],
            *([before] if traces[0].before is not None else []),
            *now,
            *places[1:],
        ]
    facts = [one for one in facts if one.id not in {line.id for line in lines}]
    return Answer(lines[0], (*lines[1:], *facts[:_MOST_FACTS]))


def _say_never(asked: Asked, number: int, written: pd.DataFrame, commands: pd.DataFrame) -> Fact:
    """That nobody wrote to a register; not that nobody did where some commands could not be read."""
    named = asked.query.names_device
    every = commands if named else _select_writes(asked.about("").requests)
    rest = _say_unread(every)
    reply: Reply = "unclear" if rest or asked.blind else asked.reply(False)
    name = asked.name if named else PLANT
    return say("written_never", reply, number=str(number), name=name, n=len(written), rest=rest)


def _select_numbered(rows: pd.DataFrame, number: int) -> list[pd.DataFrame]:
    """What was written to places of a number, else to the register that manuals number so."""
    register = rows["place"].str.startswith("register ")
    return [rows[rows["number"] == number], rows[register & (rows["number"] == number - _HOLDING)]]


def _say_place(asked: Asked, trace: Trace, reply: Reply = "") -> Fact:
    """What one client wrote to one place, and what that was before."""
    first, last, n = trace.first, trace.last, len(trace.mine)
    rows = _commands(asked.view, trace.mine)
    server = str(last.server)
    said = [_value(one) for one in reversed(trace.mine)]
    values: dict[str, Value] = {
        "client": asked.view.name_of(str(last.client)), "server": asked.view.name_of(server),
        "place": str(last.place), "value": _value(last), "n": n,
        "first_time_s": float(first.asked_s), "at_time_s": float(last.asked_s),
        "took": _say_took(asked, rows, server), "names": listed(said, _MOST_FACTS),
    }  # fmt: skip
    same = len(set(said)) == 1
    kind = "written_place" if n == 1 else "written_place_same" if same else "written_place_often"
    if trace.before is not None:
        kind, values["before"] = f"{kind}_before", str(trace.before.value)
    return say(kind, reply, _prove(asked.view, rows, only_these=True), **values)


def _say_before(asked: Asked, trace: Trace) -> Fact:
    """What a place was before a client wrote to it, and how that is known."""
    first = trace.first
    values: dict[str, Value] = {
        "client": asked.view.name_of(str(first.client)), "at_time_s": float(first.asked_s),
        "server": asked.view.name_of(str(first.server)), "place": str(first.place),
    }  # fmt: skip
    if trace.before is None:
        return say("written_unknown_before", "unclear", **values)
    return _say_seen(asked, "written_before", trace.before, values)


def _say_befores(asked: Asked, traces: Sequence[Trace], known: Sequence[Trace]) -> Fact:
    """What the places that a client wrote to were before."""
    client, server = (str(getattr(known[0].first, name)) for name in ("client", "server"))
    names = [say("part_value", place=one.first.place, value=one.before.value).text for one in known]
    unknown = len(traces) - len(known)
    rest = say("part_not_seen", unknown=unknown).text if unknown else ""
    rows = _commands(asked.view, [one.before for one in known])
    alike = rows[
        (rows["client"] == rows["client"].iloc[0]) & (rows["kind"] == rows["kind"].iloc[0])
    ]
    return say(
        "written_befores", "", _prove(asked.view, alike, only_these=True),
        client=asked.view.name_of(client), server=asked.view.name_of(server), rest=rest,
        places=_count_places(traces), names=listed(names, _MOST), unknown=unknown,
        at_time_s=min(float(one.first.asked_s) for one in traces),
    )  # fmt: skip


def _say_now(asked: Asked, trace: Trace) -> list[Fact]:
    if trace.now is None:
        return []
    values: dict[str, Value] = {
        "server": asked.view.name_of(str(trace.now.server)), "place": str(trace.now.place),
    }  # fmt: skip
    return [_say_seen(asked, "written_now", trace.now, values)]


def _say_seen(asked: Asked, kind: str, seen: Any, values: dict[str, Value]) -> Fact:
    """A value that stood somewhere, with who read or wrote it when."""
    by = asked.view.name_of(str(seen.client))
    rows = _commands(asked.view, [seen])
    kind += "_read" if seen.kind == "read" else "_set"
    proof = _prove(asked.view, rows, only_these=True)
    return say(
        kind, "", proof, value=str(seen.value), by=by, seen_time_s=float(seen.seen_s), **values
    )


# ---- Where it is in the packets ----


def _commands(view: TrafficView, values: Iterable[Any]) -> pd.DataFrame:
    """The exchanges that carry some values."""
    return view.exchanges.loc[list(dict.fromkeys(one.exchange for one in values))]


def _prove(view: TrafficView, rows: pd.DataFrame, *, only_these: bool = False) -> Proof:
    """Where commands of a client to a server are, or the answers to its reads.

    Args:
        view: of the capture.
        rows: exchanges of one client, server and protocol.
        only_these: they are not all of their kind, so that no number of frames is said.
    """
    client, server = (str(rows[name].iloc[0]) for name in ("client", "server"))
    protocol = BY_NAME[str(rows["protocol"].iloc[0])]
    reads = rows["kind"].iloc[0] == "read"
    functions = sorted({int(one) for one in rows["function"]})
    layer = protocol.layer or protocol.name
    only = " || ".join(f"{protocol.function_field} == {one}" for one in functions)
    only = f"({only})" if protocol.function_field else layer
    ends = from_to(server, client) if reads else from_to(client, server)
    frames = rows["answer_frame" if reads else "frame"]
    alike = view.exchanges
    alike = alike[(alike["client"] == client) & (alike["server"] == server)]
    alike = alike[alike["function"].isin(functions) & (alike["protocol"] == protocol.name)]
    whole = not only_these and bool(protocol.function_field) and len(alike) == len(rows)
    count = int(frames.nunique()) if whole else None
    few = sorted({int(one) for one in frames if one > 0})
    if only_these and 0 < len(few) <= _FEW_FRAMES:
        only = " || ".join(f"frame.number == {one}" for one in few)
        only = f"({only})"
    port = int(rows["port"].iloc[0])
    strange = port not in protocol.ports
    decode_as = f"tcp.port=={port},{protocol.decoder or layer}" if strange else ""
    return Proof(f"{ends} && {only}", pick_frames(frames.drop_duplicates()), count, decode_as)


def _prove_reads(view: TrafficView, traces: Sequence[Trace]) -> Proof | None:
    """Where what stands at some places was seen last; what was written, where nothing was."""
    seen = [one.now for one in traces if one.now is not None]
    if not seen:
        return _prove(view, _commands(view, traces[0].mine), only_these=True)
    last = max(seen, key=lambda one: float(one.seen_s))
    same = [one for one in seen if (one.client, one.kind) == (last.client, last.kind)]
    return _prove(view, _commands(view, same), only_these=True)
