"""Sentences about talks, about how sessions ended, and about requests, from the rows of their tables."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from assistant.answers.asked import say
from assistant.detection.incidents import Incident
from assistant.detection.rules.conversation import prove, word_code
from assistant.facts.devices import name_service
from assistant.facts.fact import Fact, Proof, Value, listed, plural
from assistant.facts.proofs import between
from assistant.facts.requests import OUTCOMES, is_refused
from assistant.facts.traffic_view import TrafficView
from traffic.conversations import ENDINGS
from traffic.pcap.protocols import BY_NAME, spoken_name
from traffic.plant import is_group

_MOST, _MOST_UNREAD = 8, 3
SHORTEST_S = 1e-3  # shorter intervals are bursts
_OUTCOMES = {
    "answered": "answered", "refused": "refused", "unanswered": "without an answer", "told": "that need no answer",
    "unseen": "whose answer was not seen",
}  # fmt: skip


def describe_talks(talks: pd.DataFrame, view: TrafficView, most: int = _MOST) -> list[Fact]:
    """Who talks with whom over what, rows of ``Asked.talks`` from the top."""
    return [describe_talk(row, view) for row in talks.head(most).itertuples()]


def describe_endings(
    sessions: pd.DataFrame, view: TrafficView, endings: Iterable[str] = ENDINGS, most: int = _MOST
) -> list[Fact]:
    """How connections ended, and who ended them; one fact for each pair, port and way, most first."""
    rows = sessions[sessions["ended"].isin(list(endings))]
    keys = ["client", "server", "port", "ended", "ended_by"]
    counts = rows.groupby(keys, observed=True, sort=False).agg(
        n=("flow", "size"), since_s=("start_s", "min"), until_s=("start_s", "max")
    )
    facts = []
    for key, row in counts.sort_values("n", ascending=False, kind="stable").head(most).iterrows():
        client, server, port, ended, by = key
        kind = f"ended_{ended}" + (f"_{by}" if by and ended in ("fin", "reset") else "")
        kind += "_live" if ended == "open" and view.live else ""
        values: dict[str, Value] = {
            "client": view.name_of(str(client)), "server": view.name_of(str(server)),
            "service": name_service("tcp", int(port)), "n": int(row["n"]),
            "since_time_s": float(row["since_s"]), "until_time_s": float(row["until_s"]),
        }  # fmt: skip
        facts.append(say(kind, "", Proof(between(str(client), str(server))), **values))
    return facts


def describe_talk(row: Any, view: TrafficView) -> Fact:
    kind = "talk_one" if row.dst_pkts or _is_answered(row, view) else "talk_vain"
    return say(
        "talk_to_all" if kind == "talk_vain" and is_group(row.dst) else kind,
        "",
        Proof(between(row.src, row.dst)),
        source=view.name_of(row.src),
        target=view.name_of(row.dst),
        service=name_service(row.proto, int(row.port)),
        pkts=int(row.pkts),
        both_bytes=int(row.both_bytes),
        since_time_s=float(row.since_s),
        until_time_s=float(row.until_s),
    )


def _is_answered(row: Any, view: TrafficView) -> bool:
    """Whether what was asked over UDP was answered from another port than was asked."""
    asked = view.exchanges
    mine = (asked["client"] == row.src) & (asked["server"] == row.dst)
    mine &= (asked["port"] == int(row.port)) & (asked["outcome"] == "answered")
    return row.proto == "udp" and bool(mine.any())


def name_times(count: int) -> str:
    """How often, in words: "once", "1,204 times"."""
    return "once" if count == 1 else f"{count:,} times"


def describe_requests(
    rows: pd.DataFrame, view: TrafficView, refused: bool = False, most: int = _MOST
) -> list[Fact]:
    """Who asked whom for what, how often and with which outcome; one fact a pair and function, most
    requests first.

    Args:
        rows: exchanges.
        view: names addresses.
        refused: word the codes of refusal too.
        most: how many facts at most.
    """
    ends = ["client", "server", "protocol", "function"]
    groups = rows.groupby(ends, observed=True, sort=False)
    sizes = groups.size().sort_values(ascending=False, kind="stable")
    facts = []
    for key in sizes.index[:most]:
        mine = groups.get_group(key)
        client, server, protocol, _ = map(str, key)
        codes = (
            mine.loc[is_refused(mine) & (mine["code"] > 0), "code"].value_counts()
            if refused
            else pd.Series(dtype=int)
        )
        said = listed(
            f"{name_times(count)} {word_code(protocol, int(code))}" for code, count in codes.items()
        )
        step = mine["ts"].sort_values().diff().median()
        every = len(mine) > 2 and pd.notna(step) and step >= SHORTEST_S
        told = (mine["kind"] == "publish").all() and (mine["outcome"] == "told").all()
        often = "every" if every else "some" if len(mine) > 1 else "once"
        facts.append(
            say(
                f"sent_{often}" if told else f"asked_{often}" + ("_refused" if len(codes) else ""),
                "",
                prove(mine, answers=bool(len(codes))),
                client=view.name_of(client),
                server=view.name_of(server),
                what=name_function(protocol, int(key[3])) + _name_targets(protocol, mine),
                times=len(mine),
                every_s=float(step) if every else 0.0,
                since_time_s=float(mine["ts"].min()),
                until_time_s=float(mine["ts"].max()),
                outcomes=_name_outcomes(mine),
                codes=said,
                **{
                    f"n{code}": int(count) for code, count in mine["outcome"].value_counts().items()
                },
                **{f"c{code}": int(count) for code, count in codes.items()},
            )
        )
    return facts


def describe_delay(rows: pd.DataFrame, name: str) -> Fact | None:
    """How long answers took; None where the capture does not tell."""
    known = rows["delay_s"].dropna()
    known = known[known >= 0]
    if known.empty:
        return None
    median_s, high_s, longest_s = (float(known.quantile(q)) for q in (0.5, 0.95, 1.0))
    vain = int((rows["outcome"] == "unanswered").sum())
    values: dict[str, Value] = {"median_s": median_s, "high_s": high_s, "longest_s": longest_s}
    return say("delay", "", None, name=name, n=len(known), unanswered=vain, **values)


_FEWEST = 5  # requests that show how a device fares


def describe_fares(view: TrafficView, device: str, incident: Incident) -> Fact | None:
    """How many requests of others a device answered while it was hit; None where too few were read."""
    rows = view.exchanges
    mine = (rows["server"] == device) & rows["outcome"].isin(OUTCOMES)
    rows = rows[mine & ~rows["client"].isin([incident.device, *incident.related])]
    rows = rows[rows["ts"].between(incident.start_s, incident.end_s)]
    good = int((rows["outcome"] == "answered").sum())
    if len(rows) < _FEWEST:
        return None
    kind = "fares_well" if good == len(rows) else "fares"
    return say(kind, name=view.name_of(device), n=good, asked=len(rows))


def name_function(protocol: str, function: int) -> str:
    """What a request does, as its protocol's people call it: "Modbus read holding registers"."""
    known = BY_NAME[protocol]
    number = function if function < 256 else f"0x{function:04X}"  # as say_code does
    word = known.functions.get(function, f"function {number}" if function >= 0 else "")
    return f"{spoken_name(protocol)} {word}".strip()


