"""What devices and people wrote, on every page, rendered by the page's own templates."""

import pytest
from msgspec.structs import replace

from agent.protocol.drift import SignalCounts, SignalReference, SignalVerdict
from cloud_hub.dashboard import heat, notices_page, samples_page, told
from cloud_hub.dashboard.rendering import HEADERS, Frame, render
from cloud_hub.dashboard.signals import charts
from cloud_hub.fleet.service import Finding
from cloud_hub.retraining.notices import NoticeView
from cloud_hub.retraining.service import EvidenceView, RequestView
from cloud_hub.samples.service import OfferView
from cloud_hub.samples.service import RequestView as SampleRequest
from cloud_hub.telemetry.views import HeatMap
from tests.contract.protocol.samples import REFERENCE
from tests.support.page_outline import problems

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}'
FRAME = Frame(title=HOSTILE, time="now", here="/", links=(("/", HOSTILE, 1),))
REQUEST = RequestView(
    id=1,
    model=HOSTILE,
    release=1,
    cause="drift",
    state="acknowledged",
    text=HOSTILE,
    opened=1.0,
    updated=1.0,
    acknowledged=2.0,
    acknowledged_by=HOSTILE,
    note=HOSTILE,
    closed=None,
    closed_by=None,
    closed_reason=None,
    evidence=(EvidenceView(number=1, made=1.0, sha256=HOSTILE),),
)
NOTICE = NoticeView(
    id=1,
    kind="silent-device",
    subject=HOSTILE,
    severity="warning",
    text=HOSTILE,
    to_do=HOSTILE,
    since=1.0,
    updated=1.0,
    ended=None,
)
SAMPLES = SampleRequest(
    id=HOSTILE,
    model=HOSTILE,
    first_release=1,
    last_release=2,
    maximum=3,
    purpose=HOSTILE,
    created=1.0,
    expires=2.0,
    approver=HOSTILE,
    sent_by=HOSTILE,
    closed=None,
    devices=(
        OfferView(device=HOSTILE, answered=1.0, accepted=False, code="no", text=HOSTILE, chosen=0, arrived=0),
    ),
)


def pages() -> dict[str, str]:
    closed = replace(REQUEST, state="closed", closed=3.0, closed_by=HOSTILE, closed_reason=HOSTILE)
    shown = notices_page.build(
        [(REQUEST, None), (closed, None)], [NOTICE, replace(NOTICE, ended=4.0)], [HOSTILE], 9.0
    )
    return {
        "notices": render("notices.html.j2", FRAME, shown),
        "samples": render("samples.html.j2", FRAME, samples_page.build([SAMPLES], 9.0)),
        "problem": render("problem.html.j2", FRAME, {"title": HOSTILE, "text": HOSTILE}),
        "nothing": render("notices.html.j2", FRAME, notices_page.build([], [], [], 9.0)),
        "no samples": render("samples.html.j2", FRAME, samples_page.build([], 9.0)),
    }


@pytest.mark.parametrize("name", list(pages()))
def test_words_stay_words(name: str) -> None:
    page = pages()[name]
    assert "<script" not in page
    assert "<img" not in page
    assert "49" not in page, "no word is a template"
    assert "{{ 7 * 7 }}" in page
    assert problems(page) == []


def test_a_hostile_name_is_one_address_and_one_label() -> None:
    found = told.grouped(
        [Finding(severity="error", where=HOSTILE, what=HOSTILE, to_do=HOSTILE)],
        {HOSTILE: "/devices/x"},
    )
    assert found[0].link(HOSTILE) == "/devices/x"
    table = heat.table(
        HeatMap(
            model=HOSTILE,
            release=1,
            slice="",
            days=("2026-11-28",),
            fleet=(None,),
            devices=(HOSTILE, "../../v1/audit"),
            cells=((None,), (None,)),
            cut=False,
        )
    )
    assert table is not None
    assert "<script" not in table.rows[1].svg
    assert [row.link for row in table.rows[1:]] == [
        "/devices/%22%3E%3Cscript%3Ealert%281%29%3C%2Fscript%3E%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%7B%7B%207%20%2A%207%20%7D%7D",
        "/devices/..%2F..%2Fv1%2Faudit",
    ]


def test_a_device_may_send_bins_that_are_not_the_references() -> None:
    signal: SignalReference = REFERENCE.signals[0]
    verdict = SignalVerdict(
        level="ok",
        rows=10,
        psi=0.0,
        js=0.0,
        ks=0.0,
        wasserstein=0.0,
        p_value=1.0,
        missing_rate=0.0,
        not_finite_rate=0.0,
        outside_rate=0.0,
    )
    odd = {signal.name: SignalCounts(counts=(1,) * 99), "a signal of its own": SignalCounts(counts=(1,))}
    assert charts(REFERENCE, odd, dict.fromkeys(odd, verdict)) == ()


def test_no_word_can_bring_its_own_style_or_script() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert "script-src" not in policy, "default-src 'none' forbids every script"
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy
