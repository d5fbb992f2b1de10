"""Identifiers, and the one rule that all names keep: they are safe in a topic, a path and a URL."""

import re
from typing import Annotated, NewType

from msgspec import Meta

# ``$`` alone also matches before a line end, which would let "name\n" through; ``\Z`` is not JSON Schema's.
NAME_PATTERN = r"^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$(?!\n)"
DIGEST_PATTERN = r"^[0-9a-f]{64}$(?!\n)"

DeviceId = NewType("DeviceId", str)
ModelName = NewType("ModelName", str)
VariantName = NewType("VariantName", str)
DeploymentId = NewType("DeploymentId", str)
Digest = NewType("Digest", str)
"""SHA-256 of an artifact's bytes, 64 lower-case hexadecimal digits."""
ReleaseVersion = NewType("ReleaseVersion", int)

Name = Annotated[
    str, Meta(pattern=NAME_PATTERN, description="1-64 of a-z 0-9 . _ -, no separator at either end")
]
Sha256 = Annotated[str, Meta(pattern=DIGEST_PATTERN, description="64 lower-case hexadecimal digits")]
LARGEST_NUMBER = 2**53
"""Of what is counted: every JSON reader holds it exactly."""
Version = Annotated[int, Meta(ge=1, le=LARGEST_NUMBER)]
Count = Annotated[int, Meta(ge=0, le=LARGEST_NUMBER)]
Seconds = Annotated[float, Meta(ge=0)]
LATEST_TIME = 253_402_300_799
"""9999-12-31T23:59:59Z: the last second that calendars of all programs know."""
UnixTime = Annotated[float, Meta(ge=0, le=LATEST_TIME, description="seconds since 1970-01-01T00:00:00Z")]

_NAME = re.compile(NAME_PATTERN)


def is_name(text: str) -> bool:
    """Whether ``text`` keeps the rule of names."""
    return _NAME.fullmatch(text) is not None


def release_path(model: str, release: int, filename: str) -> str:
    """The TUF target path of one file of a release: ``models/<model>/<release>/<filename>``."""
    return f"models/{model}/{release}/{filename}"


MANIFEST_FILENAME = "manifest.json"
