"""Who made a network interface, by the first bytes of its MAC.

``makers.csv`` is made of IEEE's public listing of assignments (MA-L, MA-M, MA-S, IAB), on which
IEEE asserts no copyright and which it lets anybody distribute; Debian packs it as ``ieee-data``
(20220827.1 here). Makers of industrial equipment are all in it, others from three assignments on:

    python -m traffic.makers /usr/share/ieee-data
"""

import csv
import re
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

_TABLE = Path(__file__).with_name("makers.csv")
_LISTS = ("oui.csv", "mam.csv", "oui36.csv", "iab.csv")
_FEWEST = 3
_NOBODY = ("IEEE Registration Authority", "Private")
_INDUSTRIAL = re.compile(
    r"""siemens|rockwell|allen.bradley|schneider|telemecan|modicon|square.d|\babb\b|honeywell|emerson|fisher|foxboro
    |invensys|yokogawa|omron|mitsubishi|phoenix|wago|beckhoff|b&r.ind|bernecker|moxa|hirschmann|belden|red.lion
    |advantech|weidm|turck|pepperl|\bsick\b|\bifm\b|festo|bosch|rexroth|lenze|eurodrive|danfoss|schweitzer|general.electric
    |\bge\b|alstom|areva|fanuc|kuka|keyence|panasonic|fuji.electric|hitachi|toshiba|\bhms\b|hilscher|prosoft|opto.?22
    |national.instr|pilz|sauter|johnson.controls|trane|tridium|delta|distech|loytec|carrier|kunbus|unitronics|idec|koyo
    |lantronix|digi.int|perle|westermo|ruggedcom|korenix|endress|krohne|vega.grie|wika|eaton|eurotherm|murrelek|helmholz
    |insys|ewon|secomea|bachmann|baumuller|baumer|balluff|leuze|cognex|basler|datalogic|stratus|woodward|metso|valmet
    |automat|control|industr|instrument|meter|sensor|scada|robot|drive|elevator|turbine|power|energ""",
    re.IGNORECASE | re.VERBOSE,
)


def find_maker(mac: str) -> str:
    """Who made the interface; ``""`` where nobody knows, or the address was made up on the spot.

    >>> find_maker("00:1b:1b:00:00:01"), find_maker("02:00:00:00:00:01")
    ('Siemens AG', '')
    """
    digits = mac.replace(":", "")
    if len(digits) != 12 or int(digits[:2], 16) & 3 or not int(digits, 16):  # a group's or made up
        return ""
    makers = _read_makers()
    return next((makers[digits[:n]] for n in (9, 7, 6) if digits[:n] in makers), "")


@cache
def _read_makers() -> dict[str, str]:
    with _TABLE.open(encoding="utf-8", newline="") as stream:
        return {
            prefix: row["make"]
            for row in csv.DictReader(stream)
            for prefix in row["prefixes"].split()
        }


def write_makers(folder: Path) -> None:
    """Make the table from IEEE's lists: a maker a row, with its prefixes in hex."""
    prefixes = defaultdict(set)
    for name in _LISTS:
        with (folder / name).open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                make = " ".join(row["Organization Name"].split()).rstrip(",")
                prefixes[make].add(row["Assignment"].lower())
    rows = [
        (make, " ".join(sorted(mine)))
        for make, mine in sorted(prefixes.items())
        if make not in _NOBODY and (len(mine) >= _FEWEST or _INDUSTRIAL.search(make))
    ]
    with _TABLE.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([("make", "prefixes"), *rows])


if __name__ == "__main__":
    write_makers(Path(sys.argv[1]))
