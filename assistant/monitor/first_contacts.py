"""First contacts of devices with ports outside, kept for longer than is looked back at, and bounded."""

from collections.abc import Mapping

from assistant.facts.contacts import Contact, End, list_askers, list_contacts
from assistant.facts.traffic_view import TrafficView

MOST = 20_000  # some 5 MB; whom nobody called for the longest time is let go first
_RECENT_S = 600.0  # as late as rows of logs may come


class FirstContacts:
    """What was noted of first contacts, and what of it the state does not hold yet.

    Attributes:
        fresh: noted, or noted anew, since ``settle``.
        gone: let go since then.
    """

    def __init__(self, kept: Mapping[End, Contact], most: int = MOST) -> None:
        """Go on with what was kept."""
        self._all, self._most = dict(kept), most
        self.fresh: dict[End, Contact] = {}
        self.gone: set[End] = set()

    def see(self, view: TrafficView) -> None:
        """Note what a view shows for the first time, and let the view have all of it."""
        view.contacts = self._all
        askers = list_askers(view)
        view.contacts = self._all | askers
        for end, contact in (askers | list_contacts(view, _RECENT_S)).items():
            if self._all.pop(end, None) != contact:
                self.fresh[end] = contact
                self.gone.discard(end)
            self._all[end] = contact  # at the end: it was called now
        for end in list(self._all)[: max(0, len(self._all) - self._most)]:
            self._let_go(end)
        view.contacts = dict(self._all)  # of its own: others read it while the next slot is noted

    def forget(self) -> None:
        """Begin anew."""
        for end in list(self._all):
            self._let_go(end)

    def _let_go(self, end: End) -> None:
        del self._all[end]
        self.fresh.pop(end, None)
        self.gone.add(end)

    def settle(self) -> None:
        """The state holds all of it."""
        self.fresh, self.gone = {}, set()
