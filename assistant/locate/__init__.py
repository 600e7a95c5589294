"""Whose fault a failed command was: the network's, the device's or the command's own (`locate`)."""

from assistant.locate.commands import FailedCommand, parse_commands, read_commands
from assistant.locate.decide import Located, locate

__all__ = ["FailedCommand", "Located", "locate", "parse_commands", "read_commands"]
