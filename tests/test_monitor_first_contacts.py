"""Whom a device called first, and whether a name led there, is known for longer than is looked back at."""

from contextlib import closing

import numpy as np
import pandas as pd
import pytest
from tables import capture, flow

from assistant.detection.rules.outside import find_clockwork
from assistant.facts.contacts import Contact
from assistant.facts.traffic_view import TrafficView
from assistant.monitor.first_contacts import FirstContacts
from assistant.monitor.state import VERDICT_COLUMNS, MonitorState
from traffic.samples import make_samples

PANEL, RESOLVER, CLOUD, OTHER = "192.168.1.30", "192.168.1.2", "203.0.113.5", "203.0.113.6"


def question(at_s: float) -> dict[str, object]:
    return flow(at_s, PANEL, RESOLVER, 53, proto="udp", service="dns", history="Dd", duration=0.01)


def calls(
    since_s: float, until_s: float, to: str = CLOUD, port: int = 4444
) -> list[dict[str, object]]:
    """One every thirty seconds."""
    moments = np.arange(since_s, until_s, 30.0)
    return [flow(at, PANEL, to, port, id__orig_p=41000 + int(at) % 20_000) for at in moments]


def view_of(*rows: dict[str, object]) -> TrafficView:
    table = capture(*rows)
    return TrafficView(table, make_samples(table))


@pytest.mark.parametrize("named", [True, False])
def test_a_service_that_a_name_led_to_stays_so_when_the_question_is_forgotten(named):
    """The first view begins with the question, the second with the calls that go on."""
    asked = [question(1000.0)] if named else [question(1900.0)]
    contacts = FirstContacts({})
    first, second = view_of(*asked, *calls(1005.0, 1600.0)), view_of(*calls(1605.0, 2500.0))
    assert len(find_clockwork(second)) == 1  # nothing is known of what was before
    contacts.see(first)
    contacts.see(second)
    assert len(find_clockwork(second)) == (0 if named else 1)
    met = second.contacts[PANEL, CLOUD, 4444]
    assert (met.first_s, met.named, met.named_just) == (1005.0, named, named)


def test_whom_nobody_called_before_is_met_in_this_view():
    """An old acquaintance tells nothing of a new one."""
    contacts = FirstContacts({})
    contacts.see(view_of(question(1000.0), *calls(1005.0, 1600.0)))
    view = view_of(*calls(1605.0, 2500.0), *calls(1610.0, 2500.0, OTHER))
    contacts.see(view)
    (hit,) = find_clockwork(view)
    assert hit.peers == (OTHER,)


def test_a_log_that_tells_late_of_a_long_session_does_not_forget_what_was_asked_before_it():
    """The session began before what is kept begins, and its row came when it ended."""
    contacts = FirstContacts({})
    contacts.see(view_of(question(1000.0)))
    view = view_of(flow(1010.0, PANEL, CLOUD, 80, duration=900.0))
    view.whole_since_s = 1500.0
    contacts.see(view)
    assert view.contacts[PANEL, CLOUD, 80].named


def test_what_is_kept_is_bounded_and_whom_nobody_calls_any_more_is_let_go_first():
    contacts = FirstContacts({}, most=2)
    contacts.see(view_of(*calls(1000.0, 1100.0, CLOUD), *calls(1000.0, 1100.0, CLOUD, 4445)))
    contacts.settle()
    view = view_of(*calls(1200.0, 1300.0, CLOUD), *calls(1200.0, 1300.0, OTHER))
    contacts.see(view)
    assert set(view.contacts) == {(PANEL, CLOUD, 4444), (PANEL, OTHER, 4444)}
    assert set(contacts.fresh) == {(PANEL, OTHER, 4444)}
    assert contacts.gone == {(PANEL, CLOUD, 4445)}


def test_contacts_survive_a_stop(tmp_path):
    one, other = Contact(1000.0, 60.0, True, False), Contact(900.0, 0.0, False, False)
    ends = {(PANEL, CLOUD, 4444): one, (PANEL, OTHER, 80): other}
    nothing = pd.DataFrame(columns=VERDICT_COLUMNS)
    with closing(MonitorState(tmp_path)) as state:
        state.save({"ended": False}, nothing, 0, ends)
        assert state.contacts() == ends
        state.save({"ended": False}, nothing, 0, gone=[(PANEL, CLOUD, 4444)])
    with closing(MonitorState(tmp_path)) as state:
        assert state.contacts() == {(PANEL, OTHER, 80): other}
