"""Which alerts are one story: what rules proved is joined by nothing less."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from assistant.detection.alert import Alert
from assistant.detection.correlation import add_rule_alerts, group_by_cause, name_flood
from assistant.facts.attribution import Attribution
from assistant.facts.fact import Fact

A, B, C, SCANNER, BROKER = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9", "10.0.0.5"
COLUMNS = "flow src dst other port proto attempt slot answered refused out src_pkts dst_pkts syns missed_bytes"
FLOWS = pd.DataFrame(columns=COLUMNS.split())
EVIDENCE = pd.DataFrame(columns=["src", "dst", "kind", "count", "slot"])


def alert(
    device: str,
    label: str,
    role: str,
    *peers: str,
    rule: str = "",
    rules_out: tuple[str, ...] = (),
    evidence: pd.DataFrame = EVIDENCE,
) -> Alert:
    found = Attribution(device, label, FLOWS, evidence, peers, 100.0, 160.0)
    facts = (Fact(rule, rule, {}),) if rule else ()
    rows, mass = np.zeros(0, np.int64), np.inf if rule else 5.0
    named = peers if rule else ()
    return Alert(device, label, role, rows, mass, found, facts, frozenset(rules_out), named)


def stories(*alerts: Alert) -> list[set[tuple[str, str]]]:
    return [{(one.device, one.label) for one in group} for group in group_by_cause(alerts)]


LOOK_ALIKES = ("congestion", "service_down", "brute_force", "recon")
SCAN = alert(SCANNER, "recon", "source", A, B, C, BROKER, rule="host_scan", rules_out=LOOK_ALIKES)
REFUSED = alert(
    A, "misconfiguration", "source", BROKER, rule="login_refused", rules_out=LOOK_ALIKES
)


def test_a_suspicion_that_fits_two_proven_stories_joins_them_not():
    guessed = alert(BROKER, "brute_force", "target", A)
    suspected = alert(A, "recon", "source", SCANNER, BROKER)
    scanned = alert(C, "recon", "target", SCANNER)
    order = (SCAN, REFUSED, guessed, suspected, scanned)
    for alerts in (order, order[::-1]):
        found = stories(*alerts)
        assert {(A, "misconfiguration"), (BROKER, "brute_force")} in found
        assert {(SCANNER, "recon"), (A, "recon"), (C, "recon")} in found


def test_a_scan_does_not_explain_what_two_whom_it_tried_have_with_each_other():
    busy = alert(B, "congestion", "target", C)
    assert stories(SCAN, busy) == [{(SCANNER, "recon")}, {(B, "congestion")}]
    tried = alert(B, "congestion", "target", SCANNER)
    assert stories(SCAN, tried) == [{(SCANNER, "recon"), (B, "congestion")}]


def test_a_false_address_explains_no_failure_of_others_too():
    claims = alert(SCANNER, "spoofing", "source", A, B, rule="claimant")
    seen = pd.DataFrame([(SCANNER, A, "arp_conflict", 9, 10)], columns=EVIDENCE.columns)
    suspected = alert(A, "spoofing", "target", SCANNER, C, BROKER, evidence=seen)
    of_many = alert(BROKER, "name_resolution", "source", A, C, rule="servfail")
    seen_by_one = alert(C, "name_resolution", "target", BROKER)
    found = stories(claims, suspected, of_many, seen_by_one)
    assert {(BROKER, "name_resolution"), (C, "name_resolution")} in found
    of_the_claimed = alert(A, "name_resolution", "target", BROKER, rule="resolver")
    assert len(stories(claims, suspected, of_the_claimed)) == 1


def test_a_link_that_was_full_before_is_none_that_a_flood_filled():
    flood = alert(SCANNER, "ddos", "source", A, rule="one_way")
    hit = alert(A, "ddos", "target", SCANNER, B)
    full = alert(B, "congestion", "target", A, C)
    together = {(SCANNER, "ddos"), (A, "ddos"), (B, "congestion")}
    assert stories(flood, hit, full) == [together]
    earlier = replace(full, attribution=replace(full.attribution, start_s=30.0))
    found = stories(flood, hit, earlier)
    assert {(B, "congestion")} in found
    assert {(SCANNER, "ddos"), (A, "ddos")} in found


def test_what_anybody_misses_at_an_address_where_nobody_is_has_that_cause():
    resolver = alert(BROKER, "name_resolution", "source", A, C, rule="misleads")
    resolver = replace(resolver, gone=(C,))
    asks = alert(A, "misconfiguration", "source", C)
    deaf = alert(B, "device_silent", "target", C)
    other = alert(SCANNER, "misconfiguration", "source", "10.0.0.7")
    found = stories(resolver, asks, deaf, other)
    assert {(BROKER, "name_resolution"), (A, "misconfiguration"), (B, "device_silent")} in found
    assert {(SCANNER, "misconfiguration")} in found


def test_two_addresses_of_nobody_that_one_resolver_gives_are_told_together():
    long = replace(alert(BROKER, "name_resolution", "source", A, C, rule="misleads"), gone=(C,))
    short = alert(BROKER, "name_resolution", "source", A, B, rule="misleads")
    times = replace(short.attribution, start_s=90.0, end_s=110.0)
    short = replace(short, gone=(B,), attribution=times)
    for order in ((long, short), (short, long)):
        (both,) = add_rule_alerts([], order)
        assert both.gone == (C, B)
        assert (both.attribution.start_s, both.attribution.end_s) == (90.0, 160.0)
        assert both.attribution.peers == (A, C, B)
        assert len(both.facts) == 2
    silent = alert(BROKER, "name_resolution", "source", A, rule="resolver")
    assert [one.gone for one in add_rule_alerts([], (long, silent))] == [()]  # another story


def test_what_a_rule_does_not_name_is_another_story():
    """Its device has to do with B then too, and B's link to it and to others is full."""
    upload = alert(A, "exfiltration", "source", SCANNER, rule="upload", rules_out=LOOK_ALIKES)
    found = replace(upload.attribution, peers=(SCANNER, B))
    full = alert(B, "congestion", "target", A, C)
    assert stories(replace(upload, attribution=found), full) == [
        {(A, "exfiltration")},
        {(B, "congestion")},
    ]


