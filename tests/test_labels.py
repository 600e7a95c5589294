"""A label knows itself: every table by label covers the taxonomy, and each label's facts read as in
its golden file.

A change that means to alter a sentence says so by ``python tests/test_labels.py``, which writes the
golden files anew; the difference is then read like code.
"""

import ast
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from tables import CLOUD, DEVICE, PLC, capture, flow, unanswered

from assistant.detection.rules import DECISIVE, apply_rules
from assistant.diagnosis.playbook import FOLDER, read_playbook
from assistant.facts.attribution import attribute
from assistant.facts.fact import Fact
from assistant.facts.profiles import PROFILES
from assistant.facts.traffic_view import TrafficView
from eval.models.rules import RULES
from eval.testbed.events.catalogue import KINDS
from eval.testbed.verify.checks import CHECKS
from traffic.labels import ATTACKS, CIC_IOMT, FAULTS, IOT23, LABELS, MODBUS_SANDBOX, NORMAL
from traffic.plant import Device, Plant
from traffic.samples import COLUMNS, make_samples
from traffic.simulation.attacks import ATTACK_SIMULATORS
from traffic.simulation.faults import FAULT_SIMULATORS

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).parent / "golden" / "labels"
PLANT = Plant((Device("press-plc", PLC, "PLC"),))
SLOT = 100  # captures begin at 1,000 s


# ---- Tables ----


@pytest.mark.parametrize(
    ("table", "labels"),
    [
        (PROFILES, LABELS[1:]),
        ({path.stem for path in FOLDER.glob("*.yaml")}, LABELS),
        ({rule.label for rule in RULES}, LABELS[1:]),
        (ATTACK_SIMULATORS, ATTACKS),
        (FAULT_SIMULATORS, FAULTS),
        ({kind.label for kind in KINDS.values()}, LABELS),
        (CHECKS, LABELS),
    ],
    ids=["profiles", "playbook", "rules", "attacks", "faults", "events", "checks"],
)
def test_a_table_by_label_covers_the_labels(table: Iterable[str], labels: tuple[str, ...]) -> None:
    assert sorted(set(labels) - set(table)) == []  # labels that it lacks
    assert sorted(set(table) - set(labels)) == []


def test_profiles_stand_in_the_order_of_the_labels() -> None:
    assert tuple(PROFILES) == LABELS[1:]


@pytest.mark.parametrize("mapping", [IOT23, CIC_IOMT, MODBUS_SANDBOX])
def test_a_data_set_is_mapped_to_known_labels(mapping: dict[str, str]) -> None:
    assert set(mapping.values()) <= set(LABELS)


