"""What the errors of MMS mean: those of access, of services, of associations, and why a command fails
(ISO 9506-2, 7.4 and 24; IEC 61850-7-2, 20; ISO 8650-1)."""

from traffic.pcap.protocols.cotp import COTP_REFUSALS

# AddCause (IEC 61850-7-2, 20.5.2.9).
CAUSES = {
    0: "unknown reason", 1: "not supported", 2: "blocked by switching hierarchy", 3: "select failed",
    4: "invalid position", 5: "position reached", 6: "parameter change in execution", 7: "step limit",
    8: "blocked by mode", 9: "blocked by process", 10: "blocked by interlocking", 11: "blocked by synchrocheck",
    12: "command already in execution", 13: "blocked by health", 14: "1 of n control", 15: "aborted by cancel",
    16: "time limit over", 17: "aborted by trip", 18: "object not selected", 19: "object already selected",
    20: "no access authority", 21: "ended with overshoot", 22: "aborted by deviation",
    23: "aborted by loss of communication", 24: "blocked by command", 25: "no reason given",
    26: "inconsistent parameters", 27: "locked by other client",
}  # fmt: skip
# Added to numbers that may be 0, and mean something else in each: DataAccessError, error class and
# code, reason of a reject, AddCause, diagnostic of ACSE.
ACCESS, SERVICE, REJECT, ADDED, ASSOCIATION = 0x100, 0x1000, 0x2000, 0x3000, 0x4000
_ACCESS_ERRORS = {
    0: "object invalidated", 1: "hardware fault", 2: "temporarily unavailable", 3: "object access denied",
    4: "object undefined", 5: "invalid address", 6: "type unsupported", 7: "type inconsistent",
    8: "object attribute inconsistent", 9: "object access unsupported", 10: "object does not exist",
    11: "object value invalid",
}  # fmt: skip
_CLASSES = {
    0: ("VMD state", {0: "other", 1: "state conflict", 2: "operational problem", 3: "domain transfer problem",
                      4: "state machine id invalid"}),
    1: ("application reference", {0: "other", 1: "application unreachable", 2: "connection lost",
                                  3: "application reference invalid", 4: "context unsupported"}),
    2: ("definition", {0: "other", 1: "object undefined", 2: "invalid address", 3: "type unsupported",
                       4: "type inconsistent", 5: "object exists", 6: "object attribute inconsistent"}),
    3: ("resource", {0: "other", 1: "memory unavailable", 2: "processor resource unavailable",
                     3: "mass storage unavailable", 4: "capability unavailable", 5: "capability unknown"}),
    4: ("service", {0: "other", 1: "primitives out of sequence", 2: "object state conflict", 3: "PDU size",
                    4: "continuation invalid", 5: "object constraint conflict"}),
    5: ("service preempt", {0: "other", 1: "timeout", 2: "deadlock", 3: "cancel"}),
    6: ("time resolution", {0: "other", 1: "unsupportable time resolution"}),
    7: ("access", {0: "other", 1: "object access unsupported", 2: "object does not exist", 3: "object access denied",
                   4: "object invalidated"}),
    8: ("initiate", {0: "other", 3: "max services outstanding calling insufficient",
                     4: "max services outstanding called insufficient", 5: "service CBB insufficient",
                     6: "parameter CBB insufficient", 7: "nesting level insufficient"}),
    9: ("conclude", {0: "other", 1: "further communication required"}),
    10: ("cancel", {0: "other", 1: "invoke id unknown", 2: "cancel not possible"}),
    11: ("file", {0: "other", 1: "filename ambiguous", 2: "file busy", 3: "filename syntax error",
                  4: "content type invalid", 5: "position invalid", 6: "file access denied",
                  7: "file does not exist", 8: "duplicate filename", 9: "insufficient space in filestore"}),
}  # fmt: skip
_REJECTS = {
    0: "other", 1: "unrecognized service", 2: "unrecognized modifier", 3: "invalid invoke id",
    4: "invalid argument", 5: "invalid modifier", 6: "too many requests outstanding", 8: "recursion too deep",
    9: "value out of range",
}  # fmt: skip
_DIAGNOSTICS = {
    0: "no reason given", 1: "no reason given", 2: "application context not supported",
    3: "calling application title not recognised", 7: "called application title not recognised",
    11: "authentication mechanism not recognised", 12: "authentication mechanism required",
    13: "authentication failure", 14: "authentication required",
}  # fmt: skip
REFUSALS = {
    **{ACCESS + n: word for n, word in _ACCESS_ERRORS.items()},
    **{
        SERVICE | number << 8 | n: f"{name}: {word}"
        for number, (name, words) in _CLASSES.items()
        for n, word in words.items()
    },
    **{REJECT + n: f"rejected: {word}" for n, word in _REJECTS.items()},
    **{ADDED + n: f"command refused: {word}" for n, word in CAUSES.items()},
    **{ASSOCIATION + n: f"association refused: {word}" for n, word in _DIAGNOSTICS.items()},
    **COTP_REFUSALS,
}
