"""Our statistics beside evidently's and our detector beside River's: their code, on the same numbers."""

import math

import numpy as np
import pytest

from agent.drift import sequential, statistics
from agent.drift.statistics import Floats
from agent.protocol.drift import SequentialPolicy
from hw_bench.drift import peers
from hw_bench.errors import MeasurementError
from tests.contract.drift.peers.answers import FOLDER, GOLDEN, Answers, ask, decode
from tests.contract.drift.peers.cases import Binned, Stream, questions

ASKED = questions()
each_case = pytest.mark.parametrize("case", ASKED.binned, ids=lambda case: case.name)
each_stream = pytest.mark.parametrize("stream", ASKED.streams, ids=lambda stream: stream.name)


@pytest.fixture(scope="module")
def golden() -> Answers:
    return decode(GOLDEN.read_bytes())


def sides(case: Binned) -> tuple[Floats, Floats]:
    return np.array([case.counts], dtype=np.float64), np.array([case.reference], dtype=np.float64)


@each_case
def test_psi_is_evidentlys_where_half_a_row_in_each_bin_is_nothing(case: Binned, golden: Answers) -> None:
    counts, reference = sides(case)
    expected = golden.binned[case.name]["psi"]
    # In an empty bin each has a convention of its own: half a row here, a share of 0.0001 there.
    found = statistics.population_stability(statistics.sides(counts, reference))[0]
    assert found == pytest.approx(expected, rel=0.1)
    many = statistics.population_stability(statistics.sides(counts * 1e6, reference * 1e6))[0]
    if min(case.counts):
        assert many == pytest.approx(expected, rel=1e-4)
    else:
        assert many > found


@each_case
def test_js_is_evidentlys_in_bits(case: Binned, golden: Answers) -> None:
    found = statistics.jensen_shannon(statistics.sides(*sides(case)))[0]
    assert found * math.sqrt(math.log(2)) == pytest.approx(golden.binned[case.name]["js"], rel=1e-9)


@each_case
def test_wasserstein_is_evidentlys(case: Binned, golden: Answers) -> None:
    found = statistics.wasserstein(statistics.sides(*sides(case)), np.array([case.positions]))[0]
    assert found == pytest.approx(golden.binned[case.name]["wasserstein"], rel=1e-9)


@each_case
def test_the_p_value_of_ks_is_evidentlys(case: Binned, golden: Answers) -> None:
    counts, reference = sides(case)
    distance = statistics.kolmogorov_smirnov(statistics.sides(counts, reference))
    found = statistics.ks_p_values(distance, counts.sum(axis=1), reference.sum(axis=1))[0]
    assert found == pytest.approx(golden.binned[case.name]["ks-p"], rel=0.05, abs=1e-6)


@each_case
def test_the_p_value_of_chi_squared_is_evidentlys_where_the_reference_is_large(
    case: Binned, golden: Answers
) -> None:
    # Evidently takes the reference's shares for exact; ours is the test of two samples.
    counts, reference = sides(case)
    found = statistics.chi_squared_p_values(counts, reference * 1e6)[0]
    assert found == pytest.approx(golden.binned[case.name]["chi-squared-p"], rel=1e-3, abs=1e-12)


@each_stream
def test_changes_are_seen_where_river_sees_them(stream: Stream, golden: Answers) -> None:
    policy = SequentialPolicy(
        tolerance=stream.tolerance, threshold=stream.threshold, minimum_windows=stream.minimum_windows
    )
    state, seen = sequential.initial(1), []
    for place, value in enumerate(stream.values):
        state, changed = sequential.step(state, np.array([value]), policy)
        if changed[0]:
            seen.append(place)
    assert seen == golden.streams[stream.name]


def test_the_cases_tell_one_statistic_from_another(golden: Answers) -> None:
    for name in ("psi", "js", "wasserstein"):
        values = [case[name] for case in golden.binned.values()]
        assert max(values) > 20 * min(values)
    for name in ("ks-p", "chi-squared-p"):
        values = [case[name] for case in golden.binned.values()]
        assert min(values) < 0.01
        assert max(values) > 0.1
    assert sum(map(bool, golden.streams.values())) >= 3


@pytest.mark.timeout(900)
def test_the_golden_values_are_theirs() -> None:
    """Runs their code; it makes their environment where it is absent, which takes about a minute and a half."""
    try:
        peers.install(FOLDER, lambda _: None)
    except MeasurementError as error:
        pytest.skip(f"NO ENVIRONMENT of evidently and River: pip reaches no registry: {error}")
    now, then = decode(ask()), decode(GOLDEN.read_bytes())
    assert now.versions == then.versions == {"evidently": "0.7.23", "river": "0.26.1"}
    assert now.streams == then.streams
    assert now.binned.keys() == then.binned.keys()
    for name, values in then.binned.items():
        assert now.binned[name] == pytest.approx(values, rel=1e-9), name
