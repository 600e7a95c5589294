"""Connections: how many, how often tried, how long they last, how they end and who ends them."""

import re

import numpy as np
import pandas as pd

from assistant.answers.asked import Answer, Asked, say
from assistant.answers.plant.descriptions import describe_endings, name_times
from assistant.facts.fact import Value, kind_of, listed
from assistant.facts.requests import OUTCOMES

_MOST = 8
_ENDS = ("idle_close", "limit")  # incidents that tell who ends connections, and why
_IDLE_S = 1.0  # of silence before the end
_ALIKE_S = 0.1  # waits that differ by less are one time-out
_VAIN = ("refused", "unanswered")
_ENDINGS = {
    "fin": "closed properly", "reset": "reset", "refused": "refused", "unanswered": "without an answer",
    "idle": "silent without an end", "open": "still open at the end", "unknown": "with an end that was not seen",
}  # fmt: skip

_AGAIN = re.compile(r"\b(?:reconnect|connect again|come back|next try|next attempt|try again)\w*\b")
LASTS = re.compile(
    r"\b(?:how (?:long|soon|quickly|fast)|after how (?:long|many seconds|many minutes)) .*"
    rf"(?:\b(?:connections?|sessions?)\b.*\b(?:last|stay|live|surviv|hold|open|clos|end)\w*|{_AGAIN.pattern})"
)


_ANYBODY = re.compile(r"\b(?:any|some)\w*\b")


def answer_close(asked: Asked) -> Answer:
    """Who ends connections, and how."""
    if asked.sessions.empty:
        return Answer(say("count_no_sessions", name=asked.name), asked.found.facts)
    facts = describe_endings(asked.sessions, asked.view)
    ended = asked.sessions[asked.sessions["ended_by"] != ""]
    if ended.empty:
        return Answer(say("close_nobody", asked.reply(False), n=len(asked.sessions)), tuple(facts))
    client = ended["ended_by"] == "client"
    closers = ended["client"].astype("str").where(client, ended["server"].astype("str"))
    counts = closers.value_counts()
    names = listed(
        [f"{asked.view.name_of(one)} ({name_times(n)})" for one, n in counts.items()], _MOST
    )
    values: dict[str, Value] = {f"c{place}": int(n) for place, n in enumerate(counts)}
    idle_s = float(ended["idle_s"].quantile(0.5, interpolation="higher"))
    kind = "close_idle" if idle_s > _IDLE_S else "close"
    known = asked.incident.facts if asked.incident else ()
    if known and kind_of(known[0]) in _ENDS and asked.query.relation == "close":
        return Answer(known[0], (*known[1:], *facts))
    # "does the server throw it out?" is answered by who does, not by "yes".
    reply = asked.reply(True) if _ANYBODY.search(asked.query.plain) else ""
    line = say(kind, reply, names=names, n=len(ended), idle_s=idle_s, **values)
    return Answer(line, (*(asked.incident.facts if asked.incident else ()), *facts))


def count_sessions(asked: Asked, measure: str) -> Answer:
    """How many connections there were and how they ended; who ended them, where that is what was
    asked for and none was reset."""
    rows = asked.sessions
    if rows.empty:
        return Answer(say("count_no_sessions", name=asked.name), asked.found.facts)
    resets = int((rows["ended"] == "reset").sum())
    ends = measure == "resets" and not resets
    if (ends or asked.query.relation == "close") and (rows["ended_by"] != "").any():
        return answer_close(asked)
    said, values = _word_endings(rows)
    kind = "count_resets" if measure == "resets" else "count_sessions"
    line = say(kind, name=asked.name, n=len(rows), resets=resets, endings=said, **values)
    return Answer(line, tuple(describe_endings(rows, asked.view)))


def _word_endings(rows: pd.DataFrame) -> tuple[str, dict[str, Value]]:
    """How connections ended, the commonest way first, and the numbers in it."""
    endings = rows["ended"].astype("str").value_counts()
    said = listed((f"{n:,} {_ENDINGS[str(end)]}" for end, n in endings.items() if n), 7)
    return said, {f"e{place}": int(n) for place, n in enumerate(endings)}


def count_connects(asked: Asked) -> Answer:
    """How often one device opened a connection to another, and how those ended."""
    rows = asked.sessions
    if rows.empty:
        return Answer(say("count_no_sessions", name=asked.name), asked.found.facts)
    opened = rows[rows["client"] == asked.device]
    client, server = (asked.device, asked.second) if len(opened) else (asked.second, asked.device)
    rows = opened if len(opened) else rows
    said, values = _word_endings(rows)
    line = say(
        "count_connects", client=asked.view.name_of(client), server=asked.view.name_of(server), n=len(rows),
        endings=said, **values,
    )  # fmt: skip
    return Answer(line, tuple(describe_endings(rows, asked.view)))


