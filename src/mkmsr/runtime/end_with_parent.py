"""Only for the fork server of `workers`, which imports this first: Linux ends the server as soon as its parent ends.

Once it serves, it notices by itself. But it imports PyTorch before, which takes seconds, and would go on with that
for a parent that was killed meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT = "MKMSR_FORK_SERVER_PARENT"
"""The variable that names the process which started the server."""

_PR_SET_PDEATHSIG = 1

if sys.platform == "linux" and any("multiprocessing.forkserver" in each for each in sys.orig_argv):
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have ended before this call. The server's own pipe does not tell, as a waiting request keeps it open.
    if os.environ.get(PARENT, "") not in ("", str(os.getppid())):
        os._exit(1)
