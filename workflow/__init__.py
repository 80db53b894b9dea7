"""The imperative shell: files, devices, processes and clocks around the functional core."""

import sys

from trigbench._extras import need

if sys.platform == "win32":
    raise ImportError("the workflow needs POSIX (file locks, signals): run it under WSL; `core` runs on Windows too")

if __name__ == "workflow":  # the checkout's short name for trigbench.workflow
    from trigbench._short import stand_for

    stand_for("workflow")
else:
    need("train", __name__)
