"""Nothing without a source is shown: planted numbers, times, addresses, quotations and citations
are caught."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from assistant.diagnosis.citations import Citation, cite, fold, make_excerpt
from assistant.diagnosis.grounding import check, is_supported, read_quantities
from assistant.facts.fact import Fact
from knowledge_base.retriever import Passage

EXCERPT = "The unit answers within 500 ms. It holds 32 sessions."
MANUAL = Citation(1, "gateway.md", "4.2 Timeouts", 14, EXCERPT, "c1", "manual")
VOLUME = {"packets": 1204.0, "bytes": 1234567.0, "share": 0.4, "peer": "192.168.1.1", "port": 80.0}
WHEN = {"start_s": 1545466950.0, "duration_s": 300.0}  # 2018-12-22 08:22:30 UTC
WHO = {"name": "plc-2", "technique": "T0814", "mac": "aa:bb:cc:00:11:22"}
FACTS = (Fact("volume", "", VOLUME), Fact("when", "", WHEN, (1545466960.0,)), Fact("who", "", WHO))
GOOD = [
    "It sent 1,204 packets.",
    "It sent 1204 packets, 1.2 MB.",
    "It sent 1,234,567 bytes (1.23 MB).",
    "It sent 1,206 kB.",  # 1234567 / 1024, rounded
    "About 40 % went to 192.168.1.1:80.",
    "Since 2018-12-22 08:22:30 UTC.",
    "Since 22 December 2018, 08:22.",
    "At 2018-12-22T08:22:30Z it began, and lasted 5 minutes.",
    "At 08:22:40 the next window began.",
    "plc-2 is consistent with T0814.",
    "The MAC is AA-BB-CC-00-11-22.",
    "The manual says \u201cIt holds 32 sessions.\u201d [1]",
    "See gateway.md, 4.2 Timeouts, page 14 [1].",
    "IPv4 over RS-485 is ordinary.",
]
BAD = [
    ("It sent 1,205 packets.", "a wrong count"),
    ("It sent 12,040 packets.", "a wrong magnitude"),
    ("It sent 1.3 MB.", "a wrong rounding"),
    ("It sent 1.20 MB.", "more digits than the value has"),
    ("About 41 % went away.", "a wrong share"),
    ("It spoke to 192.168.1.2.", "a wrong address"),
    ("It spoke to 192.168.1.1:81.", "a wrong port"),
    ("It spoke to fe80::1.", "a wrong IPv6 address"),
    ("Since 08:23:30.", "a wrong time"),
    ("Since 2018-12-23.", "a wrong date"),
    ("Since 23 December 2018.", "a wrong date in words"),
    ("It holds 32 sessions.", "a manual's number, without quotation"),
    ("It holds 32 sessions [1].", "a manual's number, cited but not quoted"),
    ("The manual says \u201cIt holds 33 sessions.\u201d [1]", "a quotation that was changed"),
    ("The manual says \u201cReplace the pump.\u201d [1]", "an invented quotation without a number"),
    ('The manual says "Replace the pump." [1]', "an invented quotation in plain marks"),
    ("\u201cIt holds 32 sessions.\u201d", "a quotation without its citation"),
    ("Replace the pump [2].", "a citation that is not there"),
    ("Replace the pump [1][7].", "one of two citations is not there"),
    ("Replace the pump [1, 2].", "one of a list is not there"),
    ("See page 15 [1].", "a wrong page"),
    ("plc-3 is the cause.", "a wrong name"),
    ("It lasted 6 minutes.", "a wrong duration"),
    ("Three devices took part.", "a number in words"),
    ("It sent \uff11\uff12 packets.", "full-width digits"),
    ("It sent \u0661\u0662 packets.", "Arabic digits"),
]


@pytest.mark.parametrize("sentence", GOOD)
def test_what_has_a_source_stays_as_it_is(sentence):
    checked = check(sentence, FACTS, [MANUAL])
    assert (checked.text, checked.removed) == (sentence, ())


@pytest.mark.parametrize(("sentence", "why"), BAD)
def test_what_has_none_is_removed_and_listed(sentence, why):
    text = f"- It sent 1,204 packets. {sentence} Look at plc-2."
    checked = check(text, FACTS, [MANUAL])
    assert checked.removed == (sentence,), why
    assert checked.text == "- It sent 1,204 packets. Look at plc-2."


def test_list_numbers_are_no_claims_but_only_where_they_count():
    text = "**Check next**\n1. Look.\n2. Ask.\n3. Wait."
    assert check(text, (), []).text == text
    assert check("1. Look.\n4000. Ask.", (), []).removed == ("4000.",)
    assert check("1. Look.\n7. Ask.", (), []).removed == ("7.",)


def test_a_heading_goes_with_the_last_line_below_it():
    text = "Start.\n\n**Seen**\n- 99 packets.\n\n**Next**\n1. Look."
    assert check(text, (), []).text == "Start.\n\n\n**Next**\n1. Look."


def test_a_citation_after_the_full_stop_belongs_to_the_sentence_before():
    checked = check("Restart it. [9] Then look.", (), [])
    assert (checked.text, checked.removed) == ("Then look.", ("Restart it. [9]",))


@given(
    number=st.one_of(
        st.integers(0, 10**12).map(str),
        st.integers(1000, 10**9).map("{:,}".format),
        st.decimals(0, 10**6, places=2).map(str),
        st.ip_addresses().map(str),
        st.times().map(lambda moment: moment.strftime("%H:%M:%S")),
        st.dates().map(str),
    ),
    place=st.integers(0, 3),
)
def test_any_number_that_is_no_value_is_caught_wherever_it_stands(number, place):
    values = [v for fact in FACTS for v in (*fact.values.values(), *fact.windows)]
    assume(not all(is_supported(q, values) for q in read_quantities(f"x {number} y")))
    sentences = ["The camera is slow.", "It sent 1,204 packets.", "Look at plc-2."]
    planted = f"Note that {number} was seen."
    text = " ".join([*sentences[:place], planted, *sentences[place:]])
    checked = check(text, FACTS, [MANUAL])
    assert checked.removed == (planted,)
    assert checked.text == " ".join(sentences)


@given(st.text(max_size=300))
def test_any_text_is_survived_and_what_stays_passes_again(text):
    once = check(text, FACTS, [MANUAL])
    again = check(once.text, FACTS, [MANUAL])
    assert again.removed == ()


@given(st.integers(0, 10**9), st.sampled_from(["{}", "{:,}"]))
def test_a_value_supports_itself_however_it_is_written(value, form):
    (quantity,) = read_quantities(f"it was {form.format(value)} today")
    assert is_supported(quantity, [float(value)])
    assert not is_supported(quantity, [float(value + 1)])


def test_an_excerpt_is_verbatim_short_and_about_the_question():
    text = (
        '# Intro\n\nWelcome to the unit.\n\nThe red lamp blinks when the link is "down". Replace the cable then. '
        + "x " * 400
    )
    excerpt = make_excerpt(text, "what does a blinking red lamp mean?")
    assert excerpt.startswith("The red lamp blinks when the link is 'down'.")
    assert excerpt in fold(text)
    assert len(excerpt) <= 240


@given(st.text(max_size=600), st.text(max_size=40))
def test_every_excerpt_is_in_its_passage(text, question):
    excerpt = make_excerpt(text, question)
    assert excerpt in fold(text)
    rows = [fold(line) for line in text.splitlines() if line.lstrip().startswith("|")]
    assert len(excerpt) <= 240 or any(row.startswith(excerpt) for row in rows)


def test_the_row_of_a_code_is_quoted_to_its_last_cell_and_no_further():
    remedy = "Raise the time-out in `idf.py menuconfig`. " + "Check the cable. " * 11
    rows = (
        "| 0x106 | No such register | Read the map. |\n| 0x107 | No answer | {} |\n| 0x108 | Bad |"
    )
    excerpt = make_excerpt(rows.format(remedy), "what does 0X107 mean and what do I do?")
    assert excerpt == fold(f"0x107 No answer {remedy}")
    long = make_excerpt(rows.format(remedy * 3), "what does 0x107 mean?")
    assert len(long) <= 480
    assert long.endswith("Check the cable.")


def test_citations_are_numbered_from_one():
    first = Passage("a.md", "Lamps", None, "Green is good.", 1.0, "c", "manual")
    made = cite([first, replace(first, page=3)], "green?")
    assert [(one.number, one.excerpt, one.place) for one in made] == [
        (1, "Green is good.", "a.md, Lamps"),
        (2, "Green is good.", "a.md, Lamps, page 3"),
    ]
