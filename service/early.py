"""Imported before everything else by the service's process: until there is a loop, a signal ends it at once.

Python's own SIGINT raises in the middle of an import, where the exception may get lost. The kernel keeps every signal
without a handler from the first process of a container.
"""

import os
import signal
import sys

if "serve" in sys.argv[1:]:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: os._exit(128 + number))
