"""What was downloaded, from whom, how large, and whether it came whole: by HTTP where that was read, else by
the connections that a device opened and the content that came in over them."""

import re
from typing import Any

import numpy as np
import pandas as pd

from assistant.answers.asked import Answer, Asked, Reply, say
from assistant.facts.fact import Fact, Value, show
from assistant.facts.traffic_view import TrafficView
from traffic.pcap.protocols import PROTOCOLS
from traffic.transfers import PARTIAL

_MOST = 6
_LEAST_BYTES = 10_000  # that come in over a connection; less is an answer, not a file
_WORD = re.compile(r"[a-z0-9][\w.-]{2,}")
_SAID_OF_ANY = (
    "and the did was were has have how what which from where who work worked download downloads downloaded file files"
    " update updates big large size http https get got fetch fetched this that with for out come came any all"
)
_DOWNLOAD = re.compile(
    r"\bdownload(?:s|ed|ing)?\b|\b(?:fetch|pull|retriev)(?:es|ed|ing|s)?\b.*\bfiles?\b|\b(?:largest|biggest) files?\b"
    r"|\bfiles? .*\b(?:load|download|fetch|c[ao]me|transfer|served?)\w*"
    r"|\bload(?:s|ed|ing)? (?:\w+ ){0,3}(?:down|from)\b|\bheruntergeladen|\blaedt .* herunter|\bdescarg\w*"
)
_UPDATE = re.compile(
    r"\b(?:the|an?|this|our|its|that|last|my|das|der|die|la|el) (?:[\w-]+ ){0,2}"
    r"(?:updates?|upgrades?|patch\w*|installer|aktualisierung|actualizacion)\b.*"
    r"\b(?:work|succe|finish|complet|through|fail|ok|well|done|arriv|whole|broke|klappt|funktion)\w*"
)
# Of a program into a controller, of how long it took, and of what goes out other answers tell.
_OF_OTHERS = re.compile(
    r"\bdownloads? (?:\w+ ){0,4}(?:into|onto|on to|wont|will not|does ?n.t)\b|\bdownload(?:ed|ing)? to (?!dev\b)"
    r"|\bdownload\w* (?:an? |the |our |new |old )*(?:\w+ )?(?:program|project|logic|recipe)\b|\bcpus?\b|\bplcs?\b"
    r"|\b(?:to|into|in|of|from) the controllers?\b|\brecipe downloads?\b|\bwhy\b|\bupload\w*|\boutgoing\b"
    r"|^(?:please|update|download)\b"
)
_TO_IT = re.compile(r"\bto dev\b")
_KINDS = frozenset(
    ("encryption", "manual", "code", "before", "feedback", "help", "checks", "none", "meaning")
)
# What an update consists of.
_PROGRAM = re.compile(
    r"(?i)\.(?:exe|msi|msu|cab|zip|gz|tgz|bz2|xz|bin|img|hex|fw|apk|deb|rpm|ipk|swu|pkg|dmg|crx|jar|upd)$"
)
_PROGRAM_MIME = re.compile(
    r"dosexec|executable|octet-stream|zip|gzip|x-tar|debian|msdownload|chrome-ext|elf|cab|firmware"
)
_WORKED = re.compile(r"\b(?:work|succe|complet|finish|whole|through|fail|ok|broke|done)\w*\b")


def answer_download(asked: Asked) -> Answer | None:
    """What a question about downloads means, the largest of it first; None where it asks for none, or
    nothing was seen to come."""
    plain, query = asked.query.plain, asked.query
    update = bool(_UPDATE.search(plain))
    if not (update or _DOWNLOAD.search(plain)) or _OF_OTHERS.search(plain):
        return None
    if query.kind in _KINDS and not query.guessed:
        return None
    rows = _select(asked, update=update)
    if len(rows):
        return _tell_files(asked, rows)
    return None if update else _tell_connections(asked)


# ---- By HTTP ----


