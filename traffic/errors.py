"""The one exception that is a person's mistake, not a bug."""


class UserError(Exception):
    """What is wrong, with its value and place; what was expected; what to do. One line, exit status
    2."""
