"""A real ext4 on a loop device, and its power switch."""

import array
import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SHUTDOWN = 0x8004587D
"""``EXT4_IOC_SHUTDOWN``."""
NO_LOG_FLUSH = 2
"""As a power cut: what the journal has not on the disk yet is lost."""
MISSING = [tool for tool in ("mkfs.ext4", "mount", "umount", "findmnt") if shutil.which(tool) is None] + (
    [] if os.geteuid() == 0 else ["root"]
)
"""What is needed here and not there."""


class Ext4:
    """A small file system in a folder of its own, not in one that pytest tidies up; mounted until :meth:`close`."""

    def __init__(self, *, megabytes: int = 16) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ew-ext4-", dir="/var/tmp"))
        self._image = self._folder / "image"
        self.path = self._folder / "mounted"
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(megabytes * 2**20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self._image], check=True)
        self._mount()

    def cut_power(self) -> None:
        """Nothing reaches the disk from here on; :meth:`restore_power` shows what had."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, array.array("I", [NO_LOG_FLUSH]))
        finally:
            os.close(descriptor)

    def restore_power(self) -> None:
        """Mount again: the journal is replayed. Nobody may have a file open there.

        It is a copy of the image that is mounted: a mount namespace that somebody made meanwhile may hold the first one, and
        would hand out the file system that is shut down.
        """
        self._unmount()
        copy = self._image.with_name("copy")
        subprocess.run(["cp", "--sparse=always", self._image, copy], check=True)
        self._image.unlink()
        copy.rename(self._image)
        self._mount()

    def sync(self) -> None:
        """Everything that was written until now survives; of this file system, not of the whole machine."""
        subprocess.run(["sync", "--file-system", self.path], check=True)

    def fail(self) -> None:
        """The kernel finds an error, and lets nobody write any more, whatever is open; there is no way back."""
        device = subprocess.run(
            ["findmnt", "--noheadings", "--output", "SOURCE", self.path],
            check=True,
            capture_output=True,
            text=True,
        )
        name = Path(device.stdout.strip()).name
        Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("a test")

    def close(self) -> None:
        """Also where somebody has a file open there still."""
        subprocess.run(["umount", "--lazy", self.path], check=True)
        self._image.unlink()
        self.path.rmdir()
        self._folder.rmdir()

    def _mount(self) -> None:
        subprocess.run(["mount", "-o", "loop,errors=remount-ro", self._image, self.path], check=True)

    def _unmount(self) -> None:
        subprocess.run(["umount", self.path], check=True)
