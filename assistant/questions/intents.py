"""Read what an operator wants to know from the words alone; no model decides it.

A question becomes a bag of stems, so order does not matter; words that are no known word are
corrected to the nearest. Each rule names the groups of words that must all occur; the rule that
explains most words wins:

    "it began when?"  ->  {it, begin, when, <ask>}  ->  "when + begin|start|…"  ->  since
"""

import re
import unicodedata
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

MAX_CHARS = 2000

# "a | b + c" needs one of a, b and c; "!d" forbids d; ";" ends a rule; <ask> and <tell> are a
# sentence's two moods. A later intent wins a tie against an earlier one.
RULES: dict[str, str] = {
    "why": """
        why ; what + wrong | problem | matter | happen | cause | reason | fault | issue ; cause ; reason ; explain ;
        diagnose ; slow | lag | laggy | fail | down | offline | broken | break | odd | oddly | strange | weird | stuck
        | freeze | frozen | drop | timeout | unreachable | unresponsive | alarm | misbehave | silent | dead ; not +
        work | answer | respond | reach | connect | reply ; what + go + on ; what + up ; how + come ; root + cause ;
        tell + about ;
        explain + what | happen | you + what | can | happen ; something | anything + wrong ; wrong + with ;
        act | play + up ; is | look | not + ok | okay | fine | alright | well | healthy | happy ; healthy |
        sick
    """,
    "since": """
        since + when ; when ; when + start | begin | first | happen | occur | stop | notice | appear | end | fail |
        break | last ; how + long ; what + time + !is ; at + which | what + time | moment ; start | begin + time |
        date ; onset ; last + long ; for + how + long ; since + what | which ; still + go | run | happen | on | active ;
        is + over ; <ask> + since ; how + long + already | like | be ; when + first + we | notice | see ; when + do +
        first + we | notice
    """,
    "others": """
        which | what + other ; other | else | more + device | machine | host | unit | equipment ; anything | anyone |
        anybody | who | what | which + else ; which | what | how + device | machine | host + affect | involve | hit |
        suffer | concern | impact | touch ; who | what | which + affect | involve | hit | impact ; only + device | one
        | it | machine ; spread ; is | does + only | just + this | it ; who + talk | contact | attack | flood | scan |
        send | cause | do | behind ; with + whom | who ; others ; where + come + from ; other | else | more | same +
        device | machine | unit + problem | trouble | alarm | fault | same
    """,
    "checks": """
        what | which | where + check | inspect | verify | look | try + !normal ; what | which + do | check | try +
        first | next | now ; what + should | can | must | shall + do ; next + step ; first + step ; how + fix | repair
        | solve | resolve | remedy | correct | stop ; what + to + do ; where + start | begin + !when ; recommend |
        advice | advise | suggest | recommendation ; fix + it ; what + action | measure ; check | do + first ; how +
        get + rid ; should | must + i | we + do | check | check | call | unplug | restart | reboot | replace ; help +
        me + fix
    """,
    "manual": """
        manual ; document | documentation | handbook | datasheet | instruction | guide ; show | open | read | see |
        find + manual | document | page ; what + manual | document | handbook + say ; which + page | section | chapter
        ; source | citation | reference | quote
    """,
    "before": """
        before + happen | see | have | occur | ever | this | already ; ever + happen | see | have | occur ; again +
        happen | first ; previous | previously | past | earlier | similar | history | recur | repeat | known +
        incident | case | occurrence | event | time | problem | this | it | happen ; last + time ; first + time + is |
        this | ever | or ; history ; already + happen | have | see ; seen + before ; how + often ; had + this ; happen
        + again ; similar | past | previous | earlier | before + incident | case | problem | event + any | the | in |
        other | have ; already | before + happen | occur
    """,
    "attack": """
        attack | hack | hacker | malware | virus | malicious | intruder | intrusion | compromise | infect | botnet |
        breach | cyber | hijack ; is | are | could | have | be | it + attack | hack | malware | virus | malicious |
        intruder | compromise | infect | botnet | breach | hijack ; security + incident | problem | issue ; fault + or
        ; attack + or ; technical | hardware + or | security ; bad + actor ; sabotage ; someone | somebody + break |
        inside | in | do | behind ; under + attack
    """,
    "certainty": """
        how + sure | certain | confident | reliable | likely | true | trust | know ; sure | certain | confident |
        confidence | probability | certainty ; are + sure ; can + trust | wrong | believe | rely ; could | might |
        maybe | may + wrong | false | mistake ; <ask> + false + alarm | positive ; what + else | other + could | be ;
        proof | prove | evidence + what | which | have | is ; what + make + think ; rule + out ; <ask> + mistake ; how
        + know ; else + could | might + be
    """,
    "usual": """
        normal | usual | usually | normally | typical | typically | ordinary | baseline | regular ; what + normal |
        usual | usually | normally | typical | baseline ; how + normally | usually ; compare + before | normal | usual
        ; normal + it | for | behaviour | behavior | traffic
    """,
    "numbers": """
        number | figure | data | detail | statistic | stats | value | measurement | metric ; show | give | see | list
        + number | figure | data | detail | evidence | fact | statistic | stats | value | measurement | metric ;
        evidence | fact ; how + many | much ; what + see | measure | observe ; raw + data | number ; traffic + show |
        much
    """,
    "devices": """
        list | show | all | every | name | give + device | machine | host | asset | equipment + !affect + !other ;
        which | what | how + device | machine | host | asset + there | have | see | know | many | network | capture ;
        who + there | network ; inventory ; device + overview | status | state
    """,
    "incidents": """
        list | show | all | any | every | open | current + incident | alarm | alert | problem | anomaly | event |
        finding ; which | what | how + incident | alarm | alert | anomaly | finding + there | have | many | open | see
        ; overview | summary | summarise | summarize ; what + find | detect ; everything + ok | fine | alright | good
        | normal ; worst + incident | problem | alarm ; any + problem | trouble | alarm | incident | news ;
        what + have + you + find | see | detect
    """,
    "feedback": """
        <tell> + false + alarm | positive ; mark | flag | label | set | record | note | report + false | normal |
        confirm | right | wrong | correct | real | true | benign | expect | test | maintenance ; acknowledge |
        ack + !why ; shelve | snooze | mute | suppress ; <tell> + ignore | dismiss | close + it | this |
        that | them | alarm | alert | incident | warning | for | because ; <tell> + confirm |
        correct | right + is | it | this | diagnosis | incident | alarm ; <tell> + diagnosis | answer | verdict | you
        + wrong | incorrect ; <tell> + is | was + we | our | my + test | maintenance | backup | update | scan ; <tell>
        + expect | intend | plan | harmless | benign ; feedback
    """,
    "help": """
        help ; what + can + you + !explain ; what + can | may + ask ; how + use | work + you | this | tool | assistant ;
        who | what + are + you ; command | option ; hello | hi | hey | moin | greetings ; thanks | thank
    """,
}

