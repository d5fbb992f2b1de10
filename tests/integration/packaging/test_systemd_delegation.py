"""The packaged agent unit under a real systemd, in a guest kernel: the sandbox leaves the cgroup that it delegates writable."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.uml import ROOT, UML, boot

SYSTEMD = Path("/lib/systemd/systemd")
PYTHON = "/usr/bin/python3"
MSGSPEC = Path(msgspec.__file__).parent

_SCRIPT = """
mount -t tmpfs -o mode=755 tmpfs /var/lib
mkdir -p /run/guest /run/systemd/system/edgeward-agent.service.d
cp -a /etc /run/etc && mount --bind /run/etc /etc && mkdir -p /etc/edgeward
echo 'edgeward:x:990:990::/:/usr/sbin/nologin' >> /etc/passwd
echo 'edgeward:x:990:' >> /etc/group
cp -a {root}/agent {msgspec} {root}/tests/integration/packaging/guest_unit.py /run/guest/
cp {root}/packaging/systemd/edgeward-agent.service /run/systemd/system/
cat > /run/systemd/system/edgeward-agent.service.d/test.conf <<END
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
Restart=no
ExecStart=
ExecStart={python} /run/guest/guest_unit.py
# The guest's /dev is not one that systemd can make a private copy of.
PrivateDevices=no
END
cat > /run/systemd/system/finish.service <<END
[Unit]
DefaultDependencies=no
Wants=edgeward-agent.service
After=edgeward-agent.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c '(systemctl status --no-pager -l edgeward-agent; echo -n "RESULT "; cat /var/lib/edgeward/result; echo) > /dev/console'
ExecStart=/bin/sh -c 'echo o > /proc/sysrq-trigger'
END
exec {systemd} --system --unit=finish.service --log-target=console --show-status=0
"""


def _python_can_import() -> bool:
    """Whether the system's own Python, which every user may run, takes the libraries of this environment."""
    command = [PYTHON, "-c", "import msgspec"]
    environment = {"PYTHONPATH": str(MSGSPEC.parent)}
    return (
        shutil.which(PYTHON) is not None
        and subprocess.run(command, env=environment, check=False).returncode == 0
    )


pytestmark = [
    pytest.mark.skipif(UML is None, reason="linux.uml (Debian package user-mode-linux) is not installed"),
    pytest.mark.skipif(not SYSTEMD.exists(), reason="systemd (Debian package systemd) is not installed"),
    pytest.mark.skipif(
        not _python_can_import(), reason=f"{PYTHON} is not of the version that the environment was made with"
    ),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the service's program found, in one boot."""
    script = _SCRIPT.format(root=ROOT, msgspec=MSGSPEC, python=PYTHON, systemd=SYSTEMD)
    return boot(script, tmp_path_factory.mktemp("guest"), memory_mib=512, timeout_seconds=90)


def test_an_ordinary_user_gets_the_cgroup_and_its_limits_hold(service: Any) -> None:
    assert not service["uid_is_root"]
    assert service["delegated"]
    assert service["outgrow"] == {"signal": 9, "at_limit": True, "removed": True}


def test_no_other_cgroup_can_be_changed(service: Any) -> None:
    assert service["outside"] == []


def test_a_lowered_process_can_be_raised_again(service: Any) -> None:
    assert service["nice"] == [20, 20]
    assert service["raised_again"]
