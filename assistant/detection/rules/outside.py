"""What goes outside: much data to an address that was never met before, calls like clockwork to an
address that nobody looked up, and sessions at the port of TLS that are none."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from assistant.detection.rules.rule import RuleHit, slots_of
from assistant.facts.contacts import NAMED_S, first_contact, is_named, leads_elsewhere
from assistant.facts.fact import Proof, Value, make_fact
from assistant.facts.logs_and_readings import Complaint
from assistant.facts.proofs import from_to
from assistant.facts.traffic_view import BASELINE_S, TrafficView
from traffic.capture import SAMPLE_S
from traffic.plant import is_group

_UPLOAD_BYTES, _UPLOAD_SLOTS, _MORE_SENT = 2e6, 60, 4.0  # within ten minutes
_MET_LATE_BYTES = 1e6  # the same to an address that ten minutes did not show
_DISGUISED_BYTES = 5e5  # that at a port whose service it is not
_MIN_CALLS, _MIN_CALLS_S = 12, 300.0
_FEW_CALLS, _FEW_CALLS_S = 6, 40.0  # the same of who began late
_LATE_S, _LATE_LEAST_S, _LATE_SPACINGS = 300.0, 120.0, 20.0
_CLOCKWORK = 0.05  # half of the spacings within this share of their median
_RHYTHM = 0.4  # the same where each call says as much, or where nothing is raised; calls by chance have 0.7
_SAME_SIZE, _MOSTLY_SAME = 0.05, 0.8
_USUAL_NAME = 3  # times that a name was asked for before, by who asks for it all the time
_SMALL_BYTES = 5_000.0  # a call that says little
_DNS = 53
_TLS = (443, 853, 993, 995, 8443, 8883)
_RECORD_BYTES = 21.0  # RFC 5246, 6.2: a header of five, a tag of sixteen
_MASKED_S, _SAID_BYTES, _ALIKE = 1800.0, 500.0, 1.5
_READ = (_DNS, 80, 1883, 8080)
ORDINARY = (_DNS, 80, 123, 443, 1883, 8080, 8443, 8883)

_SENTENCES = {
    "upload": "{device} sent {sent_bytes} to {target}, outside the plant, between {first_time_s} and {last_time_s} and "
    "received {got_bytes}.",
    "first_met": "It had nothing to do with that address before, in the {known_s} that it was seen.",
    "met_at_start": "Whether that address is new to it this recording cannot tell: too little of it was seen before.",
    "no_hello": "That went to a port of TLS, where a server speaks before any data come, and this one said nothing: it "
    "was not TLS.",
    "clockwork": "{device} calls {target}, outside the plant, every {spacing_s} (half of the calls keep to it within "
    "{jitter_s}): {attempts:call} between {first_time_s} and {last_time_s}, {answered}.",
    "rhythm_kept": "{device} calls {target}, outside the plant, about every {spacing_s} (half of the calls keep to it "
    "within {jitter_s}) and says the same amount each time, as a program does: {attempts:call} between {first_time_s} "
    "and {last_time_s}, {answered}.",
    "named_others": "It looks other things up by name, and before the first of these calls nothing that leads there: "
    "what it looks up all the time, or what led it elsewhere.",
    "began_late": "It made none of these calls in the first {known_s} that it was seen.",
    "masked": "{device} kept a session with {target}, outside the plant, for {longest_s} at a port of TLS, and what "
    "they said was not TLS: {mean_bytes} a packet of data, less than its shortest record.",
    "no_certificate": "The other side sent {got_bytes} and received {sent_bytes}, so no certificate was among it.",
    "no_name": "No name was asked for before the first of these calls, and they are none of an ordinary service at its "
    "usual port.",
}


def find_uploads(view: TrafficView) -> list[RuleHit]:
    """Much data that a device sends to one outside address and that nobody there asked for."""
    hits = []
    for device, target, rows in _outside(view, _find_senders(view)):
        # A device that looks its service up by name and sends there what its port stands for does
        # what its maker meant it to: a camera sends much.
        first_s = float(rows["since_s"].min())
        met = first_contact(view, device, target, rows["port"].unique(), first_s)
        masked = _lacks_hello(rows)
        disguised = masked or _is_misused(rows)
        ordinary = rows["port"].isin(ORDINARY).any() and not disguised
        if ordinary and met.named:
            continue
        sent, got = float(rows["sent_bytes"].sum()), float(rows["got_bytes"].sum())
        new = met.known_s >= BASELINE_S
        least = _DISGUISED_BYTES if disguised else _MET_LATE_BYTES
        if _busiest_bytes(rows) < (least if new else _UPLOAD_BYTES):
            continue
        if sent < _MORE_SENT * got or not rows["answered"].any():
            continue
        values = _values(view, device, target, rows) | {
            "sent_bytes": sent,
            "got_bytes": got,
            "known_s": met.known_s,
        }
        kinds = [
            "upload",
            "first_met" if new else "met_at_start",
            *(["no_hello"] if masked else []),
        ]
        proof = Proof(from_to(device, target))
        facts = tuple(make_fact(one, _SENTENCES[one], values, proof=proof) for one in kinds)
        hits.append(RuleHit(device, "exfiltration", "source", facts, (target,), slots_of(rows)))
    return hits


def _busiest_bytes(rows: pd.DataFrame) -> float:
    """The most that was sent within ten minutes, whenever they begin."""
    each = rows.groupby("slot")["sent_bytes"].sum()
    slots, total = each.index.to_numpy(), np.concatenate([[0.0], each.cumsum().to_numpy(float)])
    return float((total[1:] - total[np.searchsorted(slots, slots - _UPLOAD_SLOTS + 1)]).max())


def _find_senders(view: TrafficView) -> frozenset[tuple[str, str]]:
    """Devices and outside addresses that got about as much of them as an upload has, or more, and
    sent less. Sums in another order differ in their last digits: hence a little less is enough."""
    rows, parts = view.flow_slots, []
    for here, there in (("src", "dst"), ("dst", "src")):
        mine = rows[rows[here].isin(view.local) & ~rows[there].isin(view.local)]
        mine = mine[[here, there, f"{here}_bytes", f"{there}_bytes", "answered"]]
        parts.append(mine.set_axis(["device", "target", "sent", "got", "answered"], axis=1))
    each = pd.concat(parts, ignore_index=True).groupby(["device", "target"])
    each = each.agg({"sent": "sum", "got": "sum", "answered": "any"})
    much = (each["sent"] >= 0.99 * _DISGUISED_BYTES) & (
        each["sent"] >= 0.99 * _MORE_SENT * each["got"]
    )
    return _pairs(each[much & each["answered"].astype(bool)])


def find_clockwork(view: TrafficView) -> list[RuleHit]:
    """Short calls again and again to an outside address that no name led to, where no ordinary service
    is spoken: at an even interval, or with as much said each time, since malware varies its pauses
    and not what it says."""
    hits = []
    flows = view.flow_slots
    opened = flows[(flows["proto"] == "tcp") & flows["src"].isin(view.local)]
    opened = opened[~opened["dst"].isin(view.local)]
    opened = opened.assign(ordinary=_speaks_ordinary(opened))
    called = opened.groupby(["src", "dst", "port"]).agg(
        attempts=("attempt", "nunique"), ordinary=("ordinary", "any"), answered=("answered", "any")
    )
    many = (called["attempts"] >= _FEW_CALLS) & called["answered"].astype(bool)
    for device, target, rows in _outside(
        view, _pairs(called[many & ~called["ordinary"].astype(bool)])
    ):
        for port, calls in _calls(rows):
            if _is_ordinary(calls) or not calls["answered"].any():
                continue  # those without an answer are told by vain_calls.py
            kinds = ["clockwork", "no_name"]
            values = _read_clockwork(view, device, target, calls, _CLOCKWORK)
            if values is None and _is_alike(calls):
                late = _is_late(view, device, target, calls)
                others = is_named(view, device, view.end_s)
                kinds = ["rhythm_kept", "named_others" if late and others else "no_name"]
                kinds += ["began_late"] if late else []
                values = _read_clockwork(view, device, target, calls, _RHYTHM, late)
            if values is None:
                continue
            only = f"{from_to(device, target)} && tcp.dstport == {port} && tcp.flags.syn == 1"
            facts = tuple(
                make_fact(one, _SENTENCES[one], values, proof=Proof(only)) for one in kinds
            )
            hits.append(RuleHit(device, "c2", "source", facts, (target,), slots_of(calls)))
    return hits


def find_masked_sessions(view: TrafficView) -> list[RuleHit]:
    """Long sessions with an outside address at a port of TLS that cannot be TLS: packets smaller
    than its records, and a server that sends no more than it gets, so no certificate.

    What is spoken there need not have been read: sizes tell, in Zeek's conn.log too.
    """
    rows = view.sessions
    rows = rows[rows["begun"] & rows["opened"] & rows["port"].isin(_TLS)]
    rows = rows[rows["client"].isin(view.local) & ~rows["server"].isin(view.local)]
    got = rows["server_bytes"].to_numpy(float)
    sent = rows["data_bytes"].to_numpy(float) - got
    lasted = (rows["end_s"] - rows["start_s"]).to_numpy(float)
    alike = np.maximum(sent, got) <= _ALIKE * np.minimum(sent, got)
    large = np.minimum(sent, got) >= _SAID_BYTES
    rows = rows.assign(sent=sent, got=got, lasted=lasted)[alike & large & (lasted >= _MASKED_S)]
    flows = view.flow_slots[view.flow_slots["flow"].isin(rows["flow"])]
    pkts = flows.groupby("flow")[["src_pkts", "dst_pkts"]].sum().reindex(rows["flow"])
    # Each packet of data is acknowledged by one that carries none.
    mean = 2 * (rows["sent"] + rows["got"]) / np.maximum(pkts.to_numpy().sum(axis=1), 1)
    unread = ~rows["flow"].isin(flows.loc[flows["service"].fillna("") != "", "flow"])
    rows = rows.assign(mean=mean)[(mean < _RECORD_BYTES) & unread]
    hits = []
    for (device, target), mine in rows.groupby(["client", "server"]):
        seen = flows[flows["flow"].isin(mine["flow"])]
        proof = Proof(f"{from_to(str(device), str(target))} && tcp.port in {{{_listed(mine)}}}")
        values = _values(view, str(device), str(target), seen) | {
            "longest_s": float(mine["lasted"].max()),
            "mean_bytes": float(mine["mean"].max()),
            "sent_bytes": float(mine["sent"].sum()),
            "got_bytes": float(mine["got"].sum()),
        }
        facts = tuple(
            make_fact(one, _SENTENCES[one], values, proof=proof)
            for one in ("masked", "no_certificate")
        )
        hits.append(RuleHit(str(device), "c2", "source", facts, (str(target),), slots_of(seen)))
    return hits


def _listed(rows: pd.DataFrame) -> str:
    return ", ".join(str(port) for port in sorted(rows["port"].unique()))


def find_nameless_calls(view: TrafficView, device: str) -> Complaint | None:
    """Calls with a rhythm to a port outside that no name led to, and that are not raised: of an
    ordinary service, or not quite even, as a maker's may be and malware makes its own; None where
    there are none."""
    for target, rows in _outside_of(view, device):
        for _, calls in _calls(rows):
            values = _read_clockwork(view, device, target, calls, _RHYTHM)
            if values is not None:
                return Complaint("calls", values)
    return None


def _read_clockwork(
    view: TrafficView,
    device: str,
    target: str,
    rows: pd.DataFrame,
    uneven: float,
    few: bool = False,
) -> dict[str, Value] | None:
    """The rhythm of a device's calls to a port outside; None where they have none, say much, or
    follow the question for a name.

    Args:
        uneven: half of the spacings lie within this share of their median.
        few: whether few calls are enough, and names that led elsewhere do not count.
    """
    attempts = rows.groupby("attempt")
    begun = np.sort(attempts["since_s"].min().to_numpy())
    least, least_s = (_FEW_CALLS, _FEW_CALLS_S) if few else (_MIN_CALLS, _MIN_CALLS_S)
    if len(begun) < least or begun[-1] - begun[0] < least_s:
        return None
    spacing = np.diff(begun)
    middle = float(np.median(spacing))
    jitter = float(np.median(np.abs(spacing - middle)))
    little = float((rows["src_bytes"] + rows["dst_bytes"]).sum()) <= _SMALL_BYTES * len(begun)
    met = first_contact(view, device, target, rows["port"].unique(), float(begun[0]))
    if jitter > uneven * middle or not little or (met.named and not few):
        return None
    answered = int(attempts["answered"].any().sum())
    return _values(view, device, target, rows) | {
        "target": view.endpoint(rows),
        "controller": view.endpoint(rows),
        "attempts": len(begun),
        "sessions": answered,
        "left": len(begun) - answered,
        "answered": _word_answered(answered, len(begun) - answered),
        "spacing_s": middle,
        "jitter_s": jitter,
        "known_s": met.known_s,
    }


def _word_answered(answered: int, left: int) -> str:
    """How calls were answered, true of each of them."""
    if not left:
        return "each answered with little"
    return f"{answered:,} of them answered with little and {left:,} not at all"


def _is_alike(rows: pd.DataFrame) -> bool:
    """Whether a device's calls say as much each time, both ways, and what they speak was not
    recognised; the last may not be over."""
    if _is_read(rows).any():
        return False
    each = rows.groupby("attempt")
    said = each[["src_bytes", "dst_bytes"]].sum()
    said = said.assign(since_s=each["since_s"].min()).sort_values("since_s").iloc[:-1, :2]
    usual = said.median()
    if not (usual > 0).all():
        return False
    same = ((said - usual).abs() <= _SAME_SIZE * usual).all(axis=1)
    return bool(same.mean() >= _MOSTLY_SAME)


def _is_late(view: TrafficView, device: str, target: str, calls: pd.DataFrame) -> bool:
    """Whether a device began to call somebody long after it was first seen, and no name led there."""
    first_s = float(calls["since_s"].min())
    met = first_contact(view, device, target, calls["port"].unique(), first_s)
    spacing_s = float(np.median(np.diff(np.sort(calls.groupby("attempt")["since_s"].min()))))
    late = met.known_s >= least_late_s(spacing_s)
    if not late or not met.named_just:
        return late
    away = leads_elsewhere(view, device, target, met.first_s)
    return away or not _is_led_there(view, device, met.first_s)


def least_late_s(spacing_s: float, spacings: float = _LATE_SPACINGS) -> float:
    """How long a device must have been seen without calls of a rhythm, for these to begin late: one of
    seconds shows sooner that it was not there."""
    return min(_LATE_S, max(_LATE_LEAST_S, spacings * spacing_s))


def _calls(rows: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """What a device opened over TCP, by port."""
    for port, mine in rows[(rows["proto"] == "tcp") & rows["out"]].groupby("port"):
        yield int(port), mine


def _pairs(table: pd.DataFrame) -> frozenset[tuple[str, str]]:
    """Devices and targets that an index begins with."""
    return frozenset((str(key[0]), str(key[1])) for key in table.index)


def _outside(
    view: TrafficView, pairs: frozenset[tuple[str, str]]
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """What devices have with outside addresses, from the device's side, of some pairs.

    A plant has thousands of pairs, and few of them do what a rule looks for: those are found by
    columns before a table is made of each.
    """
    targets: dict[str, list[str]] = {}
    for device, target in pairs:
        if device in view.local and target not in view.local:
            targets.setdefault(device, []).append(target)
    for device in sorted(targets):
        rows = view.flows_of(device)
        for target, mine in _by_target(rows[rows["other"].isin(targets[device])]):
            yield device, target, mine


def _outside_of(view: TrafficView, device: str) -> list[tuple[str, pd.DataFrame]]:
    rows = view.flows_of(device)
    return _by_target(rows[~rows["other"].isin(view.local)])


def _by_target(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(str(other), mine) for other, mine in rows.groupby("other") if not is_group(str(other))]


def _is_led_there(view: TrafficView, device: str, first_s: float) -> bool:
    """Whether one of the names that a device asked for shortly before its first contact is none that it
    asks for all the time: who looks up its clock every minute always has."""
    asked = view.exchanges
    asked = asked[(asked["client"] == device) & (asked["protocol"] == "dns")]
    asked = asked[asked["name"].notna() & (asked["ts"] <= first_s)]
    late = asked["ts"] >= first_s - NAMED_S - SAMPLE_S
    if not late.any():
        return True  # names were not read, or no more are seen
    before = asked.loc[~late, "name"].astype("str").value_counts()
    usual = before.index[before >= _USUAL_NAME]
    return bool((~asked.loc[late, "name"].astype("str").isin(usual)).any())


def _is_ordinary(rows: pd.DataFrame) -> bool:
    """Whether what is spoken there is what its port stands for: anybody can listen at port 443."""
    return bool(_speaks_ordinary(rows).any())


def _speaks_ordinary(rows: pd.DataFrame) -> pd.Series:
    """Which flows speak what their port stands for, as far as that can be told."""
    # Content is told by its beginning, which a recording may not hold.
    unseen = ~rows["history"].astype("str").str.startswith("S")
    return rows["port"].isin(ORDINARY) & (_is_read(rows) | unseen)


def _is_misused(rows: pd.DataFrame) -> bool:
    """Whether all of it goes to ports whose service is read where it is spoken, and it is not."""
    begun = rows["history"].astype("str").str.startswith("S")
    return bool((rows["port"].isin(_READ) & ~_is_read(rows) & begun).all())


def _lacks_hello(rows: pd.DataFrame) -> bool:
    """Whether all of it goes to ports of TLS, from the handshake on, and no server said a word: in TLS
    it does before any data come (RFC 8446, 2)."""
    history = rows["history"].astype("str")
    silent = history.str.startswith("S") & ~history.str.contains("d", regex=False)
    return bool((silent & rows["port"].isin(_TLS) & (rows["proto"] == "tcp") & rows["out"]).all())


def _is_read(rows: pd.DataFrame) -> pd.Series:
    """Which flows hold what was recognised."""
    return rows["service"].notna() & (rows["service"] != "")


def _values(view: TrafficView, device: str, target: str, rows: pd.DataFrame) -> dict[str, Value]:
    return {
        "device": view.name_of(device),
        "target": view.name_of(target),
        "first_time_s": float(rows["since_s"].min()),
        "last_time_s": float(rows["until_s"].max()),
    }
