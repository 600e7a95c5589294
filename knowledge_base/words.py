"""Words of technical text: what BM25 counts, what names a thing, and what a typing error meant."""

import re

WORD = re.compile(r"\w+(?:[.:/-]\w+)*")
_PART = re.compile(r"[^\W_]+")
_STOP = """a an and are as at be been but by can could did do does for from had has have how i if in into is it
its me my of on or our should so than that the their them then there these they this to was we were what when where
which who why will with would you your"""
STOP_WORDS = frozenset(_STOP.split())
# More words that no question is about: pronouns, auxiliaries, and what an apostrophe leaves ("zeek's", "don't").
# Passages are not cut without them, so that stores stay as they are.
_SMALL = """am couldn d didn doesn don hasn haven he her hers him his isn let ll m mine ours please re s shan she
shouldn t theirs us ve wasn weren won wouldn yours"""
SMALL_WORDS = STOP_WORDS | frozenset(_SMALL.split())
# A word that names one thing and no other: letters with digits ("0x0B", "E-431", "H-302") or capitals
# inside ("BadSecureChannelClosed"). Addresses, sizes and plain numbers name none.
_CODE = re.compile(
    r"(?=.*[A-Za-z])(?=.*\d)\w+(?:[-_]\w+)*|(?=.*[a-z][A-Z])\w+|\w+_\w+|"
    r"[A-UW-Za-uw-z]{1,2}\d{1,3}(?:\.\d{1,3}){1,2}"  # a parameter, "F5.20"; "V1.2" is a version
)
_AMOUNT = re.compile(r"\d+[a-zA-Z]{1,4}|(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}")
# A number in hex that is no amount: "0x0B", "0X107", "Ox107" with a letter for the zero, "0Bh"; "24h" is a day.
_HEX = re.compile(r"[0o]x0*([0-9a-f]{1,8})|(?=0[0-9a-f]|\d+[a-f])0*([0-9a-f]{1,8})h", re.IGNORECASE)
# A code whose letters and digits are printed apart: "E 04", "DN 25".
APART = re.compile(r"\b([A-Z]{1,3}) (\d{1,5})\b")

# A bus, a standard, a kind of plug: no table explains it, and no row is asked for by it.
_STANDARD = re.compile(
    r"rs-?(?:232|422|485)|ieee\d*|iec-?\d+|iso-?\d+|en-?\d+|ipv[46]|802\W?\d+\w*|cat-?\d\w?|rj-?\d+|"
    r"sha-?\d+|md5|utf-?\d+|wpa\d|tls[\dv.]*|snmpv\d|smbv?\d|x509|dnp-?3|s7comm\w*|opc-?ua|http[/-]?\d|"
    r"mqttv?\d|h\.?26[45]|ikev\d|oauth\d|pt-?1000?|usb-?\d\w*|m(?:8|12)",
    re.IGNORECASE,
)


def is_standard(word: str) -> bool:
    """Whether a word names a standard or a bus, which looks like a code.

    >>> [is_standard(one) for one in ("RS-485", "IPv4", "E-485")]
    [True, True, False]
    """
    return bool(_STANDARD.fullmatch(word))


def make_tokens(text: str) -> list[str]:
    """Cut technical text into lower-case words; compounds count whole and in parts, plurals as
    singulars.

    >>> make_tokens("Exceptions 0x0B and E-1042 on port 502")
    ['exception', '0x0b', 'e-1042', 'e', '1042', 'port', '502']
    """
    tokens: list[str] = []
    for whole in WORD.findall(text.lower()):
        parts = _PART.findall(whole)
        tokens += [whole, *parts] if len(parts) > 1 else parts
    return [singular(token) for token in tokens if token not in STOP_WORDS]


def singular(word: str) -> str:
    """An English word without the s of its plural; others as they are."""
    plural = (
        len(word) > 3
        and word.endswith("s")
        and not word.endswith(("ss", "us", "is"))
        and word.isalpha()
    )
    return word[:-1] if plural else word


_DIGIT = re.compile(r"\d")


def has_digit(word: str) -> bool:
    """Whether a word has a digit: no word of a language has."""
    return _DIGIT.search(word) is not None


def is_code(word: str) -> bool:
    """Whether a word names one thing and no other: an error code, a model, a status by name.

    >>> [is_code(one) for one in ("E-431", "0x0B", "F5.20", "BadSecureChannelClosed")]
    [True, True, True, True]
    >>> [is_code(one) for one in ("pump", "10.0.0.1", "502", "35s", "V1.2")]
    [False, False, False, False, False]
    """
    if _HEX.fullmatch(word):
        return True
    return bool(_CODE.fullmatch(word)) and not _AMOUNT.fullmatch(word)


def code_key(word: str) -> str:
    """A word of letters and digits in small letters and without marks, "" for other words: it is
    the same however a code is written.

    >>> code_key("G-05"), code_key("g05"), code_key("502"), code_key("reset")
    ('g05', 'g05', '', '')
    >>> code_key("0x0B"), code_key("0X000b"), code_key("0Bh"), code_key("24h")
    ('0xb', '0xb', '0xb', '24h')
    """
    if found := _HEX.fullmatch(word):
        return f"0x{found[1] or found[2]}".lower()
    key = squash(word)
    return key if re.search(r"[^\W\d]", key) and re.search(r"\d", key) else ""


def squash(word: str) -> str:
    """A word in small letters and without marks.

    >>> squash("ESP_ERR-TIMEOUT")
    'esperrtimeout'
    """
    return "".join(_PART.findall(word.lower().replace("_", "")))
