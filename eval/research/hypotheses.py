"""The first paper's hypotheses (section 3.2) and questions (section 3.1), each decided by a function.

A function takes the stored runs and the name of the language model that is asked about. Its
docstring is what `faultwise eval hypotheses` prints: the question, the paper's words, the rule and
what these runs cannot decide. Rules and bounds were fixed before any run. A number that is missing
keeps a hypothesis open, and so does a run that does not exist.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence

from eval.research.claims import (
    LOCO,
    Place,
    StoredRuns,
    Verdict,
    advantages,
    answers,
    change,
    check,
    costs,
    decide,
    scores,
    search,
    task_gains,
)
from eval.research.questions import QUESTIONS, SITE_TRAINER
from traffic.errors import UserError

_TRADITIONAL = ("rules", "one-line-rule", "ewma", "isolation-forest")
_LEARNING = ("knn", "random-forest", "xgboost")
_BENIGN = Place("unseen-benign-device", "0 confirmed windows a device")
_SHOTS = {shots: Place("few-shot", f"{shots} windows") for shots in (0, 200, 1000)}
_SECOND_QUARTER = Place("drift", "quarter 2, learned on the first")
_LAST_QUARTER = Place("drift", "quarter 4, learned on the first")
_LAST_LEARNED_AGAIN = Place("drift", "quarter 4, learned again up to it")


def h1(runs: StoredRuns, llm: str) -> Verdict:
    """Is the tuned language model better than every rule, statistic and classical model on captures
    never seen, and than its own base?

    Paper: Fine-tuning a large model significantly improves accuracy and recall of anomaly detection
    over traditional methods.
    Rule: supported if its paired advantage is surely above 0 over each of them; not supported if
    surely not above 0 over one.
    Cannot decide: The shipped model has 3.3 M parameters. What a large one would do is decided by a
    run with `--models llm:FOLDER` and `--llm llm:FOLDER` here.
    """
    all_of_them = (*_TRADITIONAL, *_LEARNING)
    normal_or_not = "it tells normal from anomalous better than each traditional model"
    names = "it names the anomaly better than each traditional model that can"
    finds = "it finds more of the anomalies than each traditional model that learns"
    base = "tuning made it better than its base"
    return decide(
        check(normal_or_not, advantages(runs, llm, all_of_them, "binary_macro_f1"), above=0.0),
        check(names, advantages(runs, llm, ("rules", *_LEARNING), "f1"), above=0.0),
        check(finds, advantages(runs, llm, _LEARNING, "binary_recall"), above=0.0),
        check(base, advantages(runs, llm, ["zero-shot"], "f1"), above=0.05),
    )


def h2(runs: StoredRuns, llm: str) -> Verdict:
    """Do 200 labelled windows of a new site bring a model near to what 1,000 bring?

    Paper: A moderate amount of IoT anomaly data can greatly improve generalisation and keep
    accuracy high across environments.
    Rule: supported if 200 windows surely add 0.10 macro-F1 to none, and 1,000 surely add at most
    0.05 to 200; not supported if either surely fails.
    Cannot decide: How many windows an operator can truly label, and whether those are right.
    """
    first, more = (_SHOTS[0], _SHOTS[200]), (_SHOTS[200], _SHOTS[1000])
    helps = "200 labelled windows of the new site help the language model by 0.10"
    little = "a further 800 add at most 0.05"
    xgboost = "200 windows help XGBoost by 0.10"
    transformer, other = "200 windows help the time transformer by 0.10", "time-transformer"
    return decide(
        check(helps, change(runs, llm, "f1", *first, learns=True), at_least=0.10),
        check(little, change(runs, llm, "f1", *more, learns=True), at_most=0.05),
        check(xgboost, change(runs, "xgboost", "f1", *first), at_least=0.10, beside=True),
        check(transformer, change(runs, other, "f1", *first), at_least=0.10, beside=True),
        waits_for=SITE_TRAINER,
        pages=("transfer.md", "new-site.md"),
    )


def h3(runs: StoredRuns, llm: str) -> Verdict:
    """Does the search find the page that answers, within a second, and are answers right and
    sourced?

    Paper: In an isolated network, a local LLM with a vector library speeds up troubleshooting at
    little cost beside the LLM.
    Rule: supported if all five are surely kept and troubleshooting was timed with people; the five
    alone do not show speed.
    Cannot decide: Whether a person is faster. `faultwise eval latency answer` prints how long an
    answer takes.
    """
    del llm
    page = "the page that answers is among the first five for 80 % of the questions"
    refused = "four of five questions that nothing answers are refused"
    second = "a question is searched within a second"
    right = "four of five answers have cause, standing and device right"
    sourced = "99 % of the answers hold no number or quotation without a source"
    people = "a study in which people solve the same incidents with and without it"
    return decide(
        check(page, search(runs, "recall_at_5"), at_least=0.80),
        check(refused, search(runs, "refused_rightly"), at_least=0.80),
        check(second, search(runs, "seconds_per_question"), at_most=1.0),
        check(right, answers(runs, "right"), at_least=0.80),
        check(sourced, answers(runs, "sourced"), at_least=0.99),
        waits_for=f"{people}; no run of this harness times a person",
    )


def h4(runs: StoredRuns, llm: str) -> Verdict:
    """Does the tuned language model raise fewer false alarms than rules and statistics, without
    finding less?

    Paper: The false positive rate of a fine-tuned large model is substantially lower than that of
    statistical or rule-based methods.
    Rule: supported if its share of false alarms is surely lower by 0.01 than each of theirs on
    captures never seen and on healthy devices never seen, and it surely finds half of the anomalous
    windows; not supported if one surely fails.
    Cannot decide: The share counts what is said of windows, abstentions too, as the paper's rate
    does; what operators see is beside it. Alarms at a real plant; the captures are public sets,
    simulated and emulated plants.
    """
    fewer = "fewer normal windows are called anomalous, by 1 % of them, on captures never seen"
    finds = "it still finds half of the anomalous windows, so that silence is no victory"
    alarms = "fewer false alarms for each device and day, abstentions being none"
    aim = "a healthy device calling a dead service: at most 3 % false at 75 % of C&C found"
    at_recall, dead = "false_share_at_recall_75", Place("dead-service")
    share, by_day, healthy = (
        "false_share",
        "false_per_device_day",
        "the same on healthy devices never seen",
    )
    return decide(
        check(fewer, advantages(runs, llm, _TRADITIONAL, share), above=0.01),
        check(healthy, advantages(runs, llm, _TRADITIONAL, share, _BENIGN), above=0.01),
        check(finds, scores(runs, llm, "binary_recall"), at_least=0.50),
        check(alarms, advantages(runs, llm, _TRADITIONAL, by_day), above=0.0, beside=True),
        check(aim, scores(runs, llm, at_recall, dead), at_most=0.03, beside=True),
    )


def h5(runs: StoredRuns, llm: str) -> Verdict:
    """Is an adapter tuned on several machines as good as one tuned on a single machine, for less
    work on each?

    Paper: Distributed fine-tuning reduces the computational burden on IoT devices without
    significantly impacting detection performance.
    Rule: supported if its macro-F1 is surely at most 0.02 lower and the CPU seconds of each machine
    are surely fewer.
    Cannot decide: What stored runs hold of it, for they hold nothing: `python -m
    eval.research.federate` measures adapters merged from several sites, and two processes of
    `finetune sft --spread` give the losses of one by construction. Nothing is trained on the watched
    devices here in any case.
    """
    del runs, llm
    measured = "`python -m eval.research.federate`, with CPU seconds of each machine"
    return decide(
        waits_for=f"several seeds and recorded sites of {measured}", pages=("federate.md",)
    )


def h6(runs: StoredRuns, llm: str) -> Verdict:
    """Do models lose macro-F1 from a capture's second quarter to its last, and does learning again
    bring it back?

    Paper: Accuracy in detecting new types of anomalies degrades over time, but incremental
    fine-tuning can restore performance.
    Rule: supported if the language model surely loses 0.05 and incremental tuning surely brings
    0.05 back; not supported if one surely fails.
    Cannot decide: Months. The captures last from minutes to a day; what ages there is a day's
    rhythm, not a plant.
    """
    aged, learned = (_SECOND_QUARTER, _LAST_QUARTER), (_LAST_QUARTER, _LAST_LEARNED_AGAIN)
    falls = "the language model, as it was, falls by 0.05 from the second quarter to the last"
    regains = "tuned again up to it, it regains 0.05 in the last quarter"
    too, again = "XGBoost falls by 0.05", "learning again brings XGBoost 0.05"
    return decide(
        check(falls, change(runs, llm, "f1", *aged), at_most=-0.05),
        check(regains, change(runs, llm, "f1", *learned, learns=True), at_least=0.05),
        check(too, change(runs, "xgboost", "f1", *aged), at_most=-0.05, beside=True),
        check(again, change(runs, "xgboost", "f1", *learned), at_least=0.05, beside=True),
        waits_for="a run of the drift protocol that tunes again by `faultwise finetune refresh`",
        pages=("drift.md", "new-network.md", "transfer.md"),
    )


def h7(runs: StoredRuns, llm: str) -> Verdict:
    """Does an adapter tuned on detection and class together name anomalies better than one tuned on
    classes alone?

    Paper: Multi-task fine-tuning (detection and classification in parallel) further improves the
    identification of specific anomalies.
    Rule: supported if its paired macro-F1 is surely above that of the single-task adapter of the
    same recipe and data; not supported if surely not above. Over the labels of the anomalous
    windows, each called by its likeliest anomaly: one that learned classes alone cannot tell normal.
    Cannot decide: Whether both tasks help a model of another size, or one tuned for longer.
    """
    del llm
    gains = task_gains(runs)
    tunes = "`python -m finetune.pocket.single_task --work WORK --out DIR` tunes both"
    then = f"`faultwise eval detection --protocol {LOCO.protocol} --models llm:DIR/joint,llm:DIR/class`"
    waits = f"an adapter tuned on the class alone: {tunes}, and {then} compares them"
    names = "it names anomalous windows better than the one tuned on classes alone"
    claims = [check(names, gains, above=0.0)] if gains.estimates else []
    return decide(*claims, waits_for="" if claims else waits, pages=("two-tasks.md",))


def h8(runs: StoredRuns, llm: str) -> Verdict:
    """Are the windows of a hundred devices judged within two seconds, and is an anomaly told within
    two seconds of its beginning?

    Paper: The fine-tuned model is suitable for real-time detection, with a response time of 1-2
    seconds for most anomalies.
    Rule: supported if both are surely kept; not supported if one surely is not.
    Cannot decide: The second number counts the ten seconds of a sample, which both papers ask for;
    computing is the first alone. How long an answer in words takes is printed by
    `faultwise eval latency answer`.
    """
    fast = "50 windows a second or more, so that a hundred devices take two seconds every ten"
    soon = (
        "from the beginning of an anomaly to the end of the first window with an alarm, "
        "median of those found, two seconds"
    )
    return decide(
        check(fast, costs(runs, llm, "windows_per_s"), at_least=50),
        check(soon, scores(runs, llm, "time_to_detection_s"), at_most=2),
    )


HYPOTHESES: Mapping[str, Callable[[StoredRuns, str], Verdict]] = {
    **{"H1": h1, "H2": h2, "H3": h3, "H4": h4, "H5": h5, "H6": h6, "H7": h7, "H8": h8},
    **QUESTIONS,
}


def find_hypotheses(names: Sequence[str]) -> list[str]:
    """The hypotheses of some names, whatever their case; all where none is named.

    Raises:
        UserError: there is none of such a name.
    """
    if unknown := [name for name in names if name.upper() not in HYPOTHESES]:
        raise UserError(
            f"no hypothesis is called {', '.join(unknown)}; "
            f"expected any of {', '.join(HYPOTHESES)}; correct the name"
        )
    return [name.upper() for name in names] or list(HYPOTHESES)


MARKS = {"holds": "+", "fails": "-", "open": "?"}


def render_verdict(name: str, verdict: Verdict) -> str:
    """A verdict as text: each claim with its mark (+ holds, - fails, ? open) and its numbers."""
    document = inspect.getdoc(HYPOTHESES[name]) or ""
    lines = [f"{name}  {verdict.word.upper()}"]
    lines += [f"  {line}" for line in document.splitlines() if line]
    if verdict.waits_for:
        lines.append(f"  Waits for: {verdict.waits_for}")
    if verdict.pages:
        lines.append(
            f"  Near to it: {', '.join(f'docs/research/{page}' for page in verdict.pages)}"
        )
    for claim in verdict.claims:
        note = " (beside: decides nothing)" if claim.beside else ""
        lines += [f"  [{MARKS[claim.state]}] {claim.says}{note}", f"      {claim.text}"]
    return "\n".join(lines)
