"""What a device sends without being asked each time: how many messages a second, whether that is what its
configuration promises, and who switched it on or off."""

import re

import pandas as pd

from assistant.answers.asked import Answer, Asked, say
from assistant.answers.plant.descriptions import describe_requests, name_function
from assistant.facts.fact import Fact, Value, listed
from assistant.questions.plain import DEVICE
from traffic.pcap.protocols import BY_NAME

# "a second", "per second": how many come in a time.
RATE = re.compile(
    r"\b(?:per|a|each|every|pro|por|je) (?:second|sec|s|sekunde|segundo)\b|/ ?s\b|\brate\b|how fast"
)
# What comes "from the pmu 10.0.0.7" is what it sends, whoever the sentence is about.
FROM = re.compile(rf"\b(?:from|von|vom|aus|de|del|desde) (?:\w+ ){{0,3}}{DEVICE}\b")
_MESSAGES = re.compile(
    r"\b(?:frames?|messages?|telegrams?|data|values?|updates?|samples?|measurements?|phasors?|telegramme?n?"
    r"|nachrichten|daten|werte?|messwerte?|tramas?|mensajes?|datos|valores)\b"
)
_OFTEN = re.compile(
    r"\b(?:how (?:often|frequently)|wie (?:oft|haeufig)|cada cuanto|cuan a menudo)\b"
)
_STREAM = re.compile(
    r"\b(?:streams?|streaming|streamed|transmissions?|transmitting|transmit\w*|data (?:flow|transfer)"
    r"|send(?:s|ing)?(?: \w+){0,2} (?:data|values|frames|measurements)|datenstrom|uebertragung|flujo|transmision)\b"
)
_OFF = re.compile(
    r"\b(?:stop\w*|off|end(?:s|ed|ing)?|ceas\w*|halt\w*|quit\w*|interrupt\w*|broke|aus|ab|abgeschaltet|gestoppt"
    r"|beendet|angehalten|par[aoó]\w*|detuvo|termin\w*|apag\w*)\b"
)
_ON = re.compile(
    r"\b(?:start\w*|on|beg[aiu]ns?|activat\w*|enabl\w*|ein|an|eingeschaltet|gestartet|inici\w*|encend\w*)\b"
)
_VALID = re.compile(
    r"\b(?:valid|invalid|trustworthy|usable|good|bad|wrong|correct|quality|marked|flagged|in sync\w*|unsync\w*"
    r"|synchroni[sz]ed|gueltig|ungueltig|brauchbar|validos?|invalidos?)\b"
)
_EXACT = 0.05  # by how much a rate may miss what is promised and still be that
_FEWEST = 3


def answer_stream(asked: Asked) -> Answer | None:
    """How often a device sends, and who switched that on or off; None where that is not asked, or nothing
    of the kind was read."""
    plain = asked.query.plain
    if _MESSAGES.search(plain) and (RATE.search(plain) or _OFTEN.search(plain)):
        return _say_rate(asked)
    if _MESSAGES.search(plain) and _VALID.search(plain):
        return _say_validity(asked)
    if _STREAM.search(plain) and (_OFF.search(plain) or _ON.search(plain)):
        return _say_switch(asked)
    return None


def _say_rate(asked: Asked) -> Answer | None:
    if not asked.device or asked.second:
        return None
    if not (asked.query.active or FROM.search(asked.query.plain)):
        return None
    rows = _select_told(asked.requests, asked.device)
    asked_for = asked.requests["server"].eq(asked.device) & asked.requests["outcome"].eq("answered")
    if len(rows) < max(_FEWEST, int(asked_for.sum())):  # mostly it sends what it is asked for
        return None
    pairs = rows.groupby(["server", "protocol", "function"], observed=True)
    key = pairs.size().idxmax()  # to several the same is sent
    rows = pairs.get_group(key)
    protocol = str(key[1])
    since_s, until_s = float(rows["ts"].min()), float(rows["ts"].max())
    if until_s <= since_s:
        return None
    mean_per_s = (len(rows) - 1) / (until_s - since_s)
    promised = _find_promise(asked, protocol)
    values: dict[str, Value] = {
        "name": asked.name, "n": len(rows), "what": name_function(protocol, int(key[2])),
        "mean_per_s": mean_per_s, "since_time_s": since_s, "until_time_s": until_s,
    }  # fmt: skip
    kind = "stream_rate"
    if promised:
        values["promised_per_s"] = float(promised)
        kept = abs(mean_per_s - promised) <= _EXACT * promised
        kind += "_kept" if kept else "_not_kept"
    return Answer(say(kind, **values), (*_say_marks(asked.name, protocol, rows), *asked.known))


