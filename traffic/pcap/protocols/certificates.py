"""Whom an X.509 certificate was made for (RFC 5280), as far as a capture holds it in DER."""

from collections.abc import Iterator

# Object identifiers of a subject's attributes -> the field of an identity.
_FIELDS = {b"\x55\x04\x03": "name", b"\x55\x04\x0a": "make"}


def read_subject(certificate: bytes) -> list[tuple[str, bytes]]:
    """Common name and organisation of the subject, as fields of an identity and their values."""
    whole = next((body for tag, body in _walk_der(certificate) if tag == 0x30), b"")
    signed = next((body for tag, body in _walk_der(whole) if tag == 0x30), b"")
    # Serial number, algorithm, issuer, validity, subject, after a version that may be left out.
    parts = [body for tag, body in _walk_der(signed) if tag != 0xA0]
    found = []
    for _, group in _walk_der(parts[4]) if len(parts) > 4 else ():
        for _, attribute in _walk_der(group):
            pair = [body for _, body in _walk_der(attribute)]
            if len(pair) == 2 and pair[0] in _FIELDS:
                found.append((_FIELDS[pair[0]], pair[1]))
    return found


def _walk_der(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element; the last one may be cut."""
    at = 0
    while at + 2 <= len(body):
        tag, size, start = body[at], body[at + 1], at + 2
        if size > 128:
            start += size - 128
            size = int.from_bytes(body[at + 2 : start])
        if size == 128 or start > len(body):
            return
        yield tag, body[start : start + size]
        at = start + size
