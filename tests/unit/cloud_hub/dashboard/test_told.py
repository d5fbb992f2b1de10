from cloud_hub.dashboard import rendering, words
from cloud_hub.dashboard.accuracy import Labelled, card, known
from cloud_hub.dashboard.drawing.interval import Known
from cloud_hub.dashboard.heat import lasts
from cloud_hub.dashboard.told import grouped, headline, worst_of
from cloud_hub.fleet.service import Finding


def finding(where: str, severity: str = "warning", what: str = "Offline.") -> Finding:
    return Finding(severity=severity, where=where, what=what, to_do="look")  # type: ignore[arg-type]  # a test's word


def test_the_same_thing_about_many_devices_is_said_once() -> None:
    found = grouped([finding(f"cam-{number}") for number in range(1_000)], {"cam-1": "/devices/cam-1"})
    assert len(found) == 1
    assert len(found[0].where) == 1_000
    assert (found[0].link("cam-1"), found[0].link("hub")) == ("/devices/cam-1", None)


def test_the_headline_counts_the_worst() -> None:
    errors = [finding("a", "error"), finding("b", "error", "Broken.")]
    order = worst_of([finding("c"), *errors])
    assert [each.severity for each in order] == ["error", "error", "warning"]
    assert headline(grouped(order, {})).text == "2 things need you now"
    assert headline(grouped(errors[:1], {})).text == "1 thing needs you now"
    assert headline(grouped([finding("c")], {})).text == "1 thing to keep an eye on"
    assert headline(()).text == "All is well"


def test_accuracy_says_whether_estimate_and_labels_agree() -> None:
    estimate = Known(value=0.9, low=0.88, high=0.92)
    agreeing = card(estimate, None, Labelled(rows=100, correct=89), 0.95)
    assert "The two agree." in agreeing.sentences
    worse = card(estimate, None, Labelled(rows=1_000, correct=700), None)
    assert any("worse than it believes" in each for each in worse.sentences)
    nothing = card(None, "the calibration failed", Labelled(rows=0, correct=0), None)
    assert nothing.sentences[0] == "Not estimated: the calibration failed"
    assert nothing.svg == ""


def test_wilsons_interval_is_the_textbooks() -> None:
    found = known(Labelled(rows=10, correct=9))
    assert (round(found.low, 3), round(found.high, 3)) == (0.596, 0.982)
    assert known(Labelled(rows=5, correct=5)).high == 1.0


def test_how_long_a_verdict_has_held() -> None:
    assert lasts(["ok", "drift", None, "drift"]) == 2
    assert lasts([None]) == 0


def test_numbers_are_said_as_people_say_them() -> None:
    assert words.many(1, "device") == "1 device"
    assert words.many(1_200, "device") == "1,200 devices"
    assert [words.lasting(seconds) for seconds in (40, 700, 3_700, 777_600)] == [
        "40 s",
        "12 min",
        "1 h",
        "9 days",
    ]
    assert words.ago(3) == "just now"
    assert words.worst_first("drift") < words.worst_first("warning") < words.worst_first("ok")


def test_every_level_that_a_device_can_have_is_counted_on_the_page() -> None:
    counted = {"drift": 2, "warning": 3, "insufficient data": 4, "not judged": 5, "ok": 1_006}
    template = rendering._environment.from_string(
        "{% import 'parts.html.j2' as parts %}{{ parts.levels(counted) }}"
    )
    page = template.render(counted=counted)
    for said in (
        "<b>2</b> drifts",
        "<b>3</b> moves",
        "<b>4</b> too few rows",
        "<b>5</b> not judged",
        "<b>1,006</b>",
    ):
        assert said in page