def _say_validity(asked: Asked) -> Answer | None:
    """Whether who sends marks what it sends as wrong; None where its protocol has no such marks."""
    rows = asked.requests
    rows = rows[(rows["kind"] == "publish") & (rows["outcome"] == "told")]
    rows = rows[rows["protocol"].astype("str").map(_marks).astype(bool)]
    rows = rows[rows["client"] == asked.device] if asked.device else rows
    if rows["client"].nunique() != 1:
        return None
    name = asked.view.name_of(str(rows["client"].iloc[0]))
    line, *rest = _say_marks(name, str(rows["protocol"].iloc[0]), rows)
    # Whether it is valid, or is marked as invalid, was asked: what was counted answers either.
    return Answer(line, (*rest, *describe_requests(rows, asked.view), *asked.known))


def _select_told(rows: pd.DataFrame, device: str) -> pd.DataFrame:
    """What a device sends by itself."""
    mine = (rows["kind"] == "publish") & (rows["outcome"] == "told") & (rows["client"] == device)
    return rows[mine]


def _find_promise(asked: Asked, protocol: str) -> int:
    """How many messages a second the device's configuration promises; 0 where none was read."""
    rows = asked.view.exchanges
    mine = (rows["protocol"] == protocol) & rows["function"].isin(BY_NAME[protocol].promises)
    mine &= (rows["server"] == asked.device) & (rows["value"] > 0)
    return int(rows.loc[mine, "value"].iloc[-1]) if mine.any() else 0


def _say_marks(name: str, protocol: str, rows: pd.DataFrame) -> tuple[Fact, ...]:
    """What the device itself marks in what it sends as wrong."""
    counts = rows.loc[rows["code"] > 0, "code"].value_counts()
    if counts.empty:
        return (say("stream_unmarked", name=name, n=len(rows)),) if _marks(protocol) else ()
    words = BY_NAME[protocol].refusals
    codes = listed(f"{n:,} {words.get(int(code), f'code {code}')}" for code, n in counts.items())
    values: dict[str, Value] = {f"c{code}": int(n) for code, n in counts.items()}
    line = say(
        "stream_marked", name=name, n=int(counts.sum()), all=len(rows), codes=codes, **values
    )
    return (line,)


def _marks(protocol: str) -> bool:
    return bool(BY_NAME[protocol].remarks)


def _say_switch(asked: Asked) -> Answer | None:
    """Who told a device to send, or to cease."""
    plain, rows = asked.query.plain, asked.requests
    on = bool(_ON.search(plain)) and not _OFF.search(plain)
    found = pd.Series(data=False, index=rows.index)
    every = found.copy()
    for name in rows["protocol"].unique():
        known, mine = BY_NAME[str(name)], rows["protocol"] == name
        every |= mine & rows["function"].isin(known.starts | known.stops)
        found |= mine & rows["function"].isin(known.starts if on else known.stops)
    if not every.any():
        return None
    server = str(rows.loc[every, "server"].iloc[-1])
    told = _select_told(rows, server)
    facts = tuple(describe_requests(rows[every], asked.view))
    values: dict[str, Value] = {"server": asked.view.name_of(server)}
    if not found.any():
        if on or told.empty:
            return None
        last_s = float(told["ts"].max())
        values |= {"last_time_s": last_s, "left_s": max(asked.view.last_s - last_s, 0.0)}
        return Answer(say("stream_not_stopped", "unclear", **values), facts, about=server)
    mine = rows[found & (rows["server"] == server)]
    mine = rows[found] if mine.empty else mine
    last = mine.iloc[-1]
    server = str(last["server"])
    values = {
        "client": asked.view.name_of(str(last["client"])), "server": asked.view.name_of(server),
        "what": name_function(str(last["protocol"]), int(last["function"])), "at_time_s": float(last["ts"]),
    }  # fmt: skip
    told = _select_told(rows, server)
    told = told[told["ts"] > last["ts"]] if on else told[told["ts"] <= last["ts"]]
    kind = "stream_started" if on else "stream_stopped"
    if len(told):
        moment = told["ts"].min() if on else told["ts"].max()
        values |= {"apart_s": abs(float(last["ts"] - moment)), "n": len(told)}
        kind += "_sent"
    return Answer(say(kind, **values), facts, about=server)
