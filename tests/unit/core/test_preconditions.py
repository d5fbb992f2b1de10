"""What is waited for, in stable codes and in words that say what and until when."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from agent.core.maintenance import MaintenanceWindow, Schedule
from agent.core.preconditions import (
    Battery,
    Conditions,
    Facts,
    Order,
    Waiting,
    judge_download,
    judge_install,
)
from agent.protocol.state import Acceptance, Reason

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 27, 22, 48, tzinfo=BERLIN).timestamp()
SATURDAY = Schedule(
    windows=(MaintenanceWindow.parse("Sat 02:00-04:00"),), zone=BERLIN, zone_name="Europe/Berlin"
)
HELD = Reason(code="held-on-device", text="a technician holds this device: cleaning")
FINE = Facts(
    now=NOW, interface="eth0", battery=Battery(percent=80, plugged=False), temperature_c=50, free_mib=500
)
ALL = Conditions(
    schedule=SATURDAY,
    download_in_windows=True,
    metered_interfaces=("wwan*", "ppp0"),
    minimum_free_mib=16,
    minimum_battery_percent=20,
    maximum_temperature_c=85,
    operator=True,
)
ACCEPTED = Acceptance(by="maria (uid 1000)", at=NOW)


def install(conditions: Conditions, facts: Facts = FINE, order: Order | None = None) -> Waiting | None:
    return judge_install(conditions, facts, order or Order(), "digits")


def test_where_nothing_is_asked_for_nothing_is_waited_for() -> None:
    nothing_known = Facts(now=0.0, clock_set=False)
    assert install(Conditions(), nothing_known) is None
    assert judge_download(Conditions(), nothing_known, Order()) is None


def test_what_cant_be_told_holds_nothing_up() -> None:
    conditions = replace(ALL, schedule=None, operator=False)
    assert install(conditions, Facts(now=NOW)) is None
    assert judge_download(conditions, Facts(now=NOW), Order()) is None


@pytest.mark.parametrize(
    ("conditions", "facts", "code", "text"),
    [
        (
            Conditions(schedule=SATURDAY),
            FINE,
            "outside-window",
            "the maintenance window Sat 02:00-04:00 Europe/Berlin opens in 3 h 12 min (Sat 2026-11-28 02:00 CET)",
        ),
        (
            Conditions(schedule=SATURDAY),
            replace(FINE, now=60.0, clock_set=False),
            "clock-not-set",
            "the clock is not set (it says 1970-01-01 00:01 UTC), and there is a maintenance window to keep",
        ),
        (
            Conditions(minimum_battery_percent=20),
            replace(FINE, battery=Battery(percent=14, plugged=False)),
            "low-battery",
            "the battery is at 14 %, 20 % or mains are asked for",
        ),
        (
            Conditions(maximum_temperature_c=85),
            replace(FINE, temperature_c=91.2),
            "too-hot",
            "the processor is at 91 °C, at most 85 °C is allowed",
        ),
        (
            Conditions(minimum_free_mib=16),
            replace(FINE, free_mib=12),
            "low-disk",
            "12 MiB are free where updates are stored, 16 MiB are asked for",
        ),
        (
            Conditions(operator=True),
            FINE,
            "needs-operator",
            "an operator has to accept it on the device: edgeward accept digits",
        ),
    ],
)
def test_each_thing_that_installing_asks_for(
    conditions: Conditions, facts: Facts, code: str, text: str
) -> None:
    waiting = install(conditions, facts)
    assert waiting is not None
    assert (waiting.reason.code, waiting.reason.text) == (code, text)


def test_it_is_over_by_itself_only_where_everything_is() -> None:
    opening = datetime(2026, 11, 28, 2, 0, tzinfo=BERLIN).timestamp()
    window = install(Conditions(schedule=SATURDAY))
    assert window is not None
    assert window.until == opening
    both = install(Conditions(schedule=SATURDAY, operator=True))
    assert both is not None
    assert both.until is None
    assert both.reason.code == "needs-operator"
    assert both.reason.text.endswith("; and " + window.reason.text)
    assert install(Conditions(schedule=SATURDAY), replace(FINE, now=opening)) is None


def test_mains_count_as_charged_and_so_does_no_battery() -> None:
    conditions = Conditions(minimum_battery_percent=20)
    for battery in (Battery(percent=1, plugged=True), None, Battery(percent=20, plugged=False)):
        assert install(conditions, replace(FINE, battery=battery)) is None


def test_bytes_wait_for_the_network_and_the_window_and_not_for_the_battery() -> None:
    drained = replace(FINE, battery=Battery(percent=1, plugged=False), temperature_c=99, interface="wwan0")
    waiting = judge_download(ALL, drained, Order())
    assert waiting is not None
    assert waiting.reason.code == "outside-window"
    assert waiting.reason.text.endswith("; and the default route goes by wwan0, which is metered")
    anytime = replace(ALL, download_in_windows=False)
    assert judge_download(anytime, FINE, Order()) is None
    metered = judge_download(anytime, drained, Order())
    assert metered is not None
    assert metered.reason.code == "metered-network"
    assert judge_download(anytime, replace(drained, interface="ppp01"), Order()) is None


def test_what_was_brought_by_a_bundle_waits_for_no_network_and_no_room() -> None:
    metered = replace(FINE, interface="wwan0", free_mib=0.0)
    assert judge_download(ALL, metered, Order(brought=True)) is None
    held = judge_download(ALL, metered, Order(brought=True, hold=HELD))
    assert held is not None
    assert held.reason == HELD


def test_a_hold_holds_both() -> None:
    for waiting in (judge_download(ALL, FINE, Order(hold=HELD)), install(ALL, FINE, Order(hold=HELD))):
        assert waiting is not None
        assert waiting.reason.code == "held-on-device"
        assert waiting.reason.text.startswith(HELD.text)


def test_an_acceptance_stands_for_the_operator_and_for_nothing_else() -> None:
    waiting = install(ALL, FINE, Order(accepted=ACCEPTED))
    assert waiting is not None
    assert waiting.reason.code == "outside-window"


def test_accepted_to_be_installed_now_it_waits_for_room_and_holds_alone() -> None:
    order = Order(accepted=replace(ACCEPTED, now=True))
    worst = Facts(
        now=NOW,
        clock_set=False,
        interface="wwan0",
        battery=Battery(percent=1, plugged=False),
        temperature_c=99,
        free_mib=1,
    )
    roomy = replace(worst, free_mib=500)
    assert install(ALL, roomy, order) is None
    assert judge_download(ALL, roomy, order) is None
    for waiting in (install(ALL, worst, order), judge_download(ALL, worst, order)):
        assert waiting is not None
        assert waiting.reason.code == "low-disk"
    held = install(ALL, roomy, replace(order, hold=HELD))
    assert held is not None
    assert held.reason == HELD


def test_what_replaces_a_withdrawn_release_waits_for_no_window_and_no_cheaper_network() -> None:
    order = Order(urgent=True)
    assert judge_download(ALL, replace(FINE, interface="wwan0"), order) is None
    waiting = install(ALL, replace(FINE, battery=Battery(percent=1, plugged=False)), order)
    assert waiting is not None
    assert waiting.reason.code == "needs-operator"
    assert "battery" in waiting.reason.text
    assert "window" not in waiting.reason.text
    assert install(ALL, FINE, replace(order, accepted=ACCEPTED)) is None
