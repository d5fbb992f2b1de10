"""The board of transfers, and how far a deployment's bytes are."""

from agent.protocol.state import Reason
from agent.protocol.verification import ReleaseFile
from agent.service.transfers import REMEMBERED, DeploymentMeter, Transfers


def test_only_what_arrives_counts_for_the_rate() -> None:
    board = Transfers()
    meter = DeploymentMeter(board, ["a", "b"])
    assert meter.progress(0.0) is None
    meter.told(600, 1000)  # an earlier start has left so much
    meter.progress(0.0)
    board.flow("a").arrived += 200
    board.flow("a").way = "http"
    board.flow("other").arrived += 10**6
    meter.told(800, 1000)
    progress = meter.progress(4.0)
    assert progress is not None
    assert (progress.bytes_per_second, progress.eta_seconds, progress.way) == (50.0, 4.0, "http")
    assert (progress.done_bytes, progress.total_bytes) == (800, 1000)


def test_where_nothing_comes_nothing_is_promised() -> None:
    board = Transfers()
    meter = DeploymentMeter(board, ["a"])
    meter.told(10, 1000)
    meter.progress(0.0)
    stuck = meter.progress(30.0)
    assert stuck is not None
    assert (stuck.bytes_per_second, stuck.eta_seconds, stuck.way) == (0.0, None, None)
    board.flow("a").waiting = Reason(code="bytes-not-coming", text="no link")
    assert meter.waiting is not None


def test_a_patch_is_counted_as_one() -> None:
    board = Transfers()
    files = [
        ReleaseFile(filename=name, sha256=digit * 64, size=1)
        for digit, name in (("a", "model.onnx"), ("b", f"model.onnx.from-{'0' * 16}.sub8"))
    ]
    board.expect(files)
    assert [board.flow(file.sha256).purpose for file in files] == ["artifacts", "patches"]


def test_a_board_forgets_the_oldest() -> None:
    board = Transfers()
    for number in range(REMEMBERED + 1):
        board.flow(str(number)).arrived = 1
    assert board.arrived(["0"]) == 0
    assert board.arrived(["1", str(REMEMBERED)]) == 2
