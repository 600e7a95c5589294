"""Every kind of case, by name."""

from eval.testbed.cases import healthy, industrial, links, messaging, modbus, security
from eval.testbed.cases.case import Kind

KINDS: dict[str, Kind] = {
    **modbus.KINDS,
    **messaging.KINDS,
    **security.KINDS,
    **links.KINDS,
    **industrial.KINDS,
    **healthy.KINDS,
}
