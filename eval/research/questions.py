"""The first paper's questions (section 3.1); see `eval.research.hypotheses` for their form."""

from collections.abc import Callable, Mapping

from eval.research.claims import (
    Claim,
    Place,
    StoredRuns,
    Verdict,
    answers,
    change,
    check,
    costs,
    decide,
    recalls,
    scores,
    search,
)
from eval.research.privacy import compare_texts, count_naming_prompts

SITE_TRAINER = (
    "a run in which the adapter is tuned on the site's own windows; `faultwise finetune transfer` tunes "
    "one, and `faultwise eval transfer` measures it with a share of labels, but the protocols of few "
    "windows do not call it"
)


def q1(runs: StoredRuns, llm: str) -> Verdict:
    """Does the tuned language model keep its quality on networks and devices that it never saw?

    Paper: Can a large model, once fine-tuned, adapt to different IoT devices? In which environments
    does it perform best?
    Rule: supported if it surely loses at most 0.10 binary macro-F1 from windows drawn at random to
    other networks, and surely calls at most 2 % of the windows of healthy devices never seen
    anomalous; not supported if one surely fails.
    Cannot decide: In which environment it is best; the report of leave-one-network-out has a row
    for each pair of networks.
    """
    name, ends = "binary_macro_f1", (Place("random"), Place("leave-one-network-out"))
    benign = Place("unseen-benign-device", "0 confirmed windows a device")
    loses = "from windows drawn at random to whole networks left out it loses at most 0.10"
    xgboost = "XGBoost loses at most 0.10 from random windows to other networks"
    healthy = "healthy devices never seen, at most 2 % false"
    return decide(
        check(loses, change(runs, llm, name, *ends), at_least=-0.10),
        check(healthy, scores(runs, llm, "false_share", benign), at_most=0.02),
        check(xgboost, change(runs, "xgboost", name, *ends), at_least=-0.10, beside=True),
    )


def q2(runs: StoredRuns, llm: str) -> Verdict:
    """Is a moderate amount enough, and do a tenth of wrong labels do little harm?

    Paper: Does fine-tuning require a large amount of data? How do data scale and quality impact
    detection?
    Rule: supported if 1,000 windows of a site surely add at most 0.05 macro-F1 to 200, and a tenth
    of wrong labels surely costs at most 0.05; not supported if one surely fails.
    Cannot decide: Amounts beyond what the captures hold.
    """
    more = (Place("few-shot", "200 windows"), Place("few-shot", "1000 windows"))
    wrong = (
        Place("label-noise", "0% of labels wrong"),
        Place("label-noise", "10% of labels wrong"),
    )
    gains = "the language model gains at most 0.05 from 200 to 1,000 labelled windows of a site"
    harm = "a tenth of wrong labels costs it at most 0.05"
    xgboost_gains = "XGBoost gains at most 0.05 from 200 to 1,000"
    xgboost_harm = "a tenth of wrong labels costs XGBoost at most 0.05"
    return decide(
        check(gains, change(runs, llm, "f1", *more, learns=True), at_most=0.05),
        check(harm, change(runs, llm, "f1", *wrong, learns=True), at_least=-0.05),
        check(xgboost_gains, change(runs, "xgboost", "f1", *more), at_most=0.05, beside=True),
        check(xgboost_harm, change(runs, "xgboost", "f1", *wrong), at_least=-0.05, beside=True),
        waits_for=SITE_TRAINER,
        pages=("transfer.md", "new-site.md"),
    )


def q3(runs: StoredRuns, llm: str) -> Verdict:
    """Does the search put what answers first, and do answers locate the cause and the device?

    Paper: If a vector library and a knowledge base are added, can problems be located better? The
    node requires resources.
    Rule: supported if the page that answers is surely among the first five for 80 %, nothing is
    surely found for at most 10 % of answerable questions, and device and cause are surely right in
    80 %; not supported if one surely fails.
    Cannot decide: What the same answers would be without the knowledge base; the cause is told by
    numbers before any document is read, so it would not change.
    """
    del llm
    silent = "at most 10 % of answerable questions find nothing"
    first = "among the first five for 80 % of the questions"
    device = "80 % of the answers are about the right device"
    cause = "80 % of the answers name a right cause"
    words = "words alone (BM25) find as much"
    return decide(
        check(first, search(runs, "recall_at_5"), at_least=0.80),
        check(silent, search(runs, "refused_wrongly"), at_most=0.10),
        check(device, answers(runs, "device"), at_least=0.80),
        check(cause, answers(runs, "cause"), at_least=0.80),
        check(words, search(runs, "recall_at_5", "words"), at_least=0.80, beside=True),
    )


def q4(runs: StoredRuns, llm: str) -> Verdict:
    """Does the language model keep up with a plant of a hundred devices and tell an anomaly within
    its first minute?

    Paper: Can the fine-tuned model meet real-time detection requirements? If there is latency, how
    can it be optimised?
    Rule: supported if it surely scores 10 windows a second or more and its median time to detection
    is surely at most 60 s; not supported if one surely fails.
    Cannot decide: Slower machines; the run names the machine that it was measured on. Anomalies
    never found have no delay.
    """
    fast = "a hundred devices give a hundred windows every ten seconds, so 10 a second"
    soon = "an alarm within the first minute of an anomaly, median of those found"
    return decide(
        check(fast, costs(runs, llm, "windows_per_s"), at_least=10),
        check(soon, scores(runs, llm, "time_to_detection_s"), at_most=60),
    )


