"""Logins over SMB 1 and 2, which Windows shares files by: who asked to be let in, and what the server said.

[MS-CIFS] 2.2.4.53, [MS-SMB] 2.2.4.6, [MS-SMB2] 2.2.5, [MS-NLMP] 2.2.1; over NetBIOS RFC 1002, 4.3:

    length 4 | FF 'SMB' command 1 status 4 flags 1 ... mid 2 | words, bytes
    length 4 | FE 'SMB' ... status 4 command 2 ... flags 4 ... message 8 | body

NTLM takes three messages: a client begins, a server challenges ("more processing required"), and the
third bears the account and its proof. Of these the third is the login. The account's name is kept,
as an operator asks for it; the proof differs each time and is read by nobody.
"""

import numpy as np
import pandas as pd

from traffic.pcap.headers import TCP
from traffic.pcap.messages import Messages
from traffic.pcap.protocols.dns import read_netbios_name
from traffic.pcap.protocols.protocol import (
    ANSWER,
    ASK,
    OTHER,
    SESSION,
    SKIP,
    Heads,
    Identity,
    Protocol,
    first_alike,
    make_rows,
    read_text,
    select_distinct,
    starts_with,
)

LOGIN, CALL = 1, 2
FUNCTIONS = {LOGIN: "login", CALL: "NetBIOS session"}
_MORE = 0xC0000016
_LOGIN_REFUSALS = {  # [MS-ERREF] 2.3.1
    0xC0000022: "STATUS_ACCESS_DENIED: access denied",
    0xC000005E: "STATUS_NO_LOGON_SERVERS: no domain controller is there to ask",
    0xC0000064: "STATUS_NO_SUCH_USER: no such user",
    0xC000006A: "STATUS_WRONG_PASSWORD: wrong password",
    0xC000006D: "STATUS_LOGON_FAILURE: user name or password wrong",
    0xC000006E: "STATUS_ACCOUNT_RESTRICTION: the account may not log in so",
    0xC000006F: "STATUS_INVALID_LOGON_HOURS: not at this time of day",
    0xC0000070: "STATUS_INVALID_WORKSTATION: not from this machine",
    0xC0000071: "STATUS_PASSWORD_EXPIRED: the password has expired",
    0xC0000072: "STATUS_ACCOUNT_DISABLED: the account is disabled",
    0xC000015B: "STATUS_LOGON_TYPE_NOT_GRANTED: the account may not log in over the network",
    0xC000018D: "STATUS_TRUSTED_RELATIONSHIP_FAILURE: trust with the domain is broken",
    0xC0000192: "STATUS_NETLOGON_NOT_STARTED: the logon service does not run",
    0xC0000193: "STATUS_ACCOUNT_EXPIRED: the account has expired",
    0xC0000199: "STATUS_NOLOGON_WORKSTATION_TRUST_ACCOUNT: an account of a machine",
    0xC0000224: "STATUS_PASSWORD_MUST_CHANGE: the password must be changed first",
    0xC0000234: "STATUS_ACCOUNT_LOCKED_OUT: the account is locked out",
    0xC0000413: "STATUS_AUTHENTICATION_FIREWALL_FAILED: not allowed on this machine",
    # Error class and code of servers before Windows NT ([MS-CIFS] 2.2.2.4).
    0x00020002: "ERRbadpw: user name or password wrong",
    0x00050001: "ERRnoaccess: access denied",
    0x08BF0002: "ERRaccountExpired: the account has expired",
    0x08C00002: "ERRbadClient: not from this machine",
    0x08C10002: "ERRbadLogonTime: not at this time of day",
    0x08C20002: "ERRpasswordExpired: the password has expired",
}
_NETBIOS = 0x10000000  # added to an error of a NetBIOS session
REFUSALS = {
    **_LOGIN_REFUSALS,
    0xC000000D: "STATUS_INVALID_PARAMETER: a request that it does not understand",
    0xC00000BB: "STATUS_NOT_SUPPORTED: not supported",
    0xC00000D0: "STATUS_REQUEST_NOT_ACCEPTED: no further session possible",
    0xC0000203: "STATUS_USER_SESSION_DELETED: the session was ended",
    0xC0000205: "STATUS_INSUFF_SERVER_RESOURCES: too few resources",
    0xC000035C: "STATUS_NETWORK_SESSION_EXPIRED: the session has expired",
    _NETBIOS + 0x80: "not listening on the called name",
    _NETBIOS + 0x81: "not listening for the calling name",
    _NETBIOS + 0x82: "no such called name",
    _NETBIOS + 0x83: "too few resources",
    _NETBIOS + 0x8F: "unspecified error",
}
_HEAD_BYTES = 8
_CALLS, _AGREES, _REFUSES = 0x81, 0x82, 0x83  # of a NetBIOS session
_SMB1, _SMB2 = 0xFF534D42, 0xFE534D42
_SETUP1, _SETUP2 = 0x73, 1
_BODY = 1536  # bytes of a login that are looked at
_AT_ONCE = 4096  # whose texts are in memory together
_SEAL = b"NTLMSSP\0"
_BEGINS, _CHALLENGES, _PROVES = 1, 2, 3
_MOST_NAME = 512
_CALL_KEY = 1 << 40
_PLAIN_WORDS = 13  # of a login of SMB 1 without extended security


