"""Make field cases with real programs: ``python -m eval.testbed.cases OUT``, as root on Linux.

    python -m eval.testbed.cases made                              # one case of every kind
    python -m eval.testbed.cases made --kind mqtt_flood --seed 7   # one kind, drawn anew
    python -m eval.testbed.cases made --seeds 3 --at-once 20       # seeds 1 to 3, so many at once
    python -m eval.testbed.cases made --degrade vlan --kind loss   # what a sensor makes of a case

``OUT`` gets a pcap and a YAML of truth for each case, and ``cases.yaml`` of all that lie there.
Everything a scene logs is in ``OUT/logs``. Cases that are there already are kept.
"""

import argparse
import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from shutil import which

from eval.testbed.cases.catalogue import KINDS, draw_scene, write_variants
from eval.testbed.cases.stage import record_scene
from eval.testbed.host import check_host
from eval.testbed.sensor import DEGRADATIONS
from traffic.errors import UserError
from traffic.files import write_text

log = logging.getLogger(__name__)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m eval.testbed.cases", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kind", action="append", choices=sorted(KINDS), default=[])
    parser.add_argument("--seed", type=int, default=1, help="of the first case of each kind")
    parser.add_argument("--seeds", type=int, default=1, help="how many of each kind")
    parser.add_argument("--at-once", type=int, default=12)
    parser.add_argument(
        "--seconds", type=float, help="shorten every capture to so many, to try one"
    )
    parser.add_argument(
        "--degrade", action="append", choices=sorted(DEGRADATIONS), default=[],
        help="degrade cases that were made, of --kind or all, into OUT/degraded",
    )  # fmt: skip
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if given.degrade:
        count = write_variants(given.out, given.degrade, given.kind, given.seed)
        log.info("%d degraded cases lie in %s", count, given.out / "degraded")
        return 0
    try:
        check_host()
        if which("tshark") is None:
            raise UserError(
                "cases are counted by tshark; expected on the path; apt-get install tshark"
            )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    wanted = [
        (kind, seed)
        for seed in range(given.seed, given.seed + given.seeds)
        for kind in given.kind or KINDS
        if not (given.out / f"{kind}-{seed}.yaml").exists()
    ]
    # The longest first, so that none is left alone at the end.
    wanted.sort(key=lambda one: -_real_s(*one))
    with ThreadPoolExecutor(given.at_once) as pool:
        done = [*pool.map(lambda one: _make(given.out, one[0], one[1], given.seconds), wanted)]
    parts = sorted(one for one in given.out.glob("*.yaml") if one.name != "cases.yaml")
    write_text(given.out / "cases.yaml", "".join(part.read_text("utf-8") for part in parts))
    log.info("%d of %d cases made; %d lie in %s", sum(done), len(wanted), len(parts), given.out)
    return 0 if all(done) else 1


def _real_s(kind: str, seed: int) -> float:
    scene = draw_scene(kind, seed)
    return scene.length_s / scene.speed


def _make(out: Path, kind: str, seed: int, most_s: float | None) -> bool:
    name, begun = f"{kind}-{seed}", time.monotonic()
    start_s = Random(name).uniform(0, 150 * 86400)  # noqa: S311 - a date, not a secret
    scene = draw_scene(kind, seed)
    scene = replace(scene, length_s=min(scene.length_s, most_s or scene.length_s))
    good = record_scene(scene, name, out, round(start_s, 3))
    how = "made" if good else f"failed, {out}/logs/{name} says why"
    log.info("%s: %s in %.0f s", name, how, time.monotonic() - begun)
    return good


if __name__ == "__main__":
    sys.exit(main())
