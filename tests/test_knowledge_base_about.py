"""What a document is about, and whether that is the device which is asked about."""

import pytest

from knowledge_base.about import find_about, fits
from knowledge_base.formats import Section
from knowledge_base.formats.markdown import cut_front_matter


@pytest.mark.parametrize(
    ("title", "about"),
    [
        ("Siemens SIMATIC S7-1200 System Manual", "Siemens SIMATIC S7-1200"),
        ("Moxa EDS-408A hardware installation guide", "Moxa EDS-408A"),
        ("Modicon M221 logic controller", "Modicon M221"),
        ("Network troubleshooting guide", ""),
        ("Site network plan 2024", ""),
        ("Modbus over RS-485, IEC-104 and IPv6", ""),
        ("ATT&CK T0814", ""),
    ],
)
def test_a_title_names_the_model_or_none(title, about):
    assert find_about(title, "manual", ()) == about


def test_headings_name_a_model_only_more_than_once():
    once = (Section(("E-431 supply low",), ""), Section(("E-432 hot",), ""))
    often = (Section(("Mounting the QX-9",), ""), Section(("Wiring the QX-9",), ""))
    assert (find_about("Manual", "m", once), find_about("Manual", "m", often)) == ("", "QX-9")


@pytest.mark.parametrize(
    ("about", "identity", "same"),
    [
        ("Norvik CX-20", "Norvik cx20-R", True),
        ("Norvik CX-20", "CX 20", True),
        ("Norvik CX-20", "Norvik CX-200", False),
        ("Norvik CX-20", "Siemens S7-1200", False),
        ("Norvik CX-20", "XCX-20", False),
        ("camera", "camera", True),
        ("camera", "plc", False),
    ],
)
def test_a_model_is_the_same_however_it_is_spelt(about, identity, same):
    assert fits(about, ["cell 4", identity]) is same


@pytest.mark.parametrize("text", ["# Pump", "---\ntitle: x\n---\n# Pump", "---\n: [\n---\n# Pump"])
def test_other_front_matter_is_text(text):
    front = cut_front_matter(text)
    assert (front.about, front.text) == ("", text)