def test_only_profiles_and_playbooks_are_tables_by_label() -> None:
    """A table elsewhere in the product would have to be found by whoever adds a label."""
    found = []
    for path in sorted((ROOT / "assistant").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            keys = node.keys if isinstance(node, ast.Dict) else []
            named = {key.value for key in keys if isinstance(key, ast.Constant)}
            found += [path.name] if len(named & set(LABELS[1:])) > 2 else []
    assert found == []


@pytest.mark.parametrize("label", LABELS[1:])
def test_a_profile_names_what_exists(label: str) -> None:
    profile, playbook = PROFILES[label], read_playbook(label)
    assert profile.label == label
    assert {*profile.source_columns, *profile.target_columns} <= set(COLUMNS)
    assert {*profile.inseparable, *playbook.apart} <= set(LABELS[1:]) - {label}
    assert profile.conclusive
    assert not profile.flood or label in ATTACKS
    assert NORMAL not in PROFILES


# ---- Facts: one small capture a label ----


def _every(n: int, step_s: float, **more: object) -> list[dict[str, object]]:
    return [flow(1000.0 + i * step_s, id__orig_p=40_000 + i, **more) for i in range(n)]


def _beside(kind: str, *rows: tuple[object, ...]) -> list[tuple[object, ...]]:
    """Evidence ``(slot, src, dst, code, count, distinct)`` of one kind, slots from the start."""
    return [(SLOT + slot, src, dst, kind, *rest) for slot, src, dst, *rest in rows]


_POLLS = {"orig": DEVICE, "resp": PLC, "port": 502}
_REFUSED = {"conn_state": "REJ", "history": "Sr", "resp_pkts": 1.0}
_MISSING = [unanswered(1000.0 + 10 * i, DEVICE, PLC, 502, id__orig_p=2000 + i) for i in range(8)]
_UPLOAD = {"orig_ip_bytes": 5e6, "resp_ip_bytes": 4e4, "orig_pkts": 4000.0, "resp_pkts": 900.0}
CASES: dict[str, tuple[str, str, list[dict[str, object]], list[tuple[object, ...]]]] = {
    "recon": (DEVICE, "source",
              [flow(1000.0 + n, DEVICE, PLC, n, id__orig_p=n, **_REFUSED) for n in range(1, 21)],
              _beside("modbus_read", (1, DEVICE, PLC, 3, 60, 55))
              + _beside("modbus_exception", (1, DEVICE, PLC, 2, 50, 1))),
    "dos": (DEVICE, "source",
            [unanswered(1010.0, DEVICE, PLC, 80, orig_pkts=2000.0, orig_ip_bytes=8e4)], []),
    "ddos": (DEVICE, "source",
             [flow(1000.0 + i / 10, DEVICE, CLOUD, 80, id__orig_p=i, history="C", orig_pkts=0.0,
                   resp_pkts=0.0, conn_state="OTH") for i in range(50)], []),
    "brute_force": (DEVICE, "source", _every(9, 2, orig=DEVICE, resp=PLC, port=22),
                    _beside("mqtt_refused", (0, DEVICE, PLC, 5, 6, 0))),
    "c2": (DEVICE, "source",
           [*_every(12, 60, orig=DEVICE, resp=CLOUD, port=6667),
            unanswered(1090.0, DEVICE, CLOUD, 80)], []),
    "exfiltration": (DEVICE, "source",
                     [*_every(9, 20, **_POLLS), flow(1100.0, DEVICE, CLOUD, 443, **_UPLOAD)], []),
    "spoofing": (PLC, "target", _every(2, 5, **_POLLS),
                 _beside("arp_conflict", (0, PLC, PLC, -1, 3, 2), (2, PLC, PLC, -1, 2, 2))),
    "mqtt_abuse": (DEVICE, "source", _every(2, 5, orig=DEVICE, resp=PLC, port=1883),
                   _beside("mqtt_publish", (0, DEVICE, PLC, -1, 900, 7))
                   + _beside("mqtt_malformed", (0, DEVICE, PLC, -1, 1, 0))),
    "unauthorized_command": (DEVICE, "source", _every(2, 5, **_POLLS),
                             _beside("modbus_write", (0, DEVICE, PLC, 6, 40, 3),
                                     (1, CLOUD, PLC, 16, 2, 1))),
    "packet_loss": (DEVICE, "source", _every(9, 5, missed_bytes=1460.0, **_POLLS),
                    _beside("retransmission", (1, DEVICE, PLC, -1, 8, 0))),
    "congestion": (DEVICE, "source", _every(9, 10, **_POLLS) + _every(1, 0, orig=DEVICE, resp=CLOUD,
                                                                      port=443, **_UPLOAD),
                   _beside("zero_window", (0, CLOUD, DEVICE, -1, 4, 0))),
    "device_silent": (PLC, "source", [flow(1000.0, DEVICE, PLC, 502), *_MISSING[2:]],
                      _beside("arp_unanswered", (3, DEVICE, PLC, -1, 6, 0))),
    "service_down": (PLC, "source", [*_every(2, 1, **_POLLS), *_MISSING[1:],
                                     *(flow(1000.0 + 10 * i, PLC, CLOUD, 123) for i in range(9))],
                     _beside("unreachable", (2, PLC, DEVICE, -1, 3, 0))),
    "misconfiguration": (DEVICE, "source", _every(9, 10, orig=DEVICE, resp=PLC, port=503, **_REFUSED),
                         _beside("modbus_exception", (1, DEVICE, PLC, 2, 9, 1))),
    "name_resolution": (DEVICE, "target", _every(3, 5, orig=DEVICE, resp=PLC, port=53, proto="udp"),
                        _beside("dns_query", (0, DEVICE, PLC, -1, 8, 0))
                        + _beside("dns_failed", (0, DEVICE, PLC, 3, 5, 0), (0, DEVICE, PLC, -1, 1, 0))),
    "flapping": (DEVICE, "source", _every(7, 9, conn_state="RSTO", **_POLLS),
                 _beside("reset", (0, DEVICE, PLC, -1, 7, 0))),
}  # fmt: skip


def facts_of(label: str) -> list[Fact]:
    """Facts of rules, then those of the label."""
    device, role, rows, evidence = CASES[label]
    made = capture(*rows, evidence=evidence)
    view = TrafficView(made, make_samples(made, PLANT), PLANT)
    slots = np.arange(SLOT, SLOT + 80)
    found = attribute(view, device, PROFILES[label], role, slots)
    hits = [hit.fact for hit in apply_rules(view) if hit.label == label]
    return [*hits, *PROFILES[label].make_facts(found, view, ())]


def golden_text(label: str) -> str:
    return "".join(f"{fact.id.rpartition('-')[0]}: {fact.text}\n" for fact in facts_of(label))


@pytest.mark.parametrize("label", LABELS[1:])
def test_the_facts_of_a_label_read_as_in_its_golden_file(label: str) -> None:
    assert golden_text(label) == (GOLDEN / f"{label}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("label", LABELS[1:])
def test_the_facts_of_a_label_are_conclusive_for_it(label: str) -> None:
    kinds = {fact.id.rpartition("-")[0] for fact in facts_of(label)}
    assert kinds & (PROFILES[label].conclusive | DECISIVE)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in LABELS[1:]:
        (GOLDEN / f"{name}.txt").write_text(golden_text(name), encoding="utf-8")
