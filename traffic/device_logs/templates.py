r"""Kinds of log lines: each line gets the number of its template, what varies in it left out.

    poll of plc-2 failed after 412 ms  ─mask─▶  poll of plc-<*> failed after <*> ms  ─Drain─▶  template 7

Drain (He, Zhu, Zheng, Lyu, ICWS 2017) groups lines by length, first words and likeness. It is the drain3
package's, which takes a line at a time; so numbers and addresses are masked first, over whole columns,
and it sees each distinct masked line once. Lines that tell of a failure never share a kind with lines that do not,
however alike they are: "connection to a opened" and "connection to a refused". Nothing of drain3's state is
ever saved or loaded.
"""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from drain3.drain import Drain, LogCluster

VARIES = "<*>"
REST = 0  # the template of lines beyond the bounds
# An attacker can write any number of distinct lines, and Drain compares a line with every template that
# begins like it: 200,000 random lines took it more than five minutes. A plant's log has some hundred kinds.
MOST_FORMS = 10_000  # distinct masked lines that are grouped
MOST_TEMPLATES = 1_000
_MOST_WORDS = 40  # of a line that are compared
_MOST_CHILDREN = 100
_LIKENESS = 0.5  # share of equal words that makes two lines one kind

_IDS = (
    r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
    r"|\b(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}\b"
    r"|\b(?:[0-9a-fA-F]{0,4}:){3,7}[0-9a-fA-F]{0,4}\b"
    r"|(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?"
    r"|\b0x[0-9a-fA-F]+\b"
)
_MASK = rf"{_IDS}|\b[0-9a-fA-F]*\d[0-9a-fA-F]{{7,}}\b|\d+(?:[.,:]\d+)*"
_NUMBER = r"(?:^|[^\w.:\-])(?P<n>-?\d+(?:\.\d+)?)(?:[^\w.:\-]|[.:](?:\s|$)|[a-zA-Z%]{1,6}\b|$)"
# Words that a device has for a failure. Flags, never shown: what a line says is decided by none of them alone.
_FAILURE = (
    r"(?i)\b(?:err(?:or)?s?|fail(?:s|ed|ure|ures|ing)?|fatal|panic|crash\w*|refused?|reject\w*|denied|deny"
    r"|timed?[ -]?out|timeouts?|unreachable|unavailable|lost|loss|dropp?(?:ed|ing)|corrupt\w*|invalid"
    r"|illegal|abort\w*|overflow\w*|overrun\w*|underrun\w*|exhausted|not respond\w*|no (?:answer|response|reply|route)"
    r"|does not answer|cannot|can't|unable|exception\w*|malformed|unauthori[sz]ed|not authori[sz]ed|fault\w*"
    r"|link[ -]?down|(?:is|went|gone|changed state to) (?:down|offline)|disconnect\w*|out of memory|segfault)\b"
)


class Templates:
    """The templates of some logs, which grow with the lines that it is given.

    Attributes:
        beyond: how many lines have a form of their own beyond the bounds on forms and templates.
    """

    def __init__(self) -> None:
        # Even numbers for lines that tell of a failure, odd ones for all others.
        self._drains = [Drain(sim_th=_LIKENESS, max_children=_MOST_CHILDREN) for _ in range(2)]
        self._clusters: dict[str, tuple[LogCluster, int]] = {}
        self.beyond = 0

    def number(self, texts: pa.Array) -> np.ndarray:
        """Number the template of each line, shape (n,), int64, from 1; ``REST`` beyond the bounds."""
        masked = pc.replace_substring_regex(texts, pattern=_MASK, replacement=VARIES)
        encoded = masked.dictionary_encode()
        numbers = np.array([self._add(form) for form in encoded.dictionary.to_pylist()], np.int64)
        code = encoded.indices.to_numpy(zero_copy_only=False)
        lines = numbers[code] if len(numbers) else np.zeros(len(code), np.int64)
        self.beyond += int((lines == REST).sum())
        return lines

    def words(self) -> dict[int, str]:
        """The words of each template, ``<*>`` for what varies: text from outside."""
        found = {number: cluster.get_template() for cluster, number in self._clusters.values()}
        return {REST: "", **found} if self.beyond else found

    def failing(self) -> frozenset[int]:
        """The templates whose lines tell of a failure."""
        return frozenset(number for _, number in self._clusters.values() if number % 2 == 0)

    def _add(self, form: str) -> int:
        if form in self._clusters:
            return self._clusters[form][1]
        templates = sum(drain.clusters_counter for drain in self._drains)
        if templates >= MOST_TEMPLATES or len(self._clusters) >= MOST_FORMS:
            return REST
        fails = tells_failure(form)
        cluster, _ = self._drains[fails].add_log_message(" ".join(form.split()[:_MOST_WORDS]))
        number = 2 * cluster.cluster_id - (not fails)
        self._clusters[form] = (cluster, number)
        return number


def first_numbers(texts: pa.Array) -> np.ndarray:
    """The first number in each line that is part of no address, id or name, NaN where there is none.

    >>> first_numbers(pa.array(["plc-2 at 10.0.0.1:502 took 412 ms", "up"])).tolist()
    [412.0, nan]
    """
    plain = pc.replace_substring_regex(texts, pattern=_IDS, replacement="a")
    number = pc.struct_field(pc.extract_regex(plain, pattern=_NUMBER), "n")
    return pc.cast(number, pa.float64()).to_numpy(zero_copy_only=False)


def tells_failure(words: str) -> bool:
    """Whether the words of a line are those of a failure.

    >>> tells_failure("poll of plc-<*> failed"), tells_failure("connected to <*>")
    (True, False)
    """
    return re.search(_FAILURE, words) is not None