def _select(asked: Asked, *, update: bool) -> pd.DataFrame:
    """The transfers that a question means: of the device and the time that it names, of what its words
    name, of programs where it speaks of an update."""
    rows = asked.view.transfers
    large = rows["got_bytes"] >= _LEAST_BYTES
    # What a program reports is answered with a few bytes, and who is sent elsewhere got no file there.
    asks = (rows["method"] == "GET") | ((rows["method"] == "POST") & large)
    status = rows["status"]
    rows = rows[
        asks
        & (((rows["got_bytes"] > 0) & status.between(200, 299)) | (status >= 400) | (status < 0))
    ]
    for one in filter(None, (asked.device, asked.second)):
        rows = rows[(rows["client"] == one) | (rows["server"] == one)]
    if asked.span is not None:
        rows = rows[rows["ts"].between(asked.span.start_s, asked.span.end_s)]
    text = rows["file"].fillna("").str.lower() + " " + rows["host"].fillna("").str.lower()
    words = {
        one for one in _WORD.findall(asked.question.lower()) if one not in _SAID_OF_ANY.split()
    }
    named = np.zeros(len(rows), bool)
    for word in words:
        named |= text.str.contains(word, regex=False).to_numpy(bool)
    if named.any():  # "the chrome download"
        return rows[named]
    if update:
        kinds = rows["mime"].fillna("").str.contains(_PROGRAM_MIME)
        return rows[kinds | rows["file"].fillna("").str.contains(_PROGRAM)]
    return rows


def _join_parts(rows: pd.DataFrame) -> pd.DataFrame:
    """Files, those that came in parts as one, the largest first."""
    alone = np.where(rows["status"] == PARTIAL, -1, np.arange(len(rows)))
    keys = [rows["client"], rows["server"], rows["file"].fillna(""), pd.Series(alone, rows.index)]
    files = rows.groupby(keys, sort=False).agg(
        ts=("ts", "min"), client=("client", "first"), server=("server", "first"), file=("file", "first"),
        host=("host", "first"), mime=("mime", "first"), status=("status", "last"), got_bytes=("got_bytes", "sum"),
        declared_bytes=("declared_bytes", lambda one: one.sum(min_count=1)),
        whole=("whole", lambda one: one.min(skipna=False)),
        flow=("flow", "last"), parts=("ts", "size"),
    )  # fmt: skip
    return files.sort_values("got_bytes", ascending=False, kind="stable", ignore_index=True)


def _tell_files(asked: Asked, rows: pd.DataFrame) -> Answer:
    files = _join_parts(rows)
    told = [_tell_file(asked, one) for one in files.head(_MOST).to_dict("records")]
    came = files[files["status"].between(200, 299)]
    all_of_them = say(
        "download_all", n=len(files), got_bytes=float(files["got_bytes"].sum()), servers=files["server"].nunique(),
        refused=int((files["status"] >= 400).sum()),
    )  # fmt: skip
    facts = (*told[1:], *((all_of_them,) if len(files) > 1 else ()), *_tell_encrypted(asked))
    reply: Reply = ""
    if asked.polar and _WORKED.search(asked.query.plain):
        reply = _reply_whether(files.iloc[0], asked)
    elif asked.polar:
        reply = "yes" if len(came) else "no"
    line = _tell_file(asked, files.iloc[0].to_dict(), reply)
    client, server = (str(files[one].iloc[0]) for one in ("client", "server"))
    return Answer(line, facts, about=asked.device if asked.device in (client, server) else client)


def _reply_whether(file: pd.Series, asked: Asked) -> Reply:
    """Whether a download worked: no more is said than what was seen of it."""
    if file["status"] >= 400 or file["whole"] == 0:
        return "no"
    if file["status"] < 0:
        return "unclear"
    return "yes" if file["whole"] == 1 or _ended_well(asked, int(file["flow"])) else "unclear"


def _ended_well(asked: Asked, flow: int) -> bool:
    """Whether a connection was closed properly and the sensor missed nothing of it."""
    sessions = asked.view.sessions
    ended = sessions.loc[sessions["flow"] == flow, "ended"]
    missed = asked.view.flow_slots
    missed = missed.loc[missed["flow"] == flow, "missed_bytes"]
    return bool(len(ended)) and ended.iloc[0] == "fin" and not missed.fillna(0).any()


