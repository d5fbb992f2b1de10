from hw_bench.serving.pairs import Sample, spread
from hw_bench.serving.targets import ECHO, EDGEWARD, TARGETS, TRITON, Figure, Target, outcomes


def rounds(p50: float, per_second: float) -> list[Sample]:
    return [
        Sample(p50_us=p50, p95_us=p50, p99_us=p50, requests_per_second=per_second, requests=10)
        for _ in range(3)
    ]


def test_small_is_good_for_latency_and_large_for_throughput() -> None:
    found = outcomes(
        {
            (EDGEWARD, 1): rounds(50, 1000),
            (TRITON, 1): rounds(100, 500),
            (EDGEWARD, 4): rounds(80, 900),
            (TRITON, 4): rounds(100, 500),
        }
    )
    judged = {(entry.target.quantity, entry.target.clients): entry for entry in found}
    assert judged["p50_us", 1].ratio.median == 0.5
    assert judged["p50_us", 1].kept is True
    assert judged["p50_us", 4].kept is False
    assert judged["requests_per_second", 4].ratio.median == 1.8
    assert judged["requests_per_second", 4].kept is False


def test_what_was_not_measured_is_not_judged() -> None:
    assert outcomes({(EDGEWARD, 1): rounds(50, 1)}) == ()


def test_a_comparison_without_promise_is_neither_kept_nor_missed() -> None:
    target = Target(quantity="p50_us", of=EDGEWARD, to=ECHO, clients=1, bound=None)
    (found,) = outcomes({(EDGEWARD, 1): rounds(50, 1), (ECHO, 1): rounds(10, 1)}, (target,))
    assert (found.kept, found.ratio.median) == (None, 5.0)


def test_figures_are_kept_up_to_their_bound() -> None:
    def kept(bound: float | None) -> bool | None:
        return Figure(name="f", unit="MiB", value=spread([30.0]), at_most=bound).kept

    assert [kept(30.0), kept(29.9), kept(None)] == [True, False, None]


def test_the_issue_s_promises_are_all_there() -> None:
    promised = {(t.quantity, t.of, t.to, t.clients): t.bound for t in TARGETS if t.bound is not None}
    assert promised == {
        ("p50_us", "edgeward", "triton", 1): 0.55,
        ("p50_us", "edgeward", "triton", 4): 0.55,
        ("p50_us", "edgeward front", "triton", 1): 0.7,
        ("p50_us", "edgeward front", "triton", 4): 0.7,
        ("p50_us", "edgeward", "mlserver", 1): 1 / 3,
        ("p50_us", "edgeward", "mlserver", 4): 1 / 3,
        ("p50_us", "edgeward", "echo", 1): 1.25,
        ("p50_us", "edgeward", "echo", 4): 1.25,
        ("requests_per_second", "edgeward", "triton", 4): 2.0,
        ("p50_us", "600 KB shared memory", "600 KB binary", 1): 0.1,
    }
