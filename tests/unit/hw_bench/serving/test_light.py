import subprocess
import sys


def test_the_process_that_measures_memory_shares_no_library_with_what_it_measures() -> None:
    heavy = ("numpy", "onnxruntime", "ai_edge_litert", "tritonclient", "onnx")
    code = f"import hw_bench.__main__, hw_bench.serving.bench, sys; print([m for m in {heavy!r} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
