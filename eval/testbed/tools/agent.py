"""An agent that drives devices: an instruction in words becomes a call, and the call goes to a device.

    "set the level of plc-1 to 55 %"  ─▶  write_register(plc-1, 7, 550)  ─▶  Modbus function 6
    "open valve-1"                    ─▶  publish(line/valve-1/cmd, open)  ─▶  MQTT, through the broker

A call that fails becomes a line of commands.jsonl, which ``faultwise locate`` reads. The table of
skills stands where a language model would write code: what is tried here is what comes after.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
from paho.mqtt.client import CallbackAPIVersion, Client, MQTTMessage
from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from eval.testbed.tools.command import tool

app = tool()
_TIMEOUT_S = 3.0
_FUNCTIONS = {
    "read_registers": (3, "read"), "read_inputs": (4, "read"), "write_register": (6, "write"),
    "read_fifo": (24, "read"),
}  # fmt: skip


@app.command()
def drive(plan: Path, out: Path) -> None:
    """Carry out a plan, and write what failed.

    Args:
        plan: JSON: ``source``; ``hosts`` (address by name); ``resolver``; ``steps``, each ``id``,
            ``at_s`` after the start, ``skill``, ``device``, ``args``, ``until_fails`` (tries).
        out: a file for failed commands, JSON lines.
    """
    told = json.loads(plan.read_text("utf-8"))
    start_s = time.monotonic()
    with out.open("w", encoding="utf-8") as file:
        for step in told["steps"]:
            time.sleep(max(start_s + step["at_s"] - time.monotonic(), 0.0))
            for _ in range(step.get("until_fails", 1)):
                if failed := _carry_out(step, told):
                    file.write(json.dumps(failed) + "\n")
                    file.flush()
                    break


def _carry_out(step: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any] | None:
    """Do one step; what is to be told of it where it fails."""
    skill, device, args = step["skill"], step["device"], step["args"]
    shown = ", ".join(
        [device, *(f"{name}={value}" for name, value in args.items() if name != "password")]
    )
    begun_s = time.time()
    try:
        SKILLS[skill](_find(device, told), told, **args)
        return None
    except (OSError, ValueError, KeyError, TypeError, ModbusException) as error:
        words = str(error) or type(error).__name__
    except Exception as error:  # noqa: BLE001 - libraries raise what they like; an agent tells of all
        words = f"{type(error).__name__}: {error}"
    failed = {
        "id": step["id"], "time": round(begun_s, 3), "until": round(time.time(), 3), "device": device,
        "command": f"{skill}({shown})", "error": words, "source": told["source"],
    }  # fmt: skip
    if skill in _FUNCTIONS:
        function, kind = _FUNCTIONS[skill]
        failed |= {"protocol": "modbus", "port": args.get("port", 502), "function": function}
        failed |= {"kind": kind, "target": args["address"], "unit": args.get("unit", 1)}
    elif skill == "publish":
        failed |= {"protocol": "mqtt", "kind": "publish", "name": args["topic"]}
    return failed


def _find(device: str, told: Mapping[str, Any]) -> str:
    """The address of a device: from the agent's list, or from the resolver.

    Raises:
        KeyError: the list has no such name; ``OSError``: nobody resolves it.
    """
    if "." not in device:
        return told["hosts"][device]
    if device.replace(".", "").isdigit():
        return device
    try:
        answer = dns.query.udp(dns.message.make_query(device, "A"), told["resolver"], timeout=2.0)
    except (OSError, dns.exception.DNSException) as error:
        raise OSError(f"[Errno -3] Temporary failure in name resolution: {error}") from error
    for entry in answer.answer:
        for one in entry:
            return str(one)
    raise OSError("[Errno -2] Name or service not known")


# ---- Skills ----


def _modbus(host: str, _told: Mapping[str, Any], ask: Callable[..., Any], port: int) -> list[int]:
    client = ModbusTcpClient(host, port=port, timeout=_TIMEOUT_S, retries=0)
    try:
        if not client.connect():
            raise OSError(f"connection to {host} port {port} failed")
        answer = ask(client)
        if answer.isError():
            raise OSError(f"Modbus exception {answer.exception_code}")
        return list(getattr(answer, "registers", ()) or ())
    finally:
        client.close()


def read_registers(
    host: str, told: Mapping[str, Any], address: int, count: int = 1, unit: int = 1, port: int = 502
) -> None:
    """Read holding registers."""
    _modbus(
        host, told, lambda c: c.read_holding_registers(address, count=count, device_id=unit), port
    )


def read_inputs(
    host: str, told: Mapping[str, Any], address: int, count: int = 1, unit: int = 1, port: int = 502
) -> None:
    """Read input registers."""
    _modbus(
        host, told, lambda c: c.read_input_registers(address, count=count, device_id=unit), port
    )


def read_fifo(
    host: str, told: Mapping[str, Any], address: int, unit: int = 1, port: int = 502
) -> None:
    """Read a queue of values, which few devices have."""
    _modbus(host, told, lambda c: c.read_fifo_queue(address=address, device_id=unit), port)


def write_register(
    host: str, told: Mapping[str, Any], address: int, value: int, unit: int = 1, port: int = 502
) -> None:
    """Write one holding register, and read it back.

    Raises:
        ValueError: the device took the value and kept another.
    """
    _modbus(host, told, lambda c: c.write_register(address, value, device_id=unit), port)
    back = _modbus(
        host, told, lambda c: c.read_holding_registers(address, count=1, device_id=unit), port
    )
    if back != [value]:
        raise ValueError(f"register {address} is {back[0]} after {value} was written")


def publish(
    host: str,
    told: Mapping[str, Any],
    topic: str,
    payload: str,
    broker: str = "",
    user: str = "line",
    password: str = "",
) -> None:
    """Publish a command with QoS 1, and wait for the device's confirmation under ``topic``/done.

    Raises:
        OSError: no connection, login refused, not acknowledged, or not confirmed in time.
    """
    done, at = threading.Event(), told["hosts"][broker] if broker else host
    refused: list[str] = []
    client = _client(f"agent-{topic[-12:]}", user, password or told["password"])
    client.on_message = lambda _client, _data, _message: done.set()
    client.on_connect = lambda _c, _d, _f, reason, _p: (
        refused.append(str(reason)) if reason.is_failure else None
    )
    client.connect_timeout = _TIMEOUT_S
    client.connect(at, 1883, 30)
    client.loop_start()
    try:
        until_s = time.monotonic() + _TIMEOUT_S
        while not client.is_connected() and not refused and time.monotonic() < until_s:
            time.sleep(0.02)
        if not client.is_connected():
            raise OSError(refused[0] if refused else "connected, timed out waiting for the login")
        client.subscribe(f"{topic}/done", 1)
        sent = client.publish(topic, payload, 1)
        sent.wait_for_publish(_TIMEOUT_S)
        if not sent.is_published():
            raise TimeoutError("timed out: the broker did not acknowledge")
        if broker and not done.wait(_TIMEOUT_S):
            raise OSError("the device did not confirm")
        client.disconnect()
    finally:
        client.loop_stop()


def _client(name: str, user: str, password: str) -> Client:
    client = Client(CallbackAPIVersion.VERSION2, client_id=name)
    client.username_pw_set(user, password)
    return client


SKILLS: dict[str, Callable[..., None]] = {
    "read_registers": read_registers,
    "read_inputs": read_inputs,
    "read_fifo": read_fifo,
    "write_register": write_register,
    "publish": publish,
}


@app.command()
def actuator(name: str, broker: str, user: str, password: str) -> None:
    """A valve behind a broker: does what is published under line/NAME/cmd, and confirms it."""

    def act(client: Client, _data: object, message: MQTTMessage) -> None:
        client.publish(f"{message.topic}/done", message.payload, 1)

    while True:
        client = _client(name, user, password)
        client.on_message = act
        client.on_connect = lambda c, _d, _f, _r, _p: c.subscribe(f"line/{name}/cmd", 1)
        try:
            client.connect(broker, 1883, 15)
            client.loop_forever(retry_first_connection=False)
        except OSError:
            time.sleep(2.0)


if __name__ == "__main__":
    app()
