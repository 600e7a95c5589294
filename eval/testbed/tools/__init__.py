"""Tools that an event runs on one machine, ``python -m eval.testbed.tools.NAME``, until ended."""
