"""Only for the fork server of `workers`, which imports this first: Linux ends the server as soon as its parent ends.

Once it serves, it notices by itself. But it imports PyTorch before, which takes seconds, and would go on with that
for a parent that was killed meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import sys

_PR_SET_PDEATHSIG = 1

_called = re.search(r"multiprocessing\.forkserver.*main\(\d+, (\d+)", " ".join(sys.orig_argv))
if sys.platform == "linux" and _called:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # A parent that ended before this call has closed its end of the pipe, which the server is called with.
    if select.select([int(_called[1])], [], [], 0)[0]:
        os._exit(1)
