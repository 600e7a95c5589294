"""Rules: thresholds that an engineer of a plant would write from experience, and the one-line rule.

The first rule that holds gives its label the probability 1, the most specific ones come first, and
where none holds the window is normal. Each bound is a round number with its reason beside it. They
were written first and looked at on simulated plants of training seeds after: four that called a
fiftieth of normal windows anomalous, or a transfer a flood, were tightened; none was fitted.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from eval.models.classifier import TrainingInput, WindowClassifier
from eval.models.features import FEATURES
from traffic.labels import LABELS, NORMAL


@dataclass(frozen=True)
class Sign:
    """A number of a window and its bounds, both included.

    Attributes:
        columns: features, added up.
        over: the window's six samples are added up, or the highest or the last one counts.
        least: lower bound.
        most: upper bound.
        per: features that the number is divided by, added up alike (at least 1).
    """

    columns: tuple[str, ...]
    over: Literal["sum", "highest", "last"]
    least: float = -np.inf
    most: float = np.inf
    per: tuple[str, ...] = ()

    def holds(self, features: np.ndarray) -> np.ndarray:
        """For which windows the number lies within its bounds, shape (n_windows,), bool."""
        value = self._number(features, self.columns)
        if self.per:
            value = value / np.maximum(self._number(features, self.per), 1)
        return (value >= self.least) & (value <= self.most)

    def _number(self, features: np.ndarray, columns: tuple[str, ...]) -> np.ndarray:
        places = [FEATURES.index(name) for name in columns]
        by_sample = features[:, :, places].sum(axis=2)  # (windows, 6)
        if self.over == "last":
            return np.asarray(by_sample[:, -1])
        return np.asarray(by_sample.sum(axis=1) if self.over == "sum" else by_sample.max(axis=1))


@dataclass(frozen=True)
class Rule:
    """All signs together mean the label."""

    label: str
    signs: tuple[Sign, ...]
    reason: str


_PKTS = ("out_pkts", "in_pkts")
_VAIN_OUT = ("unanswered_out", "refused_out", "udp_unanswered_out")

RULES: tuple[Rule, ...] = (
    Rule("spoofing", (Sign(("arp_conflicts",), "sum", least=2),),
         "one claim of another's address can be a failover; a second one is two machines that "
         "both hold it"),
    Rule("mqtt_abuse", (Sign(("mqtt_malformed",), "sum", least=1),),
         "no client library writes malformed MQTT"),
    Rule("mqtt_abuse", (Sign(("mqtt_connects",), "sum", least=60),),
         "a client connects once and stays; one login a second is a flood of them"),
    Rule("mqtt_abuse", (Sign(("mqtt_publishes",), "highest", least=1000),),
         "sensors publish a few times a second at most; a hundred messages a second are meant to "
         "harm"),
    Rule("ddos", (Sign(("hosts_in",), "highest", least=50),
                  Sign(("in_pkts",), "highest", least=5000)),
         "nothing in a plant is called by fifty hosts at 500 packets a second"),
    Rule("ddos", (Sign(("out_pkts",), "highest", least=5000),
                  Sign(("external_peers",), "highest", least=1),
                  Sign(("in_pkts",), "sum", most=0.05, per=("out_pkts",))),
         "500 packets a second to the outside that nobody answers: the device takes part in a "
         "flood"),
    Rule("dos", (Sign(_PKTS, "highest", least=10_000),
                 Sign(("out_bytes", "in_bytes"), "sum", most=200, per=_PKTS)),
         "a thousand packets a second are a flood where they are small; a transfer fills its "
         "packets"),
    Rule("dos", (Sign(("tcp_out", "tcp_in", "icmp_out", "icmp_in"), "highest", least=500),),
         "fifty new connections a second exhaust an embedded stack"),
    Rule("recon", (Sign(("hosts_out",), "highest", least=15),
                   Sign((*_VAIN_OUT, "arp_unanswered_out"), "sum", least=8)),
         "a device of a plant knows its few partners; many hosts in ten seconds, most of them not "
         "there, are a search"),
    Rule("recon", (Sign(("arp_requests",), "highest", least=30),
                   Sign(("arp_unanswered_out",), "sum", least=15)),
         "asking for thirty addresses in ten seconds walks through a subnet"),
    Rule("recon", (Sign(("ports_out", "ports_in"), "highest", least=15),),
         "a service has one port; fifteen ports of one host in ten seconds are a scan of it"),
    Rule("recon", (Sign(("modbus_exceptions",), "sum", least=10),
                   Sign(("modbus_codes",), "highest", least=4)),
         "a master knows its slave's registers; many codes that are refused are somebody looking "
         "for them"),
    Rule("brute_force", (Sign(("pkts_login",), "sum", least=1),
                         Sign(("tcp_out", "tcp_in"), "sum", least=10)),
         "a person logs in once; ten connections within a minute where a login is asked for are "
         "guesses"),
    Rule("brute_force", (Sign(("mqtt_refused",), "sum", least=10),),
         "a wrong password is tried again now and then; ten refused logins a minute are guesses"),
    Rule("unauthorized_command", (Sign(("modbus_writes_out", "modbus_writes_in"), "sum", least=1),
                                  Sign(("new_peers",), "sum", least=1)),
         "who may write to a controller is known from the first day; a write with a partner never "
         "met is not planned"),
    Rule("unauthorized_command",
         (Sign(("modbus_writes_out", "modbus_writes_in"), "highest", least=50),),
         "setpoints change a few times a minute; five writes a second are no operator's"),
    Rule("exfiltration", (Sign(("out_bytes",), "sum", least=1_000_000),
                          Sign(("external_peers",), "highest", least=1),
                          Sign(("top_peer_age_min",), "last", most=15),
                          Sign(("bytes_ratio",), "highest", least=3)),
         "a megabyte a minute, eight times what the device sends else, to an outside partner met "
         "minutes ago"),
    Rule("name_resolution", (Sign(("dns_failed",), "sum", least=3),
                             Sign(("dns_failed",), "sum", least=0.5, per=("dns_queries",))),
         "a single failure is a typing error; three, and half of all questions, are the name "
         "server"),
    Rule("c2", (Sign(("literal_repeats",), "highest", least=6),
                Sign(("literal_streak",), "highest", least=6)),
         "outside partners are called by name; one dialled by number, again and again in vain, is "
         "a dead controller"),
    Rule("c2", (Sign(("literal_repeats",), "highest", least=10),
                Sign(("literal_jitter",), "highest", most=0.1)),
         "one dialled by number with the regularity of a clock is a beacon"),
    Rule("device_silent", (Sign(("quiet_slots",), "last", least=6),
                           Sign(("active_share",), "last", least=0.9)),
         "a device that spoke in nine of ten slots and has said nothing for a minute is gone"),
    Rule("device_silent", (Sign(("arp_unanswered_in", "arp_unanswered_out"), "sum", least=3),
                           Sign(("answered_before",), "highest", least=1)),
         "an address that answered before and no longer answers ARP: the machine is off, not its "
         "service"),
    Rule("service_down",
         (Sign(("refused_out", "refused_in", "unanswered_out", "unanswered_in"), "sum", least=3),
          Sign(("answered_before",), "highest", least=1)),
         "a retry is ordinary; three attempts in vain at what answered before are a service that "
         "is down"),
    Rule("misconfiguration", (Sign((*_VAIN_OUT, "arp_unanswered_out"), "sum", least=3),
                              Sign(("never_answered",), "highest", least=1),
                              Sign(("streak",), "highest", least=10)),
         "what has not answered once in ten attempts was never there: a wrong address or port"),
    Rule("congestion", (Sign(("retransmissions",), "sum", least=10),
                        Sign(("bytes_ratio",), "highest", least=2)),
         "segments are lost while four times the usual volume passes: the link is full"),
    Rule("flapping", (Sign(("resets",), "sum", least=10),
                      Sign(("tcp_out", "tcp_in"), "sum", least=10),
                      Sign(("repeats",), "highest", least=10)),
         "some clients end every session by a reset; ten sessions of one endpoint reset in a "
         "minute come and go"),
    Rule("packet_loss", (Sign(("retransmissions",), "sum", least=5),
                         Sign(("retransmissions",), "sum", least=0.01, per=_PKTS)),
         "one segment in a hundred sent again is what TCP still bears and a control loop does not"),
)  # fmt: skip


class Rules(WindowClassifier):
    """The first of RULES that holds; learns nothing and knows every label."""

    learns = False

    @property
    def size_bytes(self) -> int:
        """One byte a label and two bounds a sign."""
        return sum(1 + 16 * len(rule.signs) for rule in RULES)

    def _fit(self, training: TrainingInput) -> None:
        pass

    def _predict_proba(self, x: np.ndarray, _: np.ndarray) -> np.ndarray:
        holds = [np.all([sign.holds(x) for sign in rule.signs], axis=0) for rule in RULES]
        codes = [LABELS.index(rule.label) for rule in RULES]
        first = np.select(holds, codes, LABELS.index(NORMAL))
        return np.eye(len(LABELS), dtype=np.float32)[first]


class OneLineRule(WindowClassifier):
    """Any unanswered outgoing TCP attempt is an attack.

    On corrected malware captures it is hard to beat, and it flags every healthy device that calls a
    dead service.
    """

    binary: ClassVar[bool] = True
    learns = False

    @property
    def size_bytes(self) -> int:
        """Nothing is stored."""
        return 0

    def _fit(self, training: TrainingInput) -> None:
        pass

    def _predict_proba(self, x: np.ndarray, _: np.ndarray) -> np.ndarray:
        anomalous = x[:, :, FEATURES.index("unanswered_out")].max(axis=1) > 0
        return np.eye(2, dtype=np.float32)[anomalous.astype(int)]
