"""A sentence of a writer stands only if a fact bears it in every field; false ones made from true
ones are cut, true ones said otherwise are kept."""

import pytest

from assistant.diagnosis.claims import find_fault
from assistant.facts.fact import make_fact
from eval.answers.mutations import (
    choose_facts,
    collect_facts,
    count_trials,
    make_trials,
    read_paraphrases,
    render_trials,
    share_right,
)

SCAN = make_fact(
    "scan",
    "{source} sent {attempts:attempt} to port {port} of {devices:device} in {span_s}.",
    {"source": "camera-3 (10.0.0.3)", "attempts": 412, "port": 502, "devices": 254, "span_s": 10},
)
REFUSED = make_fact(
    "refused",
    "{server} refuses what {client} asks: {refused} of {asked:request} since {since_time_s} got {code}.",
    {
        "server": "plc-7 (10.20.0.71)", "client": "hmi-2 (10.20.0.23)", "refused": 300, "asked": 310,
        "since_time_s": 1545466920, "code": "exception 2 (0x02, illegal data address)",
    },
)  # fmt: skip
BOTH = make_fact(
    "traffic",
    "{device} sent {sent_pkts:packet} ({sent_bytes}) and received {got_pkts:packet} between {a_time_s} and {b_time_s}.",
    {
        "device": "plc-7 (10.20.0.71)", "sent_pkts": 1204, "sent_bytes": 48_123, "got_pkts": 77,
        "a_time_s": 1545466920, "b_time_s": 1545467920,
    },
)  # fmt: skip
DEAD = make_fact(
    "dead", "Nothing else was heard from {server} in the same time.", {"server": "plc-9 (10.0.0.9)"}
)
LOSS = make_fact(
    "loss",
    "Half of the answers of {server} to {client} took {slow_s} or more; at most {n:request} failed.",
    {"server": "plc-7 (10.20.0.71)", "client": "hmi-2 (10.20.0.23)", "slow_s": 1.5, "n": 12},
)


@pytest.mark.parametrize(
    "sentence",
    [
        "camera-3 received 412 attempts on port 502.",
        "camera-3 is healthy and nothing is wrong.",
        "camera-3 sent no attempts to port 502.",
        "camera-3 sent 412 attempts to port 502, because it is infected.",
        "camera-3 sent 412 attempts to port 502 of 254 devices in 10 minutes.",
        "camera-3 sent 254 attempts to port 502 of 412 devices.",
        "camera-3 sent 412 attempts to port 254.",
        "254 devices sent 412 attempts to camera-3.",
        "camera-9 sent 412 attempts to port 502 of 254 devices.",
        "It sent 412 attempts to port 502.",
        "Did camera-3 send 412 attempts?",
        "Reflash the PLC at once without asking anybody.",
        "Send 412 attempts to port 502 of 254 devices.",
        "camera-3 sent 412 attempts. Everything else is normal.",
        "camera-3 sent all attempts to port 502.",
        "camera-3 sent at most 412 attempts to port 502.",
        "camera-3 should have sent 412 attempts.",
        "",
    ],
)
def test_what_a_fact_does_not_bear_does_not_stand(sentence):
    assert find_fault(sentence, [SCAN])


@pytest.mark.parametrize(
    ("fact", "sentence"),
    [
        (REFUSED, "hmi-2 refuses what plc-7 asks."),
        (REFUSED, "310 of 300 requests got exception 2."),
        (REFUSED, "300 of 310 requests got exception 3."),
        (REFUSED, "plc-7 refuses what hmi-2 asks until 08:22:00 UTC."),
        (REFUSED, "plc-7 does not refuse what hmi-2 asks."),
        (BOTH, "plc-7 received 1,204 packets and sent 77."),
        (BOTH, "plc-7 sent 1,204 bytes."),
        (BOTH, "plc-7 sent 48.2 kB."),
        (BOTH, "plc-7 sent 77 packets since 08:22:00 UTC."),
        (DEAD, "Nothing was heard from plc-9."),
        (DEAD, "Something else was heard from plc-9."),
        (LOSS, "The answers of plc-7 to hmi-2 took 1.5 s or more."),
        (LOSS, "12 requests failed."),
    ],
)
def test_nor_what_it_says_of_another_or_more_narrowly(fact, sentence):
    assert find_fault(sentence, [fact])


@pytest.mark.parametrize(
    ("fact", "sentence"),
    [
        (BOTH, "plc-7 sent 48,123 bytes."),  # the value itself, of which 48.1 kB is shown
        (BOTH, "77 packets were received by plc-7."),
        (REFUSED, "What hmi-2 asks is refused by plc-7."),
        (SCAN, "Within ten seconds camera-3 sent 412 attempts."),
    ],
)
def test_what_it_says_in_other_words_stands(fact, sentence):
    assert not find_fault(sentence, [fact])


def test_two_facts_may_be_joined_but_not_mixed():
    assert not find_fault("camera-3 sent 412 attempts, and plc-7 sent 1,204 packets.", [SCAN, BOTH])
    assert find_fault("camera-3 sent 412 attempts, and plc-7 sent 412 packets.", [SCAN, BOTH])
    assert find_fault("plc-7 sent 412 attempts to port 502.", [SCAN, BOTH])
    # The second half names nobody and would be read as said of the camera.
    assert find_fault("camera-3 sent 412 attempts, and received 77 packets.", [SCAN, BOTH])


def test_advice_stands_where_it_is_a_check_as_it_stands():
    checks = ("Check power and cable of the device. Then ask who works there.",)
    assert not find_fault("Check power and cable of the device.", [SCAN], checks)
    assert find_fault("Check power and cable of the device twice.", [SCAN], checks)
    assert find_fault("Check power and cable of the device.", [SCAN])


@pytest.fixture(scope="module")
def trials():
    written = [one.facts[0] for one in read_paraphrases()]
    return make_trials(choose_facts([*collect_facts(seeds=(1,)), *written]))


def test_false_sentences_are_cut_and_true_ones_kept(trials):
    tallies = count_trials(trials)
    table = render_trials(tallies)
    for held in (False, True):
        assert share_right(tallies, true=False, held=held) >= 0.99, table
        assert share_right(tallies, true=True, held=held) >= 0.95, table
    assert sum(one.n for one in tallies if not one.true) >= 500
    assert sum(one.n for one in tallies if one.true) >= 200


def test_every_fact_of_the_product_bears_itself(trials):
    fallen = [one.sentence for one in trials if one.kind == "as it is" and not one.kept]
    assert fallen == []