def count_attempts(asked: Asked) -> Answer | None:
    """How many connections were tried and in vain, and how far apart those tries are; None where
    none was seen."""
    rows = asked.sessions
    if asked.device and not asked.second and len(rows):
        made, served = rows[rows["client"] == asked.device], rows[rows["server"] == asked.device]
        rows = made if len(made) and (asked.query.active or served.empty) else served
    rows = rows[rows["begun"]]  # the others were open before the capture began
    if rows.empty:
        return None
    vain = rows[rows["ended"].isin(_VAIN)].sort_values("start_s")
    values: dict[str, Value] = {
        "name": asked.name, "n": len(vain), "tried": len(rows), "part_share": len(vain) / len(rows),
        "refused": int((vain["ended"] == "refused").sum()),
        "unanswered": int((vain["ended"] == "unanswered").sum()),
    }  # fmt: skip
    step = vain.groupby(["client", "server"], observed=True)["start_s"].diff().median()
    facts = (
        *describe_endings(rows, asked.view, _VAIN),
        *(asked.incident.facts if asked.incident else ()),
    )
    if vain.empty:
        step = rows.sort_values("start_s")["start_s"].diff().median()
        every_s = float(step) if pd.notna(step) else 0.0
        kind = "count_opened_every" if len(rows) > 2 else "count_opened"
        return Answer(say(kind, **values, every_s=every_s), facts)
    if pd.notna(step) and len(vain) > 2:
        return Answer(say("count_attempts_every", **values, every_s=float(step)), facts)
    return Answer(say("count_attempts", **values), facts)


def answer_lasting(asked: Asked) -> Answer | None:
    """How long connections last, or how long until the next one is tried; None where no capture
    shows either."""
    rows = asked.sessions
    if asked.query.relation == "outside":
        rows = rows[~rows["server"].isin(asked.view.own | asked.view.local)]
    rows = rows[~rows["ended"].isin(_VAIN)]
    ended = rows[rows["begun"] & (rows["ended"] != "open")]
    again = bool(_AGAIN.search(asked.query.plain))
    facts = (*(asked.incident.facts if asked.incident else ()), *describe_endings(rows, asked.view))
    if ended.empty and len(rows) and not again:
        start_s = float(rows["start_s"].min())
        span_s = asked.view.last_s - start_s
        kind = "lasts_open_live" if asked.view.live else "lasts_open"
        line = say(kind, name=asked.name, n=len(rows), start_time_s=start_s, span_s=span_s)
        return Answer(line, facts)
    spans = ended["retry_s"].dropna() if again else ended["end_s"] - ended["start_s"]
    if spans.empty:
        return None
    values: dict[str, Value] = {
        "name": asked.name, "n": len(spans), "median_s": float(spans.median()),
        "least_s": float(spans.min()), "longest_s": float(spans.max()),
    }  # fmt: skip
    return Answer(say("lasts_again" if again else "lasts", **values), facts)


PATIENCE = re.compile(
    r"\bhow (?:long|many seconds|patient).*\b(?:wait\w*|giv(?:es?|ing) up|patien\w*|time-?s? ?out)\b"
    r"|\b(?:which|what) .*\b(?:time-?out)\b (?:is|was|does|do|has|have|value|setting|set)\b"
    r"|\bwie lange wartet\b|\bcuanto (?:tiempo )?espera\b"
)


def answer_patience(asked: Asked) -> Answer | None:
    """How long a client waits for an answer before it goes on; None where nobody asked."""
    rows = asked.requests
    if asked.incident and not asked.device:
        rows = rows[rows["server"].isin([asked.incident.device, *asked.incident.peers])]
    if asked.device and not asked.second:
        made = rows[rows["client"] == asked.device]
        rows = made if len(made) else rows
    rows = rows[rows["outcome"].isin(OUTCOMES)].sort_values("ts")
    if rows.empty:
        return None
    next_s = rows.groupby(["client", "server", "port"], observed=True)["ts"].shift(-1) - rows["ts"]
    ends = asked.view.sessions.groupby("flow")["end_s"].max()
    next_s = np.fmin(next_s, rows["flow"].map(ends) - rows["ts"])
    waits = next_s[(rows["outcome"] == "unanswered") & (next_s > 0)]
    known = asked.incident.facts if asked.incident else ()
    if waits.empty:
        longest = rows.loc[rows["delay_s"].idxmax()] if rows["delay_s"].notna().any() else None
        if longest is None:
            return None
        client = asked.view.name_of(str(longest["client"]))
        line = say("patience_more", client=client, longest_s=float(longest["delay_s"]))
        return Answer(line, known)
    client = str(rows.loc[waits.index, "client"].mode().iloc[0])
    waits = waits[rows.loc[waits.index, "client"] == client]
    alike = waits.max() - waits.min() < _ALIKE_S
    line = say(
        "patience_same" if alike else "patience", client=asked.view.name_of(client), n=len(waits),
        median_s=float(waits.median()), least_s=float(waits.min()), longest_s=float(waits.max()),
    )  # fmt: skip
    return Answer(line, known)
