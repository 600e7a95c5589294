"""Every kind of case by name, and degraded variants of cases that were made: the capture through a
sensor, the truth adapted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from eval.testbed.cases import healthy, industrial, links, messaging, modbus, security
from eval.testbed.cases.background import add_healthy
from eval.testbed.cases.case import Draw, Kind, Scene
from eval.testbed.sensor import DEGRADATIONS, degrade
from traffic.files import write_text

KINDS: dict[str, Kind] = {
    **modbus.KINDS,
    **messaging.KINDS,
    **security.KINDS,
    **links.KINDS,
    **industrial.KINDS,
    **healthy.KINDS,
}
# Those that say themselves what is healthy beside; in others a pair or two talk before anything else.
_ALONE = (*healthy.ALONE, *messaging.ALONE)


def draw_scene(kind: str, seed: int) -> Scene:
    """The scene of a kind: the same for the same seed."""
    draw = Draw(kind, seed)
    if kind not in _ALONE:
        add_healthy(draw)
    return KINDS[kind](draw)


def write_variants(folder: Path, names: Sequence[str], kinds: Sequence[str], seed: int) -> int:
    """Write ``folder/degraded/<case>-<degradation>.pcap`` and ``cases.yaml`` beside them.

    Args:
        folder: of cases that were made.
        names: keys of ``DEGRADATIONS``.
        kinds: of the cases that are degraded; all where there are none.
        seed: of what is random in a degradation.

    Returns:
        How many variants lie there now.
    """
    out = folder / "degraded"
    out.mkdir(exist_ok=True)
    for case in yaml.safe_load((folder / "cases.yaml").read_text("utf-8")):
        stem = case["capture"].removesuffix(".pcap")
        if kinds and stem.rpartition("-")[0] not in kinds:
            continue
        for name in names:
            path = out / f"{stem}-{name}.pcap"
            degrade(folder / case["capture"], path, [name], seed)
            variant = {**adapt_truth(case, name), "capture": path.name}
            text = yaml.safe_dump([variant], sort_keys=False, allow_unicode=True, width=10**6)
            write_text(path.with_suffix(".yaml"), text)
    parts = sorted(one for one in out.glob("*.yaml") if one.name != "cases.yaml")
    write_text(out / "cases.yaml", "".join(part.read_text("utf-8") for part in parts))
    return len(parts)


def adapt_truth(case: dict[str, Any], name: str) -> dict[str, Any]:
    """A case's truth as it is once its capture went through a degradation.

    Where the sensor is blind, nothing can be judged: ``inconclusive`` is the one right standing.
    Elsewhere the same is true, and the degradation has to be said.
    """
    degradation = DEGRADATIONS[name]
    adapted = {**case, "facts": {**case["facts"], "degradation": name}}
    must = [*case.get("must", ()), *([degradation.says] if degradation.says else ())]
    if degradation.blinds:
        must, adapted["standing"] = [degradation.says], ["inconclusive"]
    elif not degradation.keeps_counts:
        adapted["standing"] = [*dict.fromkeys([*case["standing"], "inconclusive"])]
    if must:
        adapted["must"] = must
    if not degradation.keeps_counts:
        adapted.pop("measured", None)
    return adapted
