"""Operators played by truth: what they say of an incident, and the page that is made of it."""

import pandas as pd
import pytest
from bottling_line import beacon

from eval.research.align import find_truth, make_remark, render_page
from finetune.align.claims import choose_claims
from traffic.labels import NORMAL, UNKNOWN

INCIDENT = beacon()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["normal", "c2", "dos", "dos"], "c2"),  # where some windows have its label, it is right
        (["normal", "dos", "recon", "dos"], "dos"),
        (["normal", "normal"], NORMAL),
        (["normal", "unknown"], UNKNOWN),
        ([], UNKNOWN),
    ],
)
def test_an_incident_is_what_its_windows_truly_were(labels, said):
    windows = pd.DataFrame({"label": labels})
    windows = windows.assign(
        device=INCIDENT.device, start_s=INCIDENT.start_s, end_s=INCIDENT.start_s + 60
    )
    elsewhere = windows.assign(device="192.0.2.9", label="exfiltration")
    later = windows.assign(label="recon", start_s=INCIDENT.end_s, end_s=INCIDENT.end_s + 60)
    assert find_truth(INCIDENT, pd.concat([windows, elsewhere, later])) == said


def test_what_is_said_is_what_the_command_reads():
    rows = [make_remark(INCIDENT, said, f"one-{said}") for said in (INCIDENT.label, NORMAL, "")]
    remarks = pd.DataFrame(rows)
    assert remarks["act"].tolist() == ["confirm", "false_alarm", "wrong"]
    assert choose_claims(remarks, "here").table["said"].tolist() == [INCIDENT.label, NORMAL, ""]


def test_a_method_moved_what_rose_with_every_seed():
    metrics = pd.DataFrame(
        [
            {"how": how, "seed": seed, "used": seed == 0, "held_out.likelihood.before": 0.5,
             "held_out.likelihood.after": 0.5 + gain}
            for how, gains in (("kto", (0.1, 0.2)), ("dpo", (0.1, -0.1)), ("grpo", (-0.1, 0.0)))
            for seed, gain in enumerate(gains)
        ]
    )  # fmt: skip
    remarks = pd.DataFrame([make_remark(INCIDENT, "")])
    page = render_page(metrics, [["0", "0.6", "0.7"]], [], remarks, ["run-1"], "the command")
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| ")}
    assert "0.500 → 0.650 [0.600, 0.700]" in rows["kto"]
    assert "| yes |" in rows["kto"]
    assert "not with every seed" in rows["dpo"]
    assert "| no |" in rows["grpo"]
    assert "1 of 2" in rows["kto"]
    assert "run-1): 1 wrong" in page
