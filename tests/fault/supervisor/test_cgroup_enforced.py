"""Memory limits that the kernel enforces, on a real cgroup v2 hierarchy: in a guest kernel, whatever the host has mounted."""

from typing import Any

import pytest

from tests.support.uml import UML, run_in_guest

pytestmark = pytest.mark.skipif(
    UML is None, reason="linux.uml (Debian package user-mode-linux) is not installed"
)


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What guest_cgroup.py saw, in one boot."""
    folder = tmp_path_factory.mktemp("guest")
    return run_in_guest("tests.fault.supervisor.guest_cgroup", folder, memory_mib=768, timeout_seconds=150)


def test_only_what_was_delegated_is_divided(guest: Any) -> None:
    assert guest["delegation"]["refused_without_the_mark"]
    assert guest["user"]


def test_the_agent_moves_into_a_leaf_and_its_children_get_the_controller(guest: Any) -> None:
    delegation = guest["delegation"]
    assert delegation["own"] == "0::/system.slice/edgeward-agent.service/supervisor"
    assert delegation["controllers_for_children"] == ["memory"]
    assert delegation["again"]


def test_what_an_earlier_start_left_is_ended_and_removed(guest: Any) -> None:
    assert guest["delegation"]["left_over_process"] == -9
    assert not guest["delegation"]["left_over_cgroup"]


def test_a_runner_has_its_limit_before_it_has_its_model(guest: Any) -> None:
    enforcement = guest["enforcement"]
    assert enforcement["limits"] == {"memory.max": enforcement["expected_limit"], "memory.oom.group": "1"}


def test_a_runner_that_breaks_it_is_ended_by_the_kernel_and_replaced(guest: Any) -> None:
    number, code, text = guest["enforcement"]["reason"]
    assert (number, code) == (9, "memory-over-budget")
    assert "the kernel ended the runner" in text
    assert "100.0 MiB" in text
    assert guest["enforcement"]["events"][:2] == [["runner-died", "greedy"], ["runner-restarted", "greedy"]]
    assert guest["enforcement"]["after"] == 200


def test_the_other_model_answers_on_without_a_failed_request(guest: Any) -> None:
    codes, same_process = guest["enforcement"]["neighbour"]
    assert len(codes) > 3
    assert set(codes) == {200}
    assert same_process


def test_a_service_that_is_short_of_memory_is_not_the_release_s_fault(guest: Any) -> None:
    room, code = guest["enforcement"]["service"]
    assert 0 < room < 100  # the service's limit, not the device's free memory
    assert guest["enforcement"]["room"] > 300
    assert code == "out-of-memory"


def test_a_runner_s_cgroup_goes_with_it(guest: Any) -> None:
    assert guest["enforcement"]["left"] == []
    assert guest["enforcement"]["children"] == 0
