"""A run cut into parts: one setting under labels of one kind, its models best first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eval.detection.aggregate import UNSEEN
from eval.measures import MEASURES
from eval.results import Confusion, Labelling, Pooled, Run
from traffic.labels import NORMAL

__all__ = ["Part", "headline", "make_parts", "order_models"]


@dataclass(frozen=True)
class Part:
    """What a run says under one setting with labels of one kind: its models, best first."""

    setting: str
    labelling: Labelling
    pooled: tuple[Pooled, ...]

    @property
    def base(self) -> str:
        """The setting alone, whichever captures it was scored on."""
        return self.setting.removesuffix(UNSEEN).removesuffix("; ")

    @property
    def unseen(self) -> bool:
        """Whether only captures count that no model was made with."""
        return self.setting.endswith(UNSEEN)

    @property
    def title(self) -> str:
        """The setting and the kind of labels in words."""
        return f"{self.setting or 'all models'}, labels as {self.labelling}"


def make_parts(run: Run) -> list[Part]:
    """A run's pooled rows by setting and labelling, corrected labels first, settings by amount where they have one."""
    groups: dict[tuple[str, Labelling], list[Pooled]] = {}
    for one in run.pooled:
        groups.setdefault((one.setting, one.labelling), []).append(one)
    order = {key: (key[1] != "corrected", of[0].amount or 0.0, UNSEEN in key[0]) for key, of in groups.items()}
    return [Part(*key, _best_first(groups[key])) for key in sorted(groups, key=order.__getitem__)]


def headline(pooled: Iterable[Pooled]) -> str:
    """The measure by which models are put in order: macro-F1, or false alarms where there is nothing to find."""
    return "f1" if any(_anomalous(one.confusion) for one in pooled) else "false_share"


def _anomalous(confusion: Confusion) -> int:
    return sum(sum(row) for name, row in zip(confusion.labels, confusion.counts, strict=True) if name != NORMAL)


def _best_first(pooled: Sequence[Pooled]) -> tuple[Pooled, ...]:
    return order_models(pooled, headline(pooled))


def order_models(pooled: Sequence[Pooled], name: str) -> tuple[Pooled, ...]:
    """Models by a measure, best first; those without it last, by name."""
    sign = -1.0 if MEASURES[name].better == "higher" else 1.0

    def place(one: Pooled) -> tuple[float, str]:
        value = one.scores[name].value
        return (float("inf") if value is None else sign * value, one.model)

    return tuple(sorted(pooled, key=place))
