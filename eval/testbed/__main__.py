"""The inside of a lab, ``python -m eval.testbed``, as `faultwise testbed record` starts it.

A module of its own, because programs of the plant, which are forked, import again whatever module
was started, unless that is called ``__main__``: two dozen copies of pandas.
"""

import sys

from eval.testbed.record import main

if __name__ == "__main__":
    sys.exit(main())
