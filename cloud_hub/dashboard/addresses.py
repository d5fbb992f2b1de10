"""Where the pages are. Names are quoted: a device's name never becomes another path."""

from urllib.parse import quote, urlencode

FLEET, DEVICES, RELEASES = "/", "/devices", "/releases"
NOTICES, SAMPLES = "/notices", "/samples"


def device(name: str) -> str:
    return f"{DEVICES}/{quote(name, safe='')}"


def release(model: str, number: int, slice_: str = "") -> str:
    """The page of one release; of one slice of its requests where ``slice_`` is not ""."""
    query = f"?{urlencode({'slice': slice_})}" if slice_ else ""
    return f"{RELEASES}/{quote(model, safe='')}/{number}{query}"


def devices(find: str, page: int) -> str:
    """One page of the list of devices."""
    given = {"find": find, "page": str(page) if page > 1 else ""}
    query = urlencode({key: value for key, value in given.items() if value})
    return f"{DEVICES}?{query}" if query else DEVICES
