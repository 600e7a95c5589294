"""What a question wants, however it is worded: in odd order, with typing errors, politely or in a
hurry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import read_phrases

from assistant.questions.intents import read_intent, specific_words

# The rules were written with these in sight.
PHRASINGS = {
    "why": """
        why is the camera slow? | why is 192.168.1.195 behaving oddly?
        why does the download to the PLC fail? | what's wrong with the camera? | camera is slow
        what is going on with cam-1 | the plc does not answer | what happened to the gateway?
        what is the cause? | teh camera is laging | Reason for the outage of the broker?
        how come the panel is frozen | what is the matter with it | explain the alarm
        tell me about the camera | the HMI isn't responding | whats up with the printer
    """,
    "since": """
        since when? | when did it start? | how long has this been going on? | it began when?
        at what time did this happen | when was it first noticed? | since what time is it like that?
        sinse wen? | how long did it last? | is it still going on? | is it over?
        When did the trouble begin, exactly? | what time did that start
    """,
    "others": """
        which other devices? | are other devices affected? | who else is affected?
        is it only this device? | what else is involved? | is anyone else hit?
        which devices are involved? | any other machines with the same problem?
        does it affect others? | wich other devces | has it spread? | who is it talking to?
        which machines are affected
    """,
    "checks": """
        what should I check first? | what do I do now? | next steps? | how do I fix it?
        what can we do about it | first thing to check? | what would you recommend?
        should I unplug it? | where do I start? | what shoud i chek frist | how can this be solved?
        what to do? | any advice? | Check what first?
    """,
    "manual": """
        show me the manual | what does the manual say? | open the documentation
        which page of the manual? | where is this documented? | show the handbook | manaul please
        what are your sources? | the manual, show it to me | is there a guide for this?
    """,
    "before": """
        has this happened before? | did we have this before? | is this the first time?
        any similar incidents in the past? | how often does this happen?
        did it ever happen earlier? | hapened befor? | have we seen this before?
        what was it last time? | previous cases? | history of this device?
        this already occurred once?
    """,
    "attack": """
        is it an attack? | are we being hacked? | is this malware? | could it be a virus?
        attack or fault? | is this a security incident? | is someone attacking us?
        have we been compromised? | is it an atack | is the device infected?
        is it malicious or a technical problem?
    """,
    "certainty": """
        how sure are you? | are you certain? | how confident is that? | could you be wrong?
        is this a false alarm? | what else could it be? | can I trust this? | how do you know?
        how shure are you | what makes you think so? | what evidence do you have that it is true?
        could this be a mistake? | how likely is that?
    """,
    "usual": """
        what is normal for it? | what does it usually do? | what is its normal behaviour?
        how does it normally behave? | what's the baseline? | is this typical for it?
        waht is nromal for this device | compared to normal? | what is its usual traffic
    """,
    "numbers": """
        show the numbers | show me the data | give me the figures | what are the facts?
        show evidence | how many packets? | details please | how much traffic was there?
        show teh numbrs | what did you see exactly? | can I see the measurements
    """,
    "devices": """
        list devices | show all devices | which devices are there? | what devices do you know?
        list the machines | how many devices are on the network? | device list | lst devices
        give me an inventory
    """,
    "incidents": """
        list incidents | show all alarms | what incidents are there? | any alarms?
        give me a summary | overview | is everything ok? | what did you find?
        are there any problems? | list insidents | what is the worst incident? | open alarms
    """,
    "feedback": """
        mark as false alarm because we were testing | this is a false alarm
        false alarm, we ran a backup | mark it as normal because of maintenance
        that was our own test | acknowledge | acknowledge this
        shelve it for 2 hours because of maintenance | ignore this, it was planned
        that diagnosis is wrong | you are wrong | yes, that is correct | confirm this incident
        flag as false positive: scanner | mark as flase alarm becuase maintenance
    """,
    "help": """
        help | what can you do? | what can I ask? | how do I use this? | hello | who are you?
        thanks
    """,
    "": """
        what does exception code 02 mean? | how do I reset the gateway to factory settings?
        which register holds the temperature? | the weather in Paris | asdfgh qwerty | sing a song
        capital of France | what is Modbus? | default port of MQTT over TLS
    """,
}
# These were written after the rules; 56 of 61 were right at once, the rules for the other 5 were
# added then.
UNSEEN = {
    "why": """
        what's the reason my camera keeps freezing | the printer doesnt work anymore
        why cant i reach the plc | can you explain what happened with the gateway?
        somethings wrong with the panel | video keeps dropping out
    """,
    "since": """
        since what time has the camera been down? | when exactly did this begin
        how long is it already like this | what time did it break | begin when did it
        when did we first notice?
    """,
    "others": """
        are there others affected too? | what other machines suffer?
        which hosts are involved in this | just this one or more devices? | who else has it?
    """,
    "checks": """
        what now? what should we do | tell me the next step | what do you recommend?
        how can i repair this | which thing must I check first
    """,
    "manual": """
        where does the manual say that? | give me the documentation for it
        can I see the manual page | what does the handbook say about this
    """,
    "before": """
        is this the first time it happened? | did this ever happen before
        do we know similar cases? | was there a previous incident like this
    """,
    "attack": """
        are we under attack? | was it hacked | did somebody break in?
        is that an attack or a defect?
    """,
    "certainty": """
        are you sure about that | how certain is this | could it be a false alarm?
        might you be wrong here? | and how confident are you in this
    """,
    "usual": """
        what would be normal | what does it normally do | usual behaviour?
        is that normal for this camera?
    """,
    "numbers": """
        show me the figures please | can you give me details | what data do you have
        list the facts
    """,
    "devices": """
        show me the devices | what machines are on this network? | list of all devices please
    """,
    "incidents": """
        show the incidents | any open alarms? | what have you found | give an overview
    """,
    "feedback": """
        this was a false alarm | please mark it as false positive because of a test | acknowledge it
        snooze for 1 day because of works
    """,
    "help": """
        what can you do for me? | help me | hi
    """,
}


CASES = [
    (intent, question)
    for table in (PHRASINGS, UNSEEN)
    for intent, text in table.items()
    for question in read_phrases(text)
]


@pytest.mark.parametrize(("intent", "question"), CASES)
def test_a_question_is_understood(intent, question):
    assert read_intent(question).name == intent


@pytest.mark.parametrize(
    "question", ["", " ", "?", "!!!", "1234", "\x00\x01", "😀😀", "a" * 100_000, "why " * 50_000]
)
def test_odd_input_is_survived(question):
    assert read_intent(question).name in ("", "why")


@given(st.text(max_size=200))
def test_any_text_gets_an_intent_or_none(text):
    intent = read_intent(text)
    assert (intent.score == 0) == (intent.name == "")


@given(st.permutations("when did it begin".split()))  # noqa: SIM905
def test_order_does_not_matter(words):
    assert read_intent(" ".join(words)).name == "since"


def test_specific_words_are_those_a_manual_may_know():
    words = specific_words("why does the firmware download to 10.0.0.5 fail?")
    assert words == ["firmware", "download"]
    assert specific_words("what is wrong with it?") == []
