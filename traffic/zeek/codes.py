"""Names that Zeek and ICSNPP's parsers write for codes of protocols, as numbers of the protocols.

What a code is for the protocols themselves know (``traffic.pcap.protocols``).
"""

import numpy as np
import pandas as pd

from traffic.pcap.protocols.protocol import KINDS

# base/protocols/modbus/consts.zeek
MODBUS_CODES = {
    "READ_COILS": 1,
    "READ_DISCRETE_INPUTS": 2,
    "READ_HOLDING_REGISTERS": 3,
    "READ_INPUT_REGISTERS": 4,
    "READ_EXCEPTION_STATUS": 7,
    "GET_COMM_EVENT_COUNTER": 11,
    "GET_COMM_EVENT_LOG": 12,
    "REPORT_SLAVE_ID": 17,
    "READ_FILE_RECORD": 20,
    "READ_FIFO_QUEUE": 24,
    "WRITE_SINGLE_COIL": 5,
    "WRITE_SINGLE_REGISTER": 6,
    "WRITE_MULTIPLE_COILS": 15,
    "WRITE_MULTIPLE_REGISTERS": 16,
    "WRITE_FILE_RECORD": 21,
    "MASK_WRITE_REGISTER": 22,
    "READ_WRITE_MULTIPLE_REGISTERS": 23,
    "DIAGNOSTICS": 8,
    "PROGRAM_484": 9,
    "POLL_484": 10,
    "PROGRAM_584_984": 13,
    "POLL_584_984": 14,
    "PROGRAM_884_U84": 18,
    "RESET_COMM_LINK_884_U84": 19,
    "PROGRAM_CONCEPT": 40,
    "MULTIPLE_FUNCTION_CODES": 41,
    "ENCAP_INTERFACE_TRANSPORT": 43,
    "PROGRAM_UNITY": 90,
    "OBJECT_MESSAGING": 91,
}
MODBUS_EXCEPTIONS = {
    "ILLEGAL_FUNCTION": 1,
    "ILLEGAL_DATA_ADDRESS": 2,
    "ILLEGAL_DATA_VALUE": 3,
    "SLAVE_DEVICE_FAILURE": 4,
    "ACKNOWLEDGE": 5,
    "SLAVE_DEVICE_BUSY": 6,
    "MEMORY_PARITY_ERROR": 8,
    "GATEWAY_PATH_UNAVAILABLE": 10,
    "GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND": 11,
}
# base/protocols/mqtt/consts.zeek, in lower case
MQTT_ACCEPTED = "connection accepted"
MQTT_REFUSED = {
    "refused: unacceptable protocol version": 1,
    "refused: identifier rejected": 2,
    "refused: server unavailable": 3,
    "refused: bad user name or password": 4,
    "refused: not authorized": 5,
}
# base/protocols/dnp3/consts.zeek
_DNP3 = [
    "CONFIRM", "READ", "WRITE", "SELECT", "OPERATE", "DIRECT_OPERATE", "DIRECT_OPERATE_NR",
    "IMMED_FREEZE", "IMMED_FREEZE_NR", "FREEZE_CLEAR", "FREEZE_CLEAR_NR", "FREEZE_AT_TIME",
    "FREEZE_AT_TIME_NR", "COLD_RESTART", "WARM_RESTART", "INITIALIZE_DATA", "INITIALIZE_APPL",
    "START_APPL", "STOP_APPL", "SAVE_CONFIG", "ENABLE_UNSOLICITED", "DISABLE_UNSOLICITED",
    "ASSIGN_CLASS", "DELAY_MEASURE", "RECORD_CURRENT_TIME", "OPEN_FILE", "CLOSE_FILE",
    "DELETE_FILE", "GET_FILE_INFO", "AUTHENTICATE_FILE", "ABORT_FILE", "ACTIVATE_CONFIG",
    "AUTHENTICATE_REQ", "AUTHENTICATE_ERR",
]  # fmt: skip
DNP3_FUNCTIONS = {name: code for code, name in enumerate(_DNP3)} | {
    "RESPONSE": 0x81,
    "UNSOLICITED_RESPONSE": 0x82,
    "AUTHENTICATE_RESP": 0x83,
}
# ASHRAE 135, clause 21: BACnetConfirmedServiceChoice and, 256 above, BACnetUnconfirmedServiceChoice.
_CONFIRMED = [
    "acknowledge_alarm", "confirmed_cov_notification", "confirmed_event_notification",
    "get_alarm_summary", "get_enrollment_summary", "subscribe_cov", "atomic_read_file",
    "atomic_write_file", "add_list_element", "remove_list_element", "create_object",
    "delete_object", "read_property", "read_property_conditional", "read_property_multiple",
    "write_property", "write_property_multiple", "device_communication_control",
    "confirmed_private_transfer", "confirmed_text_message", "reinitialize_device", "vt_open",
    "vt_close", "vt_data", "authenticate", "request_key", "read_range", "life_safety_operation",
    "subscribe_cov_property", "get_event_information",
]  # fmt: skip
_UNCONFIRMED = [
    "i_am", "i_have", "unconfirmed_cov_notification", "unconfirmed_event_notification",
    "unconfirmed_private_transfer", "unconfirmed_text_message", "time_synchronization", "who_has",
    "who_is", "utc_time_synchronization", "write_group",
]  # fmt: skip
BACNET_SERVICES = {
    **{name: code for code, name in enumerate(_CONFIRMED)},
    **{name: 0x100 + code for code, name in enumerate(_UNCONFIRMED)},
}
# Error classes of S7comm, the high byte of its error.
S7_CLASSES = {
    "Application relationship error": 0x81,
    "Application relationship": 0x81,
    "Object definition error": 0x82,
    "Object definition": 0x82,
    "No resources available error": 0x83,
    "No resources available": 0x83,
    "Error on service processing": 0x84,
    "Error on supplies": 0x85,
    "Access error": 0x87,
}


def number_codes(names: pd.Series, codes: dict[str, int]) -> np.ndarray:
    """Zeek's name of each code, or the number in its ``unknown-7``, as a number; -1 for neither."""
    number = pd.to_numeric(names.str.extract(r"(\d+)$", expand=False), errors="coerce")
    number = number.where(number < 2**31)  # no protocol has a code as large
    return names.map(codes).astype(float).fillna(number).fillna(-1).to_numpy().astype(np.int64)


def word_kinds(kinds: np.ndarray) -> np.ndarray:
    """Numbers of KINDS as words, shape (n,), object."""
    return np.array(KINDS, object)[kinds]
