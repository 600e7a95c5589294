"""Which trouble people complain of: the weights fit what they learned from, hold for complaints by somebody who
saw none of it, and choose the incident that is meant."""

from pathlib import Path

import numpy as np
import pytest

from assistant.detection.incidents import Incident
from assistant.diagnosis.playbook import read_causes, read_playbook
from assistant.diagnosis.symptoms import (
    FOLDER,
    NONE,
    WEIGHTS,
    find_symptoms,
    measure_symptoms,
    read_symptoms,
    score_symptoms,
)
from assistant.questions.plain import make_plain
from assistant.questions.text_classifier import hash_texts, load_classifier
from traffic.labels import LABELS, NORMAL

UNSEEN = Path(__file__).parent / "cases" / "symptoms-unseen.txt"


def _incident(label: str) -> Incident:
    return Incident(f"{label}-1", "10.0.0.5", "source", label, "low", 0.0, 60.0, (), (), (), (), ())


def test_the_weights_that_ship_were_learned_from_the_symptoms_that_ship():
    """After a change to symptoms/: python -m eval.answers.kinds --write"""
    assert load_classifier(WEIGHTS).learnt == hash_texts(read_symptoms())


def test_every_label_and_cause_names_symptoms_that_there_are():
    known = {one.stem for one in FOLDER.glob("*.txt")}
    of_labels = [set(read_playbook(one).symptoms) for one in LABELS if one != NORMAL]
    of_causes = {one.symptom for one in read_causes().values() if one.symptom}
    assert set().union(*of_labels) | of_causes | {NONE, "newcomer"} == known


def test_symptoms_that_nobody_learned_from():
    """360 of 428 (0.841) when they were first read; 405 (0.946) among the three likeliest."""
    lines = [line.split("|", 1) for line in UNSEEN.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 428
    ranked = [
        sorted(scores, key=lambda one: -scores[one])
        for scores in (score_symptoms(make_plain(text)) for _, text in lines)
    ]
    first = [name == known[0] for (name, _), known in zip(lines, ranked, strict=True)]
    third = [name in known[:3] for (name, _), known in zip(lines, ranked, strict=True)]
    assert np.mean(first) >= 0.82
    assert np.mean(third) >= 0.93


@pytest.mark.parametrize(
    "question", ["is dev ok?", "what is wrong?", "what happened tonight?", "status please"]
)
def test_a_question_that_fits_any_trouble_complains_of_none(question):
    assert find_symptoms(question) == set()
    assert all(measure_symptoms(question, _incident(one)) < 0.1 for one in LABELS if one != NORMAL)


@pytest.mark.parametrize(
    ("question", "label", "other"),
    [
        ("the picture of the yard stutters and hangs", "congestion", "recon"),
        ("somebody hammers our recorder with passwords", "brute_force", "flapping"),
        ("nichts laesst sich mehr ueber den namen oeffnen", "name_resolution", "dos"),
        ("the panel shows ##### and comes back every few seconds", "flapping", "exfiltration"),
    ],
)
def test_what_is_complained_of_is_what_is_meant(question, label, other):
    plain = make_plain(question)
    assert measure_symptoms(plain, _incident(label)) > measure_symptoms(plain, _incident(other))
    assert label in find_symptoms(plain)
