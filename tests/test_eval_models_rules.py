"""Rules by hand: each sign's arithmetic, each label's example, and the one-line rule."""

import numpy as np
import pytest

from eval.models.features import FEATURES
from eval.models.registry import make_model
from eval.models.rules import RULES, Sign
from traffic.labels import LABELS, NORMAL

LAST, ALL = 5, slice(None)


def window(**counts: object) -> np.ndarray:
    """One window; a number stands in every sample, a dict gives it by sample."""
    x = np.zeros((1, 6, len(FEATURES)), np.float32)
    for name, value in counts.items():
        for sample, number in value.items() if isinstance(value, dict) else [(ALL, value)]:
            x[0, sample, FEATURES.index(name)] = number
    return x


def said(name: str, x: np.ndarray) -> list[str]:
    return make_model(name).fit(x, np.array([NORMAL] * len(x), dtype=object)).predict(x).tolist()


@pytest.mark.parametrize(
    ("sign", "holds"),
    [
        (Sign(("resets",), "sum", least=7), True),  # 1 + 2 + 4
        (Sign(("resets",), "sum", least=7.1), False),
        (Sign(("resets",), "highest", least=4), True),
        (Sign(("resets",), "highest", most=3.9), False),
        (Sign(("resets",), "last", most=0), True),
        (Sign(("resets", "tcp_out"), "sum", least=17), True),  # 7 + 10
        (Sign(("resets",), "sum", least=0.7, per=("tcp_out",)), True),  # 7 / 10
        (Sign(("resets",), "sum", least=0.71, per=("tcp_out",)), False),
        (Sign(("tcp_out",), "sum", least=10, per=("tcp_in",)), True),  # nothing counts as one
    ],
)
def test_signs_by_hand(sign, holds):
    x = window(resets={0: 1, 1: 2, 2: 4}, tcp_out={0: 10})
    assert sign.holds(x).tolist() == [holds]


@pytest.mark.parametrize(
    ("label", "x"),
    [
        (NORMAL, window(out_pkts=50, in_pkts=50, tcp_out=3, peers=3)),
        ("spoofing", window(arp_conflicts={0: 1, 4: 1})),
        (NORMAL, window(arp_conflicts={0: 1})),
        ("mqtt_abuse", window(mqtt_malformed={3: 1})),
        ("ddos", window(hosts_in=80, in_pkts=6000)),
        ("dos", window(in_pkts=20_000, in_bytes=20_000 * 60)),
        (NORMAL, window(in_pkts=20_000, in_bytes=20_000 * 1400)),  # a transfer
        ("recon", window(hosts_out=20, unanswered_out=18)),
        ("recon", window(ports_in=30)),
        ("brute_force", window(pkts_login=40, tcp_in=2)),
        ("unauthorized_command", window(modbus_writes_in={2: 1}, new_peers={2: 1})),
        (NORMAL, window(modbus_writes_in={2: 1})),
        (
            "exfiltration",
            window(out_bytes=500_000, external_peers=1, top_peer_age_min=2, bytes_ratio=4),
        ),
        ("name_resolution", window(dns_queries=2, dns_failed=1)),
        (NORMAL, window(dns_queries=20, dns_failed=1)),
        ("c2", window(literal_repeats=12, literal_streak=9, literal_jitter=0.4)),
        ("device_silent", window(quiet_slots={LAST: 8}, active_share={LAST: 1.0})),
        (NORMAL, window(quiet_slots={LAST: 8}, active_share={LAST: 0.2})),
        ("service_down", window(refused_out=1, answered_before=1)),
        ("misconfiguration", window(unanswered_out=1, never_answered=1, streak=12)),
        ("congestion", window(retransmissions=5, bytes_ratio=3)),
        ("packet_loss", window(retransmissions=1, out_pkts=10)),
        (NORMAL, window(retransmissions=1, out_pkts=500)),
        ("flapping", window(resets=3, tcp_out=3, repeats=20)),
    ],
)
def test_what_the_rules_say(label, x):
    assert said("rules", x) == [label]


def test_rules_know_every_label_whatever_they_are_fitted_with():
    model = make_model("rules").fit(window(), np.array(["dos"], dtype=object))
    assert model.classes_.tolist() == list(LABELS)
    assert not model.learns


def test_every_anomaly_has_a_rule_and_every_rule_a_reason():
    assert {rule.label for rule in RULES} == set(LABELS) - {NORMAL}
    assert all(len(rule.reason) > 30 for rule in RULES)


def test_one_unanswered_attempt_is_an_attack_to_one_line():
    others = window(unanswered_in=9, refused_out=9, udp_unanswered_out=9)
    x = np.concatenate([window(unanswered_out={3: 1}), others])
    assert said("one-line-rule", x) == ["anomalous", NORMAL]