def _name_targets(protocol: str, rows: pd.DataFrame) -> str:
    """Where: units, registers, topics; the few that are most frequent."""
    parts = []
    units = sorted(int(unit) for unit in rows["unit"].unique() if unit >= 0)
    if units and (len(units) > 1 or units[0] > 0):
        parts.append(f"{plural(len(units), 'unit')} {listed(map(str, units), 6)}")
    targets = [int(one) for one in rows["target"].value_counts().index if one >= 0]
    if targets:
        word = BY_NAME[protocol].name_target
        parts.append(listed(map(word, sorted(targets)), 4))
    names = [
        f"“{name}”" for name in rows["name"].dropna().astype("str").value_counts().index[:4] if name
    ]
    parts += [listed(names, 4)] if names else []
    return f" ({', '.join(parts)})" if parts else ""


def _name_outcomes(rows: pd.DataFrame) -> str:
    counts = rows["outcome"].value_counts()
    known = [f"{counts[one]:,} {word}" for one, word in _OUTCOMES.items() if counts.get(one)]
    return f": {listed(known)}" if known else ""


def name_unread(view: TrafficView) -> str:
    """The services that answer and whose content nothing here reads, the busiest first; "" for none."""
    rows = view.flow_slots
    rows = rows[rows["answered"] & rows["proto"].isin(["tcp", "udp"])]
    rows = rows[~rows["flow"].isin(view.exchanges["flow"].unique())]
    said = rows["service"].astype("str").where(rows["service"].notna(), "")
    pkts = (rows["src_pkts"] + rows["dst_pkts"]).groupby([rows["proto"], rows["port"], said]).sum()
    names = []
    for proto, port, spoken in pkts.sort_values(ascending=False, kind="stable").index:
        name = name_service(str(proto), int(port))
        known = f" ({str(spoken).replace('_', '-').upper()})"
        names.append(name if "(" in name or not spoken else name + known)
    return listed(names[:_MOST_UNREAD])