def _message_bytes(head: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The length of a session's message that is SMB's, or of one that opens and keeps the session."""
    kind, size = head[:, 0], head[:, 1] << 16 | head[:, 2] << 8 | head[:, 3]
    marked = (head[:, 5] == ord("S")) & (head[:, 6] == ord("M")) & (head[:, 7] == ord("B"))
    marked &= (head[:, 4] >= 0xFC) | (known < 5)
    carries = (kind == 0) & (marked | (known < 8) | (size == 0))
    session = (kind >= _CALLS) & (kind <= 0x85) & (size <= 512)
    return np.where((carries | session) & (known >= 4), 4 + size, 0)


def _fits(heads: Heads) -> np.ndarray:
    """SMB's mark behind a length, or a call of a NetBIOS session by two coded names."""
    marks = (b"\xffSMB", b"\xfeSMB")
    found = starts_with(b"\x81\0\0\x44\x20")(heads)
    return found | starts_with(*marks, at=4)(heads) | starts_with(*marks, at=4, side="resp")(heads)


def _read(messages: Messages) -> pd.DataFrame:
    """A row per login, and per call of a NetBIOS session; the name is the account's, or who is called."""
    n, first, mark = len(messages), messages.u8(0), messages.u32(4)
    one = (first == 0) & (mark == _SMB1) & (messages.u8(8) == _SETUP1)
    two = (first == 0) & (mark == _SMB2) & (messages.u16(16, "<") == _SETUP2)
    answers = np.where(one, messages.u8(13) & 0x80 > 0, messages.u32(20, "<") & 1 > 0)
    status = np.where(one, messages.u32(9, "<"), messages.u32(12, "<"))
    role = np.where(one | two, np.where(answers, ANSWER, ASK), SKIP)
    role = np.where((role == ANSWER) & ((status == _MORE) | (status < 0)), SKIP, role)
    name_at, name_bytes = np.full(n, -1), np.zeros(n, np.int64)
    for row, text in _texts(messages, np.flatnonzero(role == ASK)):
        found = _find_account(text)
        if found is None:
            role[row] = SKIP  # one that only begins
        elif found[1]:
            name_at[row], name_bytes[row] = found
    calls = first == _CALLS
    agrees = (first == _AGREES) | (first == _REFUSES)
    errors = np.where(first == _REFUSES, _NETBIOS + messages.u8(4), 0)
    key = np.where(one, messages.u16(34, "<"), messages.u32(28, "<"))
    return make_rows(
        messages,
        np.select([calls, agrees], [ASK, ANSWER], role),
        key=np.where(calls | agrees, _CALL_KEY, key),
        kind=np.where(calls | agrees, OTHER, SESSION),
        function=np.where(calls | agrees, CALL, LOGIN),
        code=np.select([role == ANSWER, agrees], [status, errors], -1),
        name_at=np.where(calls, 4, name_at),
        name_bytes=np.where(calls, 34, name_bytes),
    )


def _texts(messages: Messages, rows: np.ndarray) -> list[tuple[int, bytes]]:
    found = []
    for start in range(0, len(rows), _AT_ONCE):
        here = rows[start : start + _AT_ONCE]
        texts = messages.take(here).bytes(0, _BODY)
        held = np.minimum(messages.held[here], _BODY)
        found += [(int(row), texts[i, : held[i]].tobytes()) for i, row in enumerate(here)]
    return found


def _find_account(text: bytes) -> tuple[int, int] | None:
    """Where in a login the account stands, and its bytes, 0 where it names none (Kerberos, or nobody);
    None for a message that only begins a login."""
    at = text.find(_SEAL)
    if at >= 0:
        if _number(text, at + 8, 4) != _PROVES:
            return None
        size, end = _number(text, at + 36, 2), at + _number(text, at + 40, 4)
        return at, min(end + size - at, _MOST_NAME) if size else 0
    if text[4:5] != b"\xff" or text[36:37] != bytes([_PLAIN_WORDS]):
        return 0, 0
    # Both passwords stand before the account, which in UTF-16 begins at an even place.
    wide = _number(text, 14, 2) & 0x8000 > 0
    at = 65 + _number(text, 51, 2) + _number(text, 53, 2)
    at += wide and (at - 4) % 2
    return at, 2 * _MOST_NAME // 4


def _number(text: bytes, at: int, width: int) -> int:
    return int.from_bytes(text[at : at + width], "little")


def _read_name(name: bytes) -> str:
    """Domain and account, as Windows writes them; or who a NetBIOS session is for.

    >>> _read_name(b"operator\\0PLANT\\0Unix\\0"), _read_name(b"a\\0b\\0\\0\\0")
    ('PLANT\\\\operator', 'ab')
    """
    if name.startswith(b"\x20") and len(name) >= 33:
        return read_netbios_name(name[1:33])
    if name.startswith(_SEAL):
        name = name.ljust(_MOST_NAME, b"\0")
        domain, account = (_read_field(name, at) for at in (28, 36))
    else:
        wide = name[1:2] == b"\0"
        text = name.decode("utf-16-le" if wide else "latin-1", errors="replace")
        account, domain = (*text.split("\0"), "", "")[:2]
    shown = f"{domain}\\{account}" if domain else account
    return "".join(c if c.isprintable() else "?" for c in shown)


def _read_field(proof: bytes, at: int) -> str:
    """A text that a message of NTLM holds, in UTF-16 where its flags say so ([MS-NLMP] 2.2.2.5)."""
    size, start = _number(proof, at, 2), _number(proof, at + 4, 4)
    text = proof[start : start + size]
    if _number(proof, 60, 4) & 1:
        return text.decode("utf-16-le", errors="replace")
    return read_text(text)


def _say_code(code: int, word: str) -> str:
    """A status by its name and what it means.

    >>> _say_code(0xC0000234, REFUSALS[0xC0000234]), _say_code(0xC0000001, "unknown")
    ('STATUS_ACCOUNT_LOCKED_OUT: the account is locked out', 'status 0xC0000001')
    """
    return word if code in REFUSALS else f"status 0x{code:08X}"


_COMPUTER = 1  # of the pairs in a challenge ([MS-NLMP] 2.2.2.1)


def _identify(messages: Messages) -> list[Identity]:
    """The computer's name and version of Windows, from what a server challenges a client with."""
    status = np.where(messages.u32(4) == _SMB1, messages.u32(9, "<"), messages.u32(12, "<"))
    tells = (messages.u8(0) == 0) & (status == _MORE)
    tells = first_alike(messages, tells, np.zeros(len(messages), np.int64))
    found = []
    for message, text in select_distinct(messages, tells, 0, _BODY):
        text = text[text.find(_SEAL) :] if _SEAL in text else b""
        if len(text) < 48 or _number(text, 8, 4) != _CHALLENGES:
            continue
        if _number(text, 20, 4) & 1 << 25 and len(text) >= 52 and text[48]:
            version = f"Windows {text[48]}.{text[49]}.{_number(text, 50, 2)}"
            found.append(Identity(message, "software", version, "SMB"))
        at = _number(text, 44, 4)
        while at + 4 <= len(text) and (pair := _number(text, at, 2)):
            size = _number(text, at + 2, 2)
            if pair == _COMPUTER:
                name = text[at + 4 : at + 4 + size].decode("utf-16-le", errors="replace")
                found.append(Identity(message, "name", name, "SMB"))
            at += 4 + size
    return found


SMB = Protocol(
    name="smb",
    transports=(TCP,),
    ports=(139, 445),
    fits=_fits,
    anywhere=True,
    message_bytes=_message_bytes,
    head_bytes=_HEAD_BYTES,
    read=_read,
    functions=FUNCTIONS,
    refusals=REFUSALS,
    logins=frozenset({LOGIN}),
    accounts=True,
    denied=frozenset(_LOGIN_REFUSALS),
    busy=frozenset({0xC00000D0, 0xC0000205}),
    say_code=_say_code,
    read_name=_read_name,
    wait_s=10.0,
    identify=_identify,
)
