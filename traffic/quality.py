"""What the sensor could not see: a capture that is blind in part must not be read as calm.

copies      a mirror port delivered a packet twice; left out before anything is counted
one way     only one direction of a conversation was captured
cut         the snap length cut a frame; blind: before its TCP flags or any UDP content, so that nothing is judged
drops       bytes that the receiver acknowledged and the sensor never saw
holes       the clock jumped, or nothing was captured for a while
unread      frames of protocols that nothing here reads
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

COUNTS = (
    "frames",
    "copies",
    "cut_frames",
    "blind_frames",
    "two_way",
    "one_way",
    "gaps",
    "dropped_bytes",
)
_TYPES = {
    "name": "str", "frames": "int64", "packets": "int64", "ts": "float64", "src": "str", "dst": "str",
    "bytes": "int64", "file": "int64", "frame": "int64", "start_s": "float64", "end_s": "float64", "kind": "str",
    "rows": "int64", "early_s": "float64", "source": "str", "count": "int64",
}  # fmt: skip
_MOST_NAMED = 4


def _table(*names: str) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=_TYPES[name]) for name in names})


def _no_devices() -> pd.DataFrame:
    return with_share(pd.DataFrame({name: pd.Series(dtype="int64") for name in COUNTS}))


def _nothing() -> pd.Series:
    return pd.Series({**dict.fromkeys(COUNTS, 0.0), "one_way_share": np.nan})


def with_share(counts: pd.DataFrame) -> pd.DataFrame:
    """``COUNTS`` with ``one_way_share`` of the conversations that could show two ways, NaN where
    there are none."""
    one_way = counts["one_way"].astype(float)
    talks = one_way + counts["two_way"]
    return counts.assign(one_way_share=one_way / talks.where(talks > 0))


@dataclass(frozen=True)
class Remark:
    """One thing that a capture does not show.

    Attributes:
        text: a sentence without its full stop.
        share: how much of the frames it is; NaN where that is not its measure.
        mended: whether what was seen is right all the same, as without copies that were left out.
    """

    text: str
    share: float = np.nan
    mended: bool = False


@dataclass(frozen=True)
class Quality:
    """What a capture does not show. Everything is empty where nothing is known to be missing.

    Attributes:
        devices: indexed by address: ``frames`` (IP and ARP, from it and to it, copies too),
            ``copies``; ``cut_frames`` and those of them that are ``blind_frames`` (cut before the
            TCP flags or the first byte of UDP); TCP conversations that could show both directions, by whether they do
            (``two_way``) or not (``one_way``); ``gaps`` and ``dropped_bytes`` of acknowledged data;
            ``one_way_share``. An address without conversations and with nothing to tell
            has no row.
        whole: the same of the whole capture, each frame and conversation once; ``frames`` of any
            kind.
        unread: frames that nothing reads: ``name frames``, most first.
        envelopes: tunnels that were opened: ``name packets``.
        drops: a row per gap of acknowledged data: ``ts src dst bytes file frame`` (``src`` sent it;
            the frame that came after the gap; 0 where none came).
        holes: ``start_s end_s kind file frame``: "clock back", "clock forward", "not captured" or "silence"; the
            frame after it.
        logs: of a Zeek folder: ``name start_s end_s rows early_s`` (how long before the others it
            stops, 0 for none).
        reports: what the sensor says of itself: ``source name count`` (``weird.log``, a name in it).
        lost_share: of what was acknowledged Zeek itself missed this much in all, by its capture_loss.log;
            NaN without one.
        most_lost_share: the same in the interval in which it missed most.
    """

    devices: pd.DataFrame = field(default_factory=_no_devices)
    whole: pd.Series = field(default_factory=_nothing)
    unread: pd.DataFrame = field(default_factory=lambda: _table("name", "frames"))
    envelopes: pd.DataFrame = field(default_factory=lambda: _table("name", "packets"))
    drops: pd.DataFrame = field(
        default_factory=lambda: _table("ts", "src", "dst", "bytes", "file", "frame")
    )
    holes: pd.DataFrame = field(
        default_factory=lambda: _table("start_s", "end_s", "kind", "file", "frame")
    )
    logs: pd.DataFrame = field(
        default_factory=lambda: _table("name", "start_s", "end_s", "rows", "early_s")
    )
    reports: pd.DataFrame = field(default_factory=lambda: _table("source", "name", "count"))
    lost_share: float = np.nan
    most_lost_share: float = np.nan

    def of(self, address: str) -> pd.Series:
        """A device's row of ``devices``; zeros where it has none."""
        return self.devices.loc[address] if address in self.devices.index else _nothing()

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What a user has to know before he believes the rest, one sentence each."""
        whole, frames = self.whole, max(float(self.whole["frames"]), 1.0)
        cut = np.nan if whole["blind_frames"] else whole["cut_frames"] / frames
        found = (
            Remark(_say_copies(whole), whole["copies"] / frames, mended=True),
            Remark(_say_one_way(self)),
            Remark(_say_cut(whole), cut),
            Remark(_say_unread(self)),
            Remark(_say_envelopes(self.envelopes)),
            Remark(_say_drops(self), whole["gaps"] / frames),
            Remark(_say_lost(self.most_lost_share), self.lost_share),
            *map(Remark, _say_holes(self.holes)),
            *map(Remark, _say_logs(self.logs)),
        )
        return tuple(one for one in found if one.text)

    @property
    def notes(self) -> tuple[str, ...]:
        """The sentences of the remarks."""
        return tuple(one.text for one in self.remarks)


def _count(number: float) -> str:
    return f"{int(number):,}"


def _name_some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _say_copies(whole: pd.Series) -> str:
    if not whole["copies"]:
        return ""
    one = whole["copies"] == 1
    are, them = ("is a copy of another", "it") if one else ("are copies of others", "them")
    left = (
        "it was left out and is no retransmission"
        if one
        else "they were left out and are no retransmissions"
    )
    return (
        f"{_count(whole['copies'])} of {_count(whole['frames'])} frames {are}: a mirror port "
        f"delivered {them} once more; {left}"
    )


def _say_one_way(quality: Quality) -> str:
    whole, devices = quality.whole, quality.devices
    if whole["one_way_share"] >= 0.5:
        talks = whole["one_way"] + whole["two_way"]
        return (
            f"only one direction of {_count(whole['one_way'])} of {_count(talks)} TCP conversations was "
            "captured: whether they work cannot be judged"
        )
    blind = devices.index[(devices["one_way_share"] >= 0.5) & (devices["one_way"] > 1)]
    if not len(blind):
        return ""
    return f"only one direction was captured of what {_name_some(list(blind))} sent or received over TCP"


def _say_cut(whole: pd.Series) -> str:
    if whole["blind_frames"]:
        return (
            f"{_count(whole['blind_frames'])} frames are cut by the snap length before their TCP flags or "
            "their first byte of UDP: handshakes, requests, refusals and ends of connections cannot be judged"
        )
    if whole["cut_frames"]:
        are, their = ("is", "its") if whole["cut_frames"] == 1 else ("are", "their")
        return (
            f"{_count(whole['cut_frames'])} of {_count(whole['frames'])} frames {are} cut by the snap length; "
            f"{their} content was read as far as it is there"
        )
    return ""


def _say_unread(quality: Quality) -> str:
    frames = quality.unread["frames"].sum()
    if not frames:
        return ""
    names = [f"{_count(n)} {name}" for name, n in quality.unread.itertuples(index=False)]
    are = "is of a kind" if frames == 1 else "are of kinds"
    return (
        f"{_count(frames)} of {_count(quality.whole['frames'])} frames {are} that nothing here reads "
        f"({_name_some(names)})"
    )


def _say_envelopes(envelopes: pd.DataFrame) -> str:
    names = [f"{_count(n)} in {name}" for name, n in envelopes.itertuples(index=False)]
    return f"packets were read from inside tunnels: {_name_some(names)}" if names else ""


def _say_drops(quality: Quality) -> str:
    whole = quality.whole
    if not whole["dropped_bytes"]:
        return ""
    gaps = "gap" if whole["gaps"] == 1 else "gaps"
    return (
        f"{_count(whole['dropped_bytes'])} bytes in {_count(whole['gaps'])} {gaps} were acknowledged by their "
        "receivers and are not in the capture: the sensor dropped frames"
    )


def _say_lost(share: float) -> str:
    return (
        f"capture_loss.log: Zeek itself missed up to {100 * share:.1f} % of the traffic"
        if share > 0
        else ""
    )


_HOLES = {
    "clock back": "the clock of the capture was set back by {length:.6g} s: "
    "where connections went on, earlier times were moved by as much",
    "clock forward": "no frame for {length:.6g} s, yet connections went on without losing a byte: the clock of "
    "the capture jumped, or everything stood still",
    "not captured": "no frame for {length:.6g} s while connections went on: nothing was captured then",
    "silence": "no frame for {length:.6g} s amid steady traffic: nothing was captured, everything was silent, or "
    "the clock of the capture was set forward",
}  # fmt: skip


def _say_holes(holes: pd.DataFrame) -> list[str]:
    out = []
    for kind, sentence in _HOLES.items():
        found = holes[holes["kind"] == kind]
        if len(found):
            longest = float((found["end_s"] - found["start_s"]).abs().max())
            times = f" ({len(found)} times; the longest)" if len(found) > 1 else ""
            out.append(sentence.format(length=longest) + times)
    return out


def _say_logs(logs: pd.DataFrame) -> list[str]:
    return [
        f"{row.name} stops {row.early_s:.6g} s before the other logs: what came after was not seen"
        for row in logs[logs["early_s"] > 0].itertuples(index=False)
    ]


# ---- From flows alone, as a log has them ----


def assess_flows(flows: pd.DataFrame) -> Quality:
    """What connections tell of their sensor: gaps (``missed_bytes``), and TCP conversations of
    which only one direction was seen.

    Args:
        flows: Zeek's names.

    Returns:
        Frames are packets where the log counts them. A conversation could show both directions
        where its history has acknowledgements or data of a side; a refusal or an attempt could not.
    """
    # Flows share few histories: each is looked at once.
    code, distinct = pd.factorize(flows["history"].fillna("").astype("str"))
    histories = pd.Series(distinct, dtype="str")
    tcp = (flows["proto"] == "tcp").to_numpy()
    sides = [histories.str.contains(letters).to_numpy(bool)[code] for letters in ("[ADF]", "[adf]")]
    heard = [histories.str.contains(letters).to_numpy(bool)[code] for letters in ("[A-Z]", "[a-z]")]
    counts = [flows[name].to_numpy(float) for name in ("orig_pkts", "resp_pkts")]
    several = [np.nan_to_num(count, nan=0.0) >= 3 for count in counts]
    two_way = tcp & (sides[0] | sides[1]) & heard[0] & heard[1]
    one_way = tcp & ((sides[0] & several[0] & ~heard[1]) | (sides[1] & several[1] & ~heard[0]))
    missed = np.nan_to_num(flows["missed_bytes"].to_numpy(float), nan=0.0)
    columns = {
        "frames": np.nan_to_num(counts[0], nan=0.0) + np.nan_to_num(counts[1], nan=0.0),
        "two_way": two_way,
        "one_way": one_way,
        "gaps": missed > 0,
        "dropped_bytes": missed,
    }
    # Most flows of a scan tell nothing of the sensor, and what does is summed over few devices.
    tells = np.flatnonzero(two_way | one_way | (missed > 0))
    ends = [flows[name].take(tells).astype("str") for name in ("id.orig_h", "id.resp_h")]
    device, addresses = pd.factorize(pd.concat(ends, ignore_index=True), sort=True)
    summed = pd.DataFrame(0, pd.Index(addresses, dtype="str"), list(COUNTS))
    for name, column in columns.items():
        both = np.tile(column[tells].astype(float), 2)
        summed[name] = np.bincount(device, both, len(addresses)).astype("int64")
    sums = {name: [int(columns[name].sum()) if name in columns else 0] for name in COUNTS}
    whole = with_share(pd.DataFrame(sums)).iloc[0].astype(float)
    return Quality(devices=with_share(summed), whole=whole)
