"""Opens a model's Unix socket to one group of users, and to nobody else."""

import grp
import logging
import os
import pwd
import stat
from pathlib import Path

from agent.supervisor.errors import AddressError

_log = logging.getLogger(__name__)


def group_id(name: str) -> int:
    """The number of a group.

    Raises:
        AddressError: there is no such group.
    """
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise AddressError(
            f"serving.socket_group = {name!r}: there is no such group on this device; make it: groupadd {name}"
        ) from None


def give(path: Path, name: str, mode: int) -> None:
    """Give a socket or folder to a group, with this mode.

    Raises:
        AddressError: there is no such group, or the agent may not.
    """
    gid = group_id(name)
    try:
        os.chown(path, -1, gid)
    except PermissionError as error:
        raise AddressError(
            f"serving.socket_group = {name!r}: {path} can't be given to it, because the agent's user is not a member;"
            f" add it and start the agent again: usermod -aG {name} {_own_name()}"
        ) from error
    except OSError as error:
        raise AddressError(f"serving.socket_group = {name!r}: {path}: {error.strerror}") from error
    path.chmod(mode)


def let_through(folder: Path, name: str) -> None:
    """Let a group's members pass through ``folder`` to what lies in it; what they may open there is for its own mode to say.

    Raises:
        AddressError: there is no such group, or the agent may not.
    """
    gid = group_id(name)
    if not _passes(folder, gid):
        try:
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_IXOTH)
        except OSError as error:
            raise AddressError(
                f"serving.socket_group = {name!r}: its members can't pass through {folder}: {error.strerror}"
            ) from error
    for above in folder.parents:
        if not _passes(above, gid):
            # Not the agent's to change, and an access control list may let them through.
            _log.warning(
                "a folder may keep a group from its sockets", extra={"folder": str(above), "group": name}
            )


def _own_name() -> str:
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"(the user with uid {uid})"


def _passes(folder: Path, gid: int) -> bool:
    state = folder.stat()
    return bool(state.st_mode & stat.S_IXOTH or (state.st_gid == gid and state.st_mode & stat.S_IXGRP))
