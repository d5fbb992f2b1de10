"""The pages of a hub whose fleet has served for a week, as a reader, a screen reader and a browser meet them."""

import re
from collections.abc import Mapping

import httpx
import pytest

from tests.support.chromium import Browser
from tests.support.page_outline import outline, problems

PAGES: Mapping[str, str] = {
    "fleet": "/",
    "devices": "/devices",
    "found": "/devices?find=dock",
    "device": "/devices/dock-2",
    "hot": "/devices/gate-4",
    "releases": "/releases",
    "release": "/releases/digits/1",
    "slice": "/releases/digits/1?slice=site%3Dsouth",
    "notices": "/notices",
    "samples": "/samples",
}
NARROW, WIDE = 390, 1280


@pytest.fixture(scope="module")
def pages(address: str) -> dict[str, str]:
    with httpx.Client(base_url=address) as client:
        found = {name: client.get(path) for name, path in PAGES.items()}
    assert {name: answer.status_code for name, answer in found.items()} == dict.fromkeys(PAGES, 200)
    return {name: answer.text for name, answer in found.items()}


def words(page: str) -> str:
    return " ".join(outline(page).texts)


def test_nobody_is_shut_out(pages: dict[str, str]) -> None:
    assert {name: found for name, page in pages.items() if (found := problems(page))} == {}


def test_a_browser_shows_every_page_at_every_width_and_has_nothing_to_complain_about(
    address: str, window: Browser
) -> None:
    wrong = []
    for name, path in PAGES.items():
        for width, dark in ((WIDE, False), (NARROW, True)):
            shown = window.show(f"{address}{path}", width=width, dark=dark, picture=False)
            elsewhere = [url for url in shown.requests if not url.startswith(address)]
            found = (shown.complaints, elsewhere, shown.overflow, shown.unnamed_images)
            if found != ([], [], 0, 0):
                wrong.append((name, width, found))
    assert wrong == []


def test_dark_and_light_are_two_pages(address: str, window: Browser) -> None:
    light, dark = (window.show(f"{address}/", dark=dark, whole=False).image for dark in (False, True))
    assert light != dark


def test_the_fleet_page_says_first_what_to_do_first(pages: dict[str, str]) -> None:
    said = words(pages["fleet"])
    order = [
        said.index(each)
        for each in (
            "need you now",
            "It should be retrained",
            "dock-2",
            "Offline.",
            "Does the world still look",
        )
    ]
    assert order == sorted(order), "errors before warnings, everything that is wrong before what is well"
    assert "4 of 11 devices with a verdict are at drift" in said
    assert "edgeward-hub retraining acknowledge 1" in said


def test_the_heat_map_has_the_worst_device_first_and_the_fleet_before_all(pages: dict[str, str]) -> None:
    table = re.search(r'<table class="heat">.*?</table>', pages["fleet"], re.DOTALL)
    assert table is not None
    rows = re.findall(r'<th scope="row">(?:<a [^>]*>)?([^<]+)', table.group(0))
    assert rows[0] == "the whole fleet"
    assert set(rows[1:5]) == {"gate-4", "dock-2", "yard-1", "gate-2"}, "those that drift"
    assert set(rows[1:3]) == {"gate-4", "dock-2"}, "the longest first"
    labels = re.findall(r'aria-label="(dock-2: [^"]*)"', table.group(0))
    assert "the newest verdict: drift" in labels[0], "what it shows is said too"


def test_the_release_page_tells_a_sick_device_from_a_sick_fleet(pages: dict[str, str]) -> None:
    said = words(pages["release"])
    assert "The fleet is well, but 4 devices are not" in said
    assert "Look at these devices first: a dirty lens, a moved sensor." in said
    charts = re.findall(r"<h3>([\w-]+: [\w-]+)</h3>", pages["release"])
    assert charts == ["dock-2: sharpness", "gate-2: belt-speed", "gate-4: humidity", "yard-1: brightness"]
    assert "dock-2 : its sharpness is" in said, "left out, and why"
    assert "By labels (the diamond) it was right in" in said
    assert "site=south" in said


def test_the_device_page_has_the_drifted_signal_first_and_says_it_in_plain_words(
    pages: dict[str, str],
) -> None:
    said = words(pages["device"])
    assert re.findall(r"<h3>([\w-]+)</h3>", pages["device"])[0] == "sharpness"
    assert "Lower than then; chance does this less than once in a million windows (600 rows)." in said
    assert "The alarm stands at drift since" in said
    assert "1,512: 1,496 the hub acknowledged, 4 wait, 0 were dropped, 12 were merged into others" in said
    assert "843 kB of 5 MB in 2026-11; nothing is thinned" in said
    assert "telemetry 31 kB in, 812 kB out" in said
    assert "too hot" in words(pages["hot"])
    assert "look whether the sensor is stuck" in words(pages["hot"])


def test_windows_that_were_cut_off_are_named_as_such(address: str) -> None:
    page = httpx.get(f"{address}/devices/barge-7").text
    assert "cut off: the runner ended before it could close it" in words(page)
    assert re.search(r'<rect class="\w+ cut"', page), "and drawn as such"


def test_devices_are_found_by_a_part_of_their_name(pages: dict[str, str]) -> None:
    rows = re.findall(r'<th scope="row">.*?>([\w-]+)</a>', pages["found"])
    assert rows == ["dock-2"]


def test_requests_for_samples_show_every_answer(pages: dict[str, str]) -> None:
    said = words(pages["samples"])
    for each in (
        "signed by alice",
        "has not answered yet",
        "lets them go",
        "keeps them",
        "is the lens dirty",
    ):
        assert each in said


@pytest.mark.parametrize("path", ["/devices/nobody", "/releases/digits/99", "/releases/faces/1"])
def test_what_is_not_there_is_a_page_too(address: str, path: str) -> None:
    answer = httpx.get(f"{address}{path}")
    assert answer.status_code == 404
    assert problems(answer.text) == []


def test_the_policy_lets_only_the_pages_own_style_in(address: str) -> None:
    policy = httpx.get(f"{address}/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