def test_what_fails_long_after_a_false_address_was_claimed_has_another_cause():
    """A window's suspicion of the claims reaches to what fails a minute later; the claims do not."""
    claims = alert(SCANNER, "spoofing", "source", A, B, rule="claimant")
    seen = pd.DataFrame([(SCANNER, A, "arp_conflict", 9, 10)], columns=EVIDENCE.columns)
    suspected = alert(A, "spoofing", "target", SCANNER, BROKER, evidence=seen)
    suspected = replace(suspected, attribution=replace(suspected.attribution, end_s=260.0))
    refused = alert(BROKER, "service_down", "source", A, rule="now_refused")
    for start_s, joined in ((150.0, True), (265.0, False)):
        times = replace(refused.attribution, start_s=start_s, end_s=300.0)
        found = stories(claims, suspected, replace(refused, attribution=times))
        assert (len(found) == 1) is joined
        assert {(SCANNER, "spoofing"), (A, "spoofing")} <= found[0]


@pytest.mark.parametrize(("later_s", "stories"), [(200.0, 1), (400.0, 2)])
def test_a_server_that_fails_in_one_way_and_later_in_another_has_two_stories(later_s, stories):
    fails = alert(BROKER, "name_resolution", "source", A, B, rule="servfail")
    lies = alert(BROKER, "name_resolution", "source", A, C, rule="astray")
    lies = replace(lies, attribution=replace(lies.attribution, start_s=later_s, end_s=later_s + 50))
    assert len(add_rule_alerts([], (fails, lies))) == stories


@pytest.mark.parametrize(("later_s", "label"), [(100.0, "ddos"), (130.0, "dos")])
def test_two_who_flood_one_from_the_same_moment_act_together(later_s, label):
    """Each sends as much as the other."""
    columns = ["src", "dst", "attempt", "slot", "src_pkts"]
    alerts = []
    for n, (source, start_s) in enumerate(((A, 100.0), (B, later_s))):
        one = alert(source, "dos", "source", C, rule="one_way")
        flows = pd.DataFrame([(source, C, n, 10, 5000)], columns=columns)
        found = replace(one.attribution, flows=flows, start_s=start_s)
        alerts.append(replace(one, attribution=found))
    assert name_flood(alerts[0], alerts, {A, B, C}).label == label