# Irregular forms, frequent misspellings, and words that mean the same here.
_FORMS = """
    anomalies:anomaly began:begin beginning:begin begun:begin broke:break came:come causing:cause did:do does:do
    doing:do done:do dropped:drop dropping:drop everybody:everyone failure:fail found:find goes:go going:go had:have
    has:have ip:address ips:address lagging:lag lst:list occurred:occur other's:other planned:plan saw:see seen:see
    sick:wrong stopped:stop stuff:thing teh:the unplugged:unplug was:is wen:when were:are
"""
_CONTRACTIONS = (
    (r"\b(what|who|when|how|it|that)'?s\b", r"\1 is"), (r"\bcan'?t\b", "can not"), (r"\bi'?m\b", "i am"),
    (r"\b(is|are|does|do|did|has|have|was|were|could|would|should)n'?t\b", r"\1 not"), (r"\bwon'?t\b", "will not"),
    (r"\bwe'?ve\b", "we have"), (r"\byou'?re\b", "you are"), (r"\bhw\b", "how"), (r"\bwat\b", "what"),
    (r"\bu\b", "you"),
)  # fmt: skip
_ASKING = re.compile(
    r"(?:is|are|was|were|could|can|may|might|do|does|did|has|have|had|will|would|should|shall|must|am"
    r"|why|what|when|where|which|who|whom|how|since)"
)
_COMMANDS = frozenset((
    "mark", "flag", "label", "set", "record", "note", "acknowledge", "ack", "shelve", "ignore",
))  # fmt: skip
_SHORT_WORDS = frozenset((
    "a", "an", "the", "and", "or", "of", "to", "in", "it", "is", "on", "at", "for", "my", "our",
    "me", "plant",
))  # fmt: skip
_ORDINARY = frozenset((
    "please", "behaving", "behave", "with", "from", "that", "this", "there", "network", "plant",
    "very",
))  # fmt: skip


