"""Judge and describe a device without an incident, by the stretches of time left undecided.

Windows overlap by five sixths, so that one odd sample makes six odd windows, and one download of
four minutes makes thirty. What was observed once is one stretch: windows that are not normal and
follow each other without a gap.

    .  normal                    . . . ? ? ? . ? . . . . . . . . .   windows
    ?  other, or abstained             |---------|                   one stretch: they overlap

Such a device is well when every stretch is over, and one of these holds:

- At least 99 % of its windows are normal.
- There is a single stretch; it is short against the time that the device was seen; and nothing that
  was measured in it shows what the model suspected.

A stretch is over when six normal windows followed it, as a run of ``assistant.detection.runs`` is.
The rule of k of n cannot tell more about one: abstained windows raise no incident however many they
are. So what would have had to carry the incident is looked at itself, label by label, and harder
than for an incident, where decided verdicts speak too.

Short means a forty-eighth of the time seen at most. One event among n pieces of time as long as
itself leaves its rate below 4.74 in n with 95 % confidence (the Poisson limit for one event;
Garwood, 1936), so that from n = 48 on less than a tenth of what the device does can be like it. Two
stretches are no exception any more but something that comes again, and in a capture of less than 48
minutes no stretch is short.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from assistant.detection.alert import Alert, is_shown, is_vetoed, make_alert
from assistant.detection.rules.outside import find_nameless_calls
from assistant.detection.rules.vain_calls import find_unanswered_calls
from assistant.detection.runs import VerdictRun
from assistant.diagnosis.playbook import read_health_playbook, read_playbook
from assistant.diagnosis.shells import read_shell_ports, shell_facts
from assistant.diagnosis.standing import Standing
from assistant.facts.devices import is_known_port, name_service
from assistant.facts.fact import Fact, Value, kind_of, listed, make_fact, plural
from assistant.facts.logs_and_readings import Complaint, find_complaint
from assistant.facts.requests import name_failing, request_facts
from assistant.facts.sensor import find_blindness
from assistant.facts.traffic_view import TrafficView
from traffic.capture import SAMPLE_S
from traffic.labels import LABELS, NORMAL
from traffic.windows import WINDOW_SAMPLES

_MOSTLY_NORMAL = 0.99
_SHORT = 48  # as long pieces of time in which the device was seen
_FEWEST = 3  # windows that raise an incident
_OVER = 6  # normal windows that end a stretch
_MOSTLY_LEFT = 0.9  # of the probability that no veto forbids
_MUCH_UNREAD = 0.25  # of a device's bytes inside the plant
_MOST_MEASURED = 3  # facts of a stretch that are shown


@dataclass(frozen=True)
class Stretch:
    """Windows of one device that are not normal and follow each other without a gap.

    Attributes:
        rows: positions in the verdict table, sorted.
        start_s: start of the first window, seconds since the epoch.
        end_s: end of the last one.
        labels: what the model suspected, the most frequent first.
        counts: windows of each of these.
    """

    rows: np.ndarray
    start_s: float
    end_s: float
    labels: tuple[str, ...]
    counts: tuple[int, ...]

    @property
    def span_s(self) -> float:
        """From the start of the first window to the end of the last."""
        return self.end_s - self.start_s


@dataclass(frozen=True)
class Health:
    """How a device without an incident is doing.

    Attributes:
        device: address.
        standing: ``normal`` or ``inconclusive``.
        reason: why it is not normal: blindness of the sensor (``assistant.facts.sensor``),
            ``failures`` of requests, ``unseen``, ``brief`` (fewer windows than can raise an
            incident), ``short`` (the same, all of them normal), ``unheard`` (it sent nothing),
            ``unread`` (much of its traffic is of a kind that nothing reads), ``open`` (a stretch is
            not over), ``several``, ``long``, ``shown`` (what
            was suspected shows in what was measured), ``log`` or ``reading`` (the device's own
            records speak against it), ``calls`` (it calls outside like clockwork), ``vain`` (somebody
            whom it calls never answers), ``sign`` (the newest seconds show what may become an
            incident); "" where it is.
        stretches: what stayed undecided, in order.
        windows: how many of its windows were judged.
        seen_s: time that they cover.
        at: the address whose windows these are, where that is not ``device`` but another of its.
    """

    device: str
    standing: Standing
    reason: str
    stretches: tuple[Stretch, ...]
    windows: int
    seen_s: float
    at: str = ""

    @property
    def address(self) -> str:
        """The address whose windows these are."""
        return self.at or self.device

    @property
    def brief(self) -> bool:
        """Whether it has fewer windows than can raise an incident, so that to have none says
        little."""
        return self.windows < _FEWEST

    @property
    def slight(self) -> bool:
        """Whether at least 99 % of its windows are normal."""
        return sum(len(one.rows) for one in self.stretches) <= (1 - _MOSTLY_NORMAL) * self.windows


def judge_health(device: str, verdicts: pd.DataFrame, view: TrafficView) -> Health:
    """Judge a device that has no incident, by all of its addresses.

    What is known of it by its link-local address only, as a machine that says a few words there
    is, keeps nobody from calling it well; what it does there that cannot be decided does.

    Args:
        device: address.
        verdicts: one row per window of all devices, sorted by device and start.
        view: the capture; it says whether what was suspected shows in what was measured.
    """
    health, *others = (_judge(one, verdicts, view) for one in view.addresses_of(device))
    if health.standing == "normal":
        odd = (one for one in others if one.stretches and not one.brief and one.reason)
        return next((replace(one, device=device, at=one.device) for one in odd), health)
    return health


def _judge(device: str, verdicts: pd.DataFrame, view: TrafficView) -> Health:
    """Judge one address."""
    mine = verdicts["device"].to_numpy() == device
    blind = find_blindness(view.quality, device, view.seen_s)
    if not blind and _lacks_questions(view, device):
        blind = "one_way"  # of UDP, where no handshake tells it
    if not mine.any():
        failing = blind or name_failing(view, device)
        return Health(device, "inconclusive", failing or "unseen", (), 0, 0.0)
    seen_s = _covered_s(verdicts["start_s"].to_numpy(float)[mine])
    stretches = tuple(
        one
        for one in find_stretches(device, verdicts)
        if not _is_ruled_out(device, one, verdicts, view)
    )
    seen = Health(device, "normal", "", stretches, int(mine.sum()), seen_s)
    # What the newest seconds show says more than that some windows are undecided.
    signed = "sign" if device in view.signs else ""
    reason = blind or signed or _reason(seen, int(np.flatnonzero(mine)[-1]), verdicts, view)
    if not reason and (complaint := _find_complaint(view, device)):
        reason = complaint.kind
    return replace(seen, standing="inconclusive", reason=reason) if reason else seen


def _lacks_questions(view: TrafficView, device: str) -> bool:
    """Whether most of what a device was answered, or answers, was not seen to be asked."""
    rows = view.exchanges
    rows = rows[(rows["client"] == device) | (rows["server"] == device)]
    alone = int((rows["outcome"] == "unasked").sum())
    return alone >= _FEWEST and 2 * alone >= len(rows)


def find_stretches(device: str, verdicts: pd.DataFrame) -> tuple[Stretch, ...]:
    """The stretches of a device, in order; none where all of its windows are normal."""
    odd = (verdicts["label"] != NORMAL) | verdicts["abstained"].astype(bool)
    rows = np.flatnonzero((verdicts["device"] == device) & odd)
    starts_s, ends_s = (verdicts[name].to_numpy(float)[rows] for name in ("start_s", "end_s"))
    pieces = np.split(rows, np.flatnonzero(starts_s[1:] > ends_s[:-1]) + 1) if len(rows) else []
    return tuple(_make_stretch(piece, verdicts) for piece in pieces)


def _is_ruled_out(device: str, stretch: Stretch, verdicts: pd.DataFrame, view: TrafficView) -> bool:
    """Whether the tables forbid whatever the model suspected in a stretch, and what is left of its
    probability is normal: a writer that wrote from the first minute on is no new one."""
    suspected = suspect_stretch(device, stretch, verdicts, view)
    if not suspected or not all(is_vetoed(one, view) for one in suspected):
        return False
    part = verdicts.iloc[stretch.rows]
    left = 1.0 - part[[f"p_{label}" for label in stretch.labels]].sum(axis=1)
    return bool((part[f"p_{NORMAL}"] >= _MOSTLY_LEFT * left).all())


def suspect_stretch(
    device: str, stretch: Stretch, verdicts: pd.DataFrame, view: TrafficView
) -> list[Alert]:
    """What the model suspected in a stretch, with its traffic, the most frequent label first."""
    starts_s = verdicts["start_s"].to_numpy(float)
    found = []
    for label in stretch.labels:
        part = verdicts.iloc[stretch.rows]
        part = part[part["label"] == label]
        role = str(part["direction"].mode().iloc[0]) or "source"
        rows = stretch.rows[(verdicts["label"].to_numpy()[stretch.rows] == label)]
        run = VerdictRun(device, label, role, rows)
        found.append(make_alert(run, view, starts_s, verdicts[f"p_{label}"].to_numpy(float)))
    return found


def _reason(seen: Health, last: int, verdicts: pd.DataFrame, view: TrafficView) -> str:
    """Why a device is not called well, "" where it is; ``last`` is the row of its last window."""
    if seen.device not in view.speakers:
        return "unheard"
    if failing := name_failing(view, seen.device):
        return failing
    if seen.brief:
        return "brief" if seen.stretches else "short"
    if not seen.stretches:
        return "unread" if find_unread(view, seen.device) else ""
    if last - seen.stretches[-1].rows[-1] < _OVER:
        return "open"
    if seen.slight:
        return "unread" if find_unread(view, seen.device) else ""
    if len(seen.stretches) > 1:
        return "several"
    if _SHORT * seen.stretches[0].span_s > seen.seen_s:
        return "long"
    suspected = suspect_stretch(seen.device, seen.stretches[0], verdicts, view)
    if any(map(is_shown, suspected)):
        return "shown"
    return "unread" if find_unread(view, seen.device) else ""


def _find_complaint(view: TrafficView, device: str) -> Complaint | None:
    """What speaks against a device whose traffic looks well."""
    if device in view.signs:
        return Complaint("sign", {"sign": view.signs[device]})
    return (
        find_complaint(view, device)
        or find_nameless_calls(view, device)
        or find_unanswered_calls(view, device)
    )


def _make_stretch(rows: np.ndarray, verdicts: pd.DataFrame) -> Stretch:
    part = verdicts.iloc[rows]
    # An abstention on normal itself suspects nothing.
    counts = part.loc[part["label"] != NORMAL, "label"].value_counts()
    order = sorted(counts.index, key=lambda label: (-counts[label], LABELS.index(label)))
    start_s, end_s = float(part["start_s"].iloc[0]), float(part["end_s"].iloc[-1])
    return Stretch(rows, start_s, end_s, tuple(order), tuple(int(counts[label]) for label in order))


def _covered_s(starts_s: np.ndarray) -> float:
    """Time that windows cover, each sample once."""
    first = np.rint(starts_s / SAMPLE_S).astype(np.int64)
    return float(len(np.unique(first[:, None] + np.arange(WINDOW_SAMPLES)))) * SAMPLE_S


def _active_s(view: TrafficView, device: str) -> float:
    """How long a device was seen: from its first packet to its last, without samples of silence."""
    flows = view.flows_of(device)
    if flows.empty:
        return 0.0
    span_s = float(flows["until_s"].max() - flows["since_s"].min())
    return min(max(span_s, 1.0), flows["slot"].nunique() * SAMPLE_S)


def find_unread(view: TrafficView, device: str) -> dict[str, Value]:
    """Traffic inside the plant that nothing here reads, where it is much of all that a device has
    there: its share, the busiest service and peer of it; empty where it is not much.

    A port without a name and without content that was recognised may be anything, a program of the
    plant or an intruder's: windows of it look like those of any other traffic.
    """
    flows = view.flows_of(device)
    flows = flows[flows["other"].isin(view.local) & flows["answered"]]
    if flows.empty:
        return {}
    size = flows["sent_bytes"] + flows["got_bytes"]
    read = set(view.exchanges["flow"].unique())
    unnamed = ~flows["port"].map(is_known_port) & flows["proto"].isin(["tcp", "udp"])
    unread = unnamed & flows["service"].isna() & ~flows["flow"].isin(read)
    share = float(size[unread].sum() / max(size.sum(), 1))
    if share < _MUCH_UNREAD:
        return {}
    ends = ["proto", "port", "other"]
    proto, port, other = size[unread].groupby([flows[one] for one in ends]).sum().idxmax()
    service = name_service(str(proto), int(port))
    known = read_shell_ports().get(int(port)) if proto == "tcp" else None
    return {
        "unread_share": share,
        "service": service,
        "peer": view.name_of(str(other)),
        "known": f" and whose port is known for {known.known_for}" if known else "",
    }


# ---- The health of a device in words ----
# What stayed undecided, when, for how long, what was measured in it, what to do. The sentences are
# those of playbook/normal.yaml.


@dataclass(frozen=True)
class Condition:
    """How a device without an incident is doing, in words.

    Attributes:
        headline: one sentence.
        facts: what stayed undecided, and what was measured in it; empty where nothing did.
        checks: what to do next, in order.
    """

    headline: Fact
    facts: tuple[Fact, ...] = ()
    checks: tuple[str, ...] = ()


def name_health(health: Health) -> str:
    """The shortest form, for a list: "healthy", "undecided up to the end"."""
    return read_health_playbook().in_short[health.reason or "well"]


def describe_health(health: Health, verdicts: pd.DataFrame, view: TrafficView) -> Condition:
    """Word the health of a device."""
    playbook = read_health_playbook()
    values: dict[str, Value] = {
        "name": view.name_of(health.device),
        "seen_s": _active_s(view, health.address) if health.brief else health.seen_s,
        "stretches": len(health.stretches),
        "undecided_s": sum(one.span_s for one in health.stretches),
    }
    complaint = _find_complaint(view, health.address)
    if complaint and complaint.kind == health.reason:
        headline = make_fact(
            "condition", playbook.unclear[health.reason], values | complaint.values
        )
        return Condition(headline, (), _checks(health, [], view))
    if not health.stretches:
        known = {name: values[name] for name in ("name", "seen_s")}
        if health.reason == "unread":
            known |= find_unread(view, health.address)
        sentence = playbook.unclear.get(health.reason, playbook.healthy)
        checks = (playbook.until[health.reason],) if health.reason in playbook.until else ()
        failing = health.reason in ("failures", "ails")
        facts = request_facts(view, health.address) if failing else []
        if facts:  # the codes, or the counts where nothing was refused with one
            told = facts if health.reason == "ails" else facts[:2]
            wanted = "ails" if health.reason == "ails" else "codes"
            telling = next((one for one in told if kind_of(one) == wanted), facts[0])
            known |= telling.values | {"what": telling.text}
        facts = shell_facts(view, health.address) if health.reason == "unread" else facts
        return Condition(make_fact("condition", sentence, known), tuple(facts), checks)
    if not health.reason and health.slight:
        headline = make_fact("condition", playbook.healthy, {"name": values["name"]})
        return Condition(headline, (make_fact("slight", playbook.undecided_in_all, values),))
    # What is still open is what matters; elsewhere the longest stretch is.
    longest = max(health.stretches, key=lambda one: one.span_s)
    shown = health.stretches[-1] if health.reason == "open" else longest
    suspected = suspect_stretch(health.address, shown, verdicts, view)
    fitting = [_words(one.label) for one in suspected if is_shown(one)]
    values |= {"span_s": shown.span_s, "start_time_s": shown.start_s, "fits": listed(fitting)}
    return Condition(
        make_fact("condition", playbook.unclear.get(health.reason, playbook.healthy_but), values),
        _stretch_facts(str(values["name"]), shown, suspected, view) if suspected else (),
        _checks(health, suspected, view),
    )


def _stretch_facts(
    name: str, shown: Stretch, suspected: list[Alert], view: TrafficView
) -> tuple[Fact, ...]:
    """What a stretch looked like, and the numbers of the likeliest label that has any."""
    playbook = read_health_playbook()
    several = len(shown.labels) > 1
    names = [
        _words(label) + (f" ({n} {plural(n, 'window')})" if several else "")
        for label, n in zip(shown.labels, shown.counts, strict=True)
    ]
    values: dict[str, Value] = {
        "name": name,
        "n": len(shown.rows),
        "names": listed(names),
        "start_time_s": shown.start_s,
        "end_time_s": shown.end_s,
        **{f"count{number}": n for number, n in enumerate(shown.counts)},
    }
    measured = next(
        filter(None, (one.profile.make_facts(one.attribution, view, ()) for one in suspected)), []
    )
    facts = [make_fact("undecided", playbook.undecided, values), *measured[:_MOST_MEASURED]]
    if not any(map(is_shown, suspected)):
        facts.append(make_fact("unfit", playbook.unsupported, {}))
    return tuple(facts)


def _checks(health: Health, suspected: list[Alert], view: TrafficView) -> tuple[str, ...]:
    playbook = read_health_playbook()
    if health.reason in ("one_way", "cut"):  # nothing else helps before it is seen
        return (playbook.until[health.reason],)
    steps = [playbook.ask.format(name=view.name_of(health.device))]
    peers = [peer for one in suspected for peer in one.attribution.peers]
    if peers:
        own = peers[0] in view.local
        who = playbook.look_at if own else playbook.look_up
        steps.append(who.format(peer=view.name_of(peers[0])))
    if health.reason in playbook.until:
        steps.append(playbook.until[health.reason])
    return tuple(steps)


def _words(label: str) -> str:
    return read_playbook(label).short
