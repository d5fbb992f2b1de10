"""On a device, where the hub's packages are absent, the hub's command says what to install."""

import subprocess
import sys

CODE = """
import sys
sys.modules["sqlalchemy"] = None
from cloud_hub.__main__ import main
sys.exit(main())
"""


def test_the_command_names_the_extra() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "pip install 'edgeward[hub]'" in done.stderr
    assert "Traceback" not in done.stderr