@dataclass(frozen=True)
class Intent:
    """What is wanted: a key of ``RULES``, or "" where no rule speaks; ``score`` is how many word
    groups say so."""

    name: str
    score: int
    words: frozenset[str]


def read_intent(question: str) -> Intent:
    """Find what a question wants.

    >>> read_intent("it began when?").name, read_intent("Hw sure are you??").name
    ('since', 'certainty')
    """
    words = _bag(question)
    best = Intent("", 0, words)
    for name, rules in _rules().items():
        score = max((_score(rule, words) for rule in rules), default=0)
        if score and score >= best.score:
            best = Intent(name, score, words)
    return best


def specific_words(question: str) -> list[str]:
    """Words of a question that no rule knows: what it is about, if it is about more than that
    something is wrong.

    >>> specific_words("why does the download to 10.0.0.5 fail?"), specific_words("why is it slow?")
    (['download'], [])
    """
    words = re.findall(r"(?<![\w.:-])[^\W\d_]{4,}(?![\w.:]*\d)", question[:MAX_CHARS].lower())
    return [word for word in words if word not in _ORDINARY and stem(word) not in _vocabulary()]


@cache
def words_of(name: str) -> frozenset[str]:
    """The words that an intent's rules know, by their stems."""
    rules = _rules().get(name, ())
    return frozenset(word for rule in rules for group in rule for word in group if word.isalpha())


@cache
def _rules() -> dict[str, tuple[tuple[frozenset[str], ...], ...]]:
    return {
        name: tuple(
            tuple(frozenset(word.strip() for word in group.split("|")) for group in rule.split("+"))
            for rule in rules.split(";")
        )
        for name, rules in RULES.items()
    }


@cache
def _forms() -> dict[str, str]:
    return dict(pair.split(":") for pair in _FORMS.split())


@cache
def _vocabulary() -> frozenset[str]:
    return frozenset().union(*map(words_of, RULES)) | _SHORT_WORDS


def _score(rule: tuple[frozenset[str], ...], words: frozenset[str]) -> int:
    forbidden = {word[1:] for group in rule for word in group if word.startswith("!")}
    needed = [group for group in rule if not any(word.startswith("!") for word in group)]
    if forbidden & words or not all(group & words for group in needed):
        return 0
    return len(needed)


def _bag(question: str) -> frozenset[str]:
    text = unicodedata.normalize("NFKC", question[:MAX_CHARS]).lower().replace("\u2019", "'")
    for pattern, plain in _CONTRACTIONS:
        text = re.sub(pattern, plain, text)
    words = re.findall(r"[^\W\d_]+", text)
    asked = (words[:1] and _ASKING.fullmatch(words[0])) or (
        text.rstrip().endswith("?") and not _COMMANDS & set(words[:2])
    )
    return frozenset(stem(word) for word in words) | {"<ask>" if asked else "<tell>"}


@cache
def stem(word: str) -> str:
    """A word as the rules know it: its base form, or the known word that it most resembles."""
    vocabulary = _vocabulary()
    forms = [
        _forms().get(word, word),
        *(_cut(word, ending) for ending in ("s", "es", "ed", "d", "ing", "ly")),
    ]
    for form in forms:
        if form in vocabulary:
            return form
    for form in dict.fromkeys(form for form in forms if len(form) > 3):
        near = get_close_matches(form, _by_length(len(form)), n=1, cutoff=0.8)
        if near:
            return near[0]
    return word


def _cut(word: str, ending: str) -> str:
    return word.removesuffix(ending) if len(word) > len(ending) + 2 else word


@cache
def _by_length(length: int) -> tuple[str, ...]:
    return tuple(
        sorted(word for word in _vocabulary() if len(word) > 3 and abs(len(word) - length) <= 1)
    )