def _tell_file(asked: Asked, file: dict[str, Any], reply: Reply = "") -> Fact:
    view, status, whole = asked.view, int(file["status"]), float(file["whole"])
    if status >= 400:
        kind = "download_refused"
    elif status < 0:
        kind = "download_unseen"
    elif whole == 1:
        kind = "download_whole"
    elif whole == 0:
        kind = "download_broken"
    else:
        kind = "download_ended" if _ended_well(asked, int(file["flow"])) else "download_unsure"
    name, host, mime = file["file"], file["host"], file["mime"]
    got = float(file["got_bytes"])
    values: dict[str, Value] = {
        "client": view.name_of(str(file["client"])), "server": view.name_of(str(file["server"])),
        "file": f"\u201c{name}\u201d" if isinstance(name, str) else say("download_nameless").text,
        "host": f" (\u201c{host}\u201d)" if isinstance(host, str) and host != file["server"] else "",
        "size": _word_size(got), "exactly": got, "got_bytes": got,
        "kind": f", {mime}" if isinstance(mime, str) else "", "at_time_s": float(file["ts"]), "status": status,
        "declared_bytes": float(np.nan_to_num(file["declared_bytes"])), "parts": int(file["parts"]),
    }  # fmt: skip
    return say(kind, reply, **values)


def _word_size(n_bytes: float) -> str:
    short = show("got_bytes", n_bytes)
    return short if n_bytes < 1000 else f"{short}: {n_bytes:,.0f} bytes"


_ENCRYPTED_PORTS = (443, 8443)


def _tell_encrypted(asked: Asked) -> list[Fact]:
    """How much came in over encrypted connections, whose files nobody reads."""
    rows = _select_connections(asked)
    rows = rows[rows["port"].isin(_ENCRYPTED_PORTS)]
    if rows.empty:
        return []
    got = float(rows["server_bytes"].sum())
    return [say("download_encrypted", got_bytes=got, n=len(rows), servers=rows["server"].nunique())]


# ---- By connections alone ----


def _tell_connections(asked: Asked) -> Answer | None:
    """What came in at a device over connections that it opened; None where that is little."""
    rows = _select_connections(asked)
    if rows.empty or not asked.device or _TO_IT.search(asked.query.plain):
        return None
    ends = ["client", "server", "port"]
    groups = rows.groupby(ends, observed=True)
    order = groups["server_bytes"].sum().sort_values(ascending=False).index
    told = [_tell_group(asked, groups.get_group(one)) for one in order[:_MOST]]
    reply: Reply = "unclear" if asked.polar else ""
    line = _tell_group(asked, groups.get_group(order[0]), reply)
    about = asked.device or str(order[0][0])
    return Answer(line, (*told[1:], say("download_by_flows")), about=about, standing="inconclusive")


def _select_connections(asked: Asked) -> pd.DataFrame:
    """Connections that the device that is named opened, or one of the plant, over which more came in
    than went out."""
    view, device = asked.view, asked.device
    rows = view.sessions
    rows = rows[rows["client"].isin([device] if device in view.local else list(view.local))]
    if asked.second:
        rows = rows[rows["server"] == asked.second]
    if asked.span is not None:
        rows = rows[rows["start_s"].between(asked.span.start_s, asked.span.end_s)]
    # Who polls registers gets much in the end, and no file.
    rows = rows[
        ~rows["port"].isin(_POLLED) & ~rows["flow"].isin(view.exchanges.loc[_polls(view), "flow"])
    ]
    sent = rows["data_bytes"] - rows["server_bytes"]
    return rows[(rows["server_bytes"] >= _LEAST_BYTES) & (rows["server_bytes"] > sent)]


_FETCHED = ("http", "ftp", "ssl")
_POLLED = frozenset(
    port
    for one in PROTOCOLS
    if one.read is not None and one.name not in _FETCHED
    for port in one.ports
)


def _polls(view: TrafficView) -> pd.Series:
    """Which exchanges are of a protocol in which values are asked for, and no files."""
    return ~view.exchanges["protocol"].isin(_FETCHED)


def _tell_group(asked: Asked, rows: pd.DataFrame, reply: Reply = "") -> Fact:
    view, first = asked.view, rows.iloc[0]
    server, port = str(first["server"]), int(first["port"])
    values: dict[str, Value] = {
        "client": view.name_of(str(first["client"])), "server": view.port_at(server, port), "n": len(rows),
        "got_bytes": float(rows["server_bytes"].sum()),
        "least_bytes": float(rows["server_bytes"].min()), "most_bytes": float(rows["server_bytes"].max()),
        "start_time_s": float(rows["start_s"].min()), "end_time_s": float(rows["end_s"].max()),
    }  # fmt: skip
    return say("download_flow" if len(rows) == 1 else "download_flows", reply, **values)
