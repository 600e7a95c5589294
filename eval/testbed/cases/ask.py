"""Ask the product the questions of cases, and judge its answers: ``python -m eval.testbed.cases.ask OUT``.

    python -m eval.testbed.cases.ask made                       # all cases of made/cases.yaml
    python -m eval.testbed.cases.ask made --kind mqtt_flood -v  # one kind, with the answers

An answer is right where its standing is one of those allowed and its text matches every ``must`` and
no ``must_not``. The table has a line for each kind; what is raised at healthy plants, and what is
called well of others, is counted by itself: a false alarm, and worse, a false all-clear.
"""

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from assistant.answers.answer import answer
from assistant.report import render_diagnosis
from assistant.session import Models, analyse, load_models
from assistant.settings import Settings

_RAISED = ("likely", "confirmed")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m eval.testbed.cases.ask", description=__doc__)
    parser.add_argument("out", type=Path, help="a folder with cases.yaml")
    parser.add_argument("--kind", action="append", default=[])
    parser.add_argument("-v", action="store_true", help="show every answer")
    given = parser.parse_args()
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as home:
        models = load_models(Settings(home=Path(home)))
        for case in yaml.safe_load((given.out / "cases.yaml").read_text("utf-8")):
            kind = case["capture"].rpartition("-")[0]
            if given.kind and kind not in given.kind:
                continue
            standing, text = ask_case(case, given.out, Path(home), models)
            faults = find_faults(case, standing, text)
            counts.setdefault(kind, Counter()).update(_count(case, standing, faults))
            print(case["capture"], "right" if not faults else "; ".join(faults), flush=True)  # noqa: T201
            if given.v:
                print(text)  # noqa: T201
    for kind, found in sorted(counts.items()):
        print(f"{kind:36s} {found['right']} of {found['asked']}")  # noqa: T201
    total = sum(counts.values(), Counter[str]())
    names = ("asked", "right", "healthy", "false alarms", "false all-clears")
    print(", ".join(f"{name} {total[name]}" for name in names))  # noqa: T201
    return 0 if total["right"] == total["asked"] else 1


def ask_case(case: Mapping[str, Any], folder: Path, home: Path, models: Models) -> tuple[str, str]:
    """Standing and text of the answer to a case's question.

    Args:
        case: as ``cases.yaml`` has it; ``plant`` names a file beside it, ``local`` the plant's
            public networks.
        folder: where its capture lies.
        home: of the product.
        models: as ``load_models`` returns them.

    Raises:
        UserError: the capture cannot be read.
    """
    plant = folder / case["plant"] if "plant" in case else None
    settings = Settings(home=home, plant=plant, local=tuple(case.get("local", ())))
    answered = answer(case["ask"], analyse(folder / case["capture"], settings, models), None)
    return answered.standing, render_diagnosis(answered, "text")


def find_faults(case: Mapping[str, Any], standing: str, text: str) -> tuple[str, ...]:
    """What is wrong with an answer to a case, in words; empty where it is right.

    >>> find_faults({"standing": ["likely"], "must": ["scan"]}, "normal", "Healthy: all is well.")
    ('is normal', 'lacks scan')
    """
    wrong_standing = "standing" in case and standing not in case["standing"]
    lacks = [one for one in case.get("must", ()) if not re.search(one, text, re.IGNORECASE)]
    says = [one for one in case.get("must_not", ()) if re.search(one, text, re.IGNORECASE)]
    return (
        *([f"is {standing}"] if wrong_standing else []),
        *(f"lacks {one}" for one in lacks),
        *(f"says {one}" for one in says),
    )


def _count(case: Mapping[str, Any], standing: str, faults: tuple[str, ...]) -> dict[str, int]:
    healthy = set(case.get("standing", ())) <= {"normal", "inconclusive"} and (
        case.get("facts", {}).get("label") == "normal"
    )
    may_be_well = "normal" in case.get("standing", ("normal",))
    return {
        "asked": 1,
        "right": int(not faults),
        "healthy": int(healthy),
        "false alarms": int(healthy and standing in _RAISED),
        "false all-clears": int(not may_be_well and standing == "normal"),
    }


if __name__ == "__main__":
    sys.exit(main())