def q5(runs: StoredRuns, llm: str) -> Verdict:
    """Are false alarms within what an operator bears, and is every kind of anomaly found at least
    half of the time?

    Paper: What are the false positive and false negative rates? Which anomaly types are
    challenging?
    Rule: supported if at most 1 % of normal windows are surely called anomalous, at most one false
    incident is surely raised per operator and ten minutes, and every label with 50 windows has a
    recall of 0.5; not supported if one surely fails.
    Cannot decide: Recall of one label has no interval here; its windows overlap and come from few
    incidents.
    """
    share = "at most 1 % of the normal windows are called anomalous"
    incidents = "at most one false incident per operator and ten minutes"
    every = "every label is found in half of its windows"
    xgboost = "XGBoost finds every label in half of its windows"
    return decide(
        check(share, scores(runs, llm, "false_share"), at_most=0.01),
        check(incidents, scores(runs, llm, "false_incidents_per_10_min"), at_most=1.0),
        check(every, recalls(runs, llm, windows=50), at_least=0.5),
        check(xgboost, recalls(runs, "xgboost", windows=50), at_least=0.5, beside=True),
    )


def q6(runs: StoredRuns, llm: str) -> Verdict:
    """Does the language model fit a small edge computer (1 GB of memory, 100 MB of storage) and
    keep up with a hundred devices?

    Paper: What are the computational, storage and energy costs? Can it run on resource-limited
    devices?
    Rule: supported if memory, storage and speed all keep their bounds as measured; not supported if
    one does not.
    Cannot decide: The memory of a whole process, which no run stores; `faultwise eval latency
    classification incidents` prints it, and printed 1.1 and 1.3 GB on two cores. Speed on another
    processor. Energy without RAPL is CPU seconds times stated watts, and the report says which.
    """
    watt_hour = "fitting and scoring a run's windows once takes at most a watt-hour"
    xgboost = "XGBoost scores 10 windows a second or more"
    return decide(
        check("at most 1 GB of memory", costs(runs, llm, "peak_memory_bytes"), at_most=1e9),
        check("at most 100 MB to store", costs(runs, llm, "model_bytes"), at_most=1e8),
        check("10 windows a second or more", costs(runs, llm, "windows_per_s"), at_least=10),
        check(watt_hour, costs(runs, llm, "energy_j"), at_most=3600, beside=True),
        check(xgboost, costs(runs, "xgboost", "windows_per_s"), at_least=10, beside=True),
    )


def q7(runs: StoredRuns, llm: str) -> Verdict:
    """Are anomalies found whose kind no model was ever shown?

    Paper: Can the model flexibly adapt to emerging anomaly patterns, or does it require periodic
    fine-tuning or retraining?
    Rule: supported if each kind left out is surely found in half of its windows by the best learner
    of the run, and the language model tuned without it does as well; not supported if one surely
    fails.
    Cannot decide: Kinds outside the sixteen of the taxonomy.
    """
    del llm

    def finds(says: str, model: str) -> Claim:
        every = Place("unseen-class", "every")
        return check(says, scores(runs, model, "binary_recall", every), at_least=0.5, beside=True)

    shown = "the shipped one was shown every kind, so no run can hide one from it"
    return decide(
        finds("XGBoost finds half of the windows of each kind it was never shown", "xgboost"),
        finds("the time transformer does", "time-transformer"),
        finds("normal alone as teacher (reconstruction) does", "reconstruction"),
        waits_for=f"adapters tuned without one label each; {shown}",
        pages=("drift.md", "new-network.md", "transfer.md"),
    )


def q8(runs: StoredRuns, llm: str) -> Verdict:
    """Does anything that names a device reach a model?

    Paper: How can IoT data privacy be protected during data collection and model deployment?
    Rule: supported if the classifier's texts of a capture are the same, letter by letter, after
    every address in it was changed, and no prompt of a writer holds an address or a name of its
    devices; not supported if one does.
    Cannot decide: What traffic alone betrays (a device's rhythm is its fingerprint), and what
    operators type into the chat. That nothing leaves the machine is tested with the network taken
    away (tests/test_house.py).
    """
    del runs, llm
    # The rule first looked at the classifier alone, and was kept; the writer's prompts came in when
    # somebody read one.
    renamed, naming = compare_texts(), count_naming_prompts()
    texts = (
        f"{renamed.differing} of {renamed.windows} texts differ "
        f"after {renamed.addresses} addresses were changed"
    )
    held = (
        f"{naming.naming} of {naming.prompts} messages to a writer, asked of each incident and each device of the "
        "shipped capture, hold an address, a name, a zone or the capture's; one is used only where it is given"
    )
    return decide(
        Claim(
            "the classifier's prompts: the shipped capture gives the same texts under other addresses",
            "fails" if renamed.differing else "holds",
            texts,
        ),
        Claim(
            "the writer's prompts: none holds an address or a name of a device, a zone or a file",
            "fails" if naming.naming else "holds",
            held,
        ),
    )


QUESTIONS: Mapping[str, Callable[[StoredRuns, str], Verdict]] = {
    **{"Q1": q1, "Q2": q2, "Q3": q3, "Q4": q4, "Q5": q5, "Q6": q6, "Q7": q7, "Q8": q8}
}
