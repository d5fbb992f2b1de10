"""``python -m models.reference.document > docs/drift-reference.md``: how a reference is made, and every setting."""

import inspect
import re

from agent.protocol import drift
from agent.protocol.settings import settings_page
from models.reference import declaration

_HEAD = """\
# The drift reference

Made from the structs of `models/reference/declaration.py` by `python -m models.reference.document > docs/drift-reference.md`;
a test fails when the two differ.

A release carries, signed with its manifest, what its data looked like when the model was made: for each *signal* the edges of
its bins and how many rows lay in each. A device counts its requests into the same bins and judges them against these
([drift](drift.md)). One command makes it, for the recipes of this repository and for you:

```
python -m models reference --signals signals.toml --model cells.onnx --data held-out.csv --out drift-reference.json
python -m models reference --signals signals.toml --release DIR --data scans.npz
```

- **--signals**: what is watched and how it is judged; the tables below. `models/digits/signals.toml` is the digits recipe's.
- **--data**: rows that the model was **not** trained on (on its training data a model is surer than it will ever be again),
  in the form that a device will see: `.npz` with one array a tensor, `.npy` with one array, or `.csv` with named columns.
  An empty cell is a value that is not known.
- **--model** runs on them, by the backend that a device uses; its tensors stand in `[model.inputs.NAME]` and
  `[model.outputs.NAME]`. **--release** takes a release folder instead, which says its tensors itself, and writes the file
  where `python -m models package` looks for it; **--variant** chooses among its files. Where the data has the outputs as
  arrays already, neither is needed.
- **--labels**, `data.label`: the class of each row. With them and a signal of summary `confidence` the device estimates its
  accuracy without labels ([accuracy](accuracy.md)); the command says whether the calibration passed its check.

It shows what it made, and warns of signals that will say little:

```
drift-reference.json: 3 signals of 419 rows, 1,708 bytes
signal      taken from                          bins    from      to  missing  not finite  needs rows
texture     value of input features[0]            10  -2.229   4.652        0           0         300
confidence  confidence of output probabilities    10  0.5014  0.9998        0           0         300
class       argmax of output probabilities         2       0       1        0           0         300
Accuracy will be estimated from confidence: 74.0% right on 419 labelled rows, 109 of them wrong; calibration error on held-out rows 0.046.
```

Warned of are signals that are constant, mostly missing, crowded into one bin, or that rank the rows as another one does, and
a reference smaller than a window. Refused are signals that could never be judged (fewer rows than 25 a bin, or than
`policy.minimum_rows`), and windows that would not fit a telemetry record.

A table, from its smallest part:

```toml
[data]
label = "malignant"            # a column that is no input

[model.inputs.features]
datatype = "FP32"
shape = [-1, 3]

[model.outputs.probabilities]
datatype = "FP32"
shape = [-1, 2]

[policy]
window_rows = 500

[signals.texture]
summary = "value"
column = "texture"

[signals.site]
summary = "category"           # whole numbers; others than those in the data count as "other"
column = "site"

[signals.confidence]
summary = "confidence"         # of the model's only output

[signals.class]
summary = "argmax"             # the rates of the classes
```

# Settings
"""


def document() -> str:
    """The page as Markdown."""
    source = inspect.getsource(declaration) + "\n" + inspect.getsource(drift)
    settings = settings_page(declaration.Declaration, source)
    return f"{_HEAD}\n{re.sub(r':[a-z]+:`', '`', settings)}"


if __name__ == "__main__":
    print(document(), end="")  # noqa: T201 - a page for standard output
