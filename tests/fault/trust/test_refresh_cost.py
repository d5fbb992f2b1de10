"""One check when nothing is new: it asks for two small files and does little (figures: ``measure_refresh``)."""

from tests.fault.trust.measure_refresh import measure


def test_nothing_new_costs_a_kilobyte_on_the_wire_and_little_cpu() -> None:
    cost = measure(rounds=3)
    assert cost.asked == ("2.root.json", "timestamp.json")
    assert cost.wire_bytes <= 1_024
    # 10 ms on an idle machine (the command says how many); beside other tests the same work takes the processor longer.
    assert cost.check_ms <= 40
