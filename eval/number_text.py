"""Numbers of results as people read them."""

from eval.measures import MEASURES
from eval.results import Estimate

__all__ = ["format_number", "render_cell", "signed", "size_text"]

_SHARES = ("false_share", "false_share_at_recall_75", "found_share", "binary_recall")


def format_number(name: str, value: float | None) -> str:
    """A measure's value: shares of windows in percent, seconds and counts short, what cannot be measured as a dash.

    >>> format_number("f1", 0.8125), format_number("false_share", 0.0012), format_number("f1", None)
    ('0.812', '0.12 %', '–')
    """
    if value is None:
        return "–"
    if name in _SHARES:
        return f"{value:.1%}".replace("%", " %") if value >= 0.1 else f"{value:.2%}".replace("%", " %")
    if name in MEASURES and not MEASURES[name].unit:
        return f"{value:.3f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def render_cell(name: str, estimate: Estimate) -> str:
    """A value with its interval.

    >>> render_cell("f1", Estimate(value=0.8, low=0.7, high=0.9))
    '0.800 [0.700, 0.900]'
    """
    text = format_number(name, estimate.value)
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return text
    low, high = (format_number(name, end).removesuffix(" %") for end in (estimate.low, estimate.high))
    return f"{text} [{low}, {high}]"


def size_text(size: int | None) -> str:
    """Bytes as a person reads them.

    >>> size_text(15_300_000), size_text(900), size_text(None)
    ('15.3 MB', '900 B', '–')
    """
    if size is None:
        return "–"
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size} B"


def signed(name: str, difference: Estimate) -> str:
    """A difference with its sign and interval."""
    if difference.value is None:
        return "–"
    text = f"{difference.value:+.3f}" if name in MEASURES and not MEASURES[name].unit else f"{difference.value:+.3g}"
    if difference.low is None or difference.high is None:
        return text
    return f"{text} [{difference.low:+.3f}, {difference.high:+.3f}]"
