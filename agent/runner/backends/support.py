"""What each library can do: one table, kept true by the conformance suite and printed in docs/backends.md."""

from typing import NamedTuple

from agent.runner.backends.datatypes import DATATYPES


class Support(NamedTuple):
    """One library that loads and runs model files."""

    library: str
    """Its name on the package index."""
    runtime: str
    """The manifest's word for the file format."""
    extra: str
    """What installs it: ``pip install 'edgeward[…]'``."""
    datatypes: tuple[str, ...]
    """Of inputs and outputs; an operator may take fewer."""
    text_only: bool
    """BYTES must be UTF-8."""
    cancel: bool
    """A run under way can be asked to end."""
    releases_gil: bool
    """Other Python threads go on while a model runs."""
    quantized_io: str
    wheels: str
    """Where a Linux device gets it from."""


_QUANTIZED_TFLITE = (
    "INT8, UINT8, INT16 with one scale and zero point a tensor: declared FP32 (converted here) or as they are"
)

SUPPORT: dict[str, Support] = {
    support.library: support
    for support in (
        Support(
            library="onnxruntime",
            runtime="onnx",
            extra="onnx",
            datatypes=DATATYPES,
            text_only=True,
            cancel=True,
            releases_gil=True,
            quantized_io="as the file has it: QuantizeLinear and DequantizeLinear are operators of the graph",
            wheels="x86_64, aarch64; CPython 3.11 and newer",
        ),
        Support(
            library="ai-edge-litert",
            runtime="tflite",
            extra="tflite",
            datatypes=DATATYPES,
            text_only=False,
            cancel=False,
            releases_gil=True,
            quantized_io=_QUANTIZED_TFLITE,
            wheels="x86_64, aarch64; CPython 3.11 and newer",
        ),
        Support(
            library="tflite-runtime",
            runtime="tflite",
            extra="tflite-legacy",
            datatypes=tuple(datatype for datatype in DATATYPES if datatype != "UINT16"),
            text_only=False,
            cancel=False,
            releases_gil=True,
            quantized_io=_QUANTIZED_TFLITE,
            wheels="x86_64, aarch64, armv7l (glibc 2.34 or newer on the last two); CPython 3.11 only, numpy<2",
        ),
    )
}
