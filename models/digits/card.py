"""The model card (Mitchell et al. 2019, "Model Cards for Model Reporting"), written from what was measured."""

from pathlib import Path

from agent.protocol.evidence import Evaluation, VariantEvaluation
from models.description import Description
from models.digits import data


def render_card(folder: Path, description: Description, evaluation: Evaluation) -> str:
    """The card of a ``digits`` folder as Markdown."""
    sections = (
        f"# Model card: {description.model}",
        description.summary,
        _use(description),
        _data(description, evaluation),
        _metrics(folder, description, evaluation),
        _slices(evaluation),
        _limits(evaluation),
        _made(description),
    )
    return "\n\n".join(sections) + "\n"


def _use(description: Description) -> str:
    return f"""## Intended use
Reads one handwritten decimal digit from an 8x8 greyscale scan on a device with a CPU, to demonstrate and test how
Edgeward releases models. Not for cheques, identity papers, grades, or any decision about a person.

**Input** `image` FP32 [-1, 8, 8]. {description.preprocessing}
**Output** `probabilities` FP32 [-1, 10]: one a digit, 0 to 9, summing to 1."""


def _data(description: Description, evaluation: Evaluation) -> str:
    digits = data.load()
    parts = (("train", digits.train), ("calibration", digits.calibration), ("held-out", digits.held_out))
    rows = "\n".join(
        f"| {name} | {len(part.labels)} | `{description.datasets[f'digits-{name}']}` |"
        for name, part in parts
    )
    return f"""## Data
{evaluation.dataset} (E. Alpaydin and C. Kaynak, 1998; 13 writers; 1,797 scans). The split is by scan, stratified by
digit, with seed {data.SPLIT_SEED}; the same writers stand in every part. Training adds copies moved by up to a pixel, with other
ink and a little noise. Calibration makes int8 ranges, temperature, golden vectors and the drift reference.

| part | scans | SHA-256 of the canonical bytes |
|---|---|---|
{rows}"""


def _metrics(folder: Path, description: Description, evaluation: Evaluation) -> str:
    names = tuple(data.CORRUPTIONS)
    head = "| variant | bytes | accuracy | ECE | MCE | " + " | ".join(names) + " |"
    files = {variant.name: folder / variant.filename for variant in description.variants}
    rows = "\n".join(
        _metric_row(entry, files[entry.variant].stat().st_size, names) for entry in evaluation.variants
    )
    return f"""## Metrics on {evaluation.variants[0].rows} held-out scans
{head}
|{"---|" * (5 + len(names))}
{rows}

ECE and MCE: expected and maximum calibration error, {evaluation.variants[0].calibration.bins} bins. The last columns are accuracy under one blur, half the
light, Gaussian noise of 0.15, and blur with half the light."""


def _metric_row(entry: VariantEvaluation, size: int, names: tuple[str, ...]) -> str:
    calibration = entry.calibration
    cells = [
        entry.variant,
        f"{size:,}",
        f"{entry.accuracy:.3f}",
        f"{calibration.expected_calibration_error:.3f}",
        f"{calibration.maximum_calibration_error:.3f}",
        *(f"{entry.robustness[name]:.3f}" for name in names),
    ]
    return "| " + " | ".join(cells) + " |"


def _slices(evaluation: Evaluation) -> str:
    first = evaluation.variants[0]
    rows = "\n".join(
        f"| {part.name} | {part.rows} | "
        + " | ".join(f"{entry.slices[index].accuracy:.3f}" for entry in evaluation.variants)
        + " |"
        for index, part in enumerate(first.slices)
    )
    names = " | ".join(entry.variant for entry in evaluation.variants)
    return f"""### By class
| slice | scans | {names} |
|---|---|{"---|" * len(evaluation.variants)}
{rows}"""


def _limits(evaluation: Evaluation) -> str:
    worst = min(
        (accuracy, name) for entry in evaluation.variants for name, accuracy in entry.robustness.items()
    )
    return f"""## Limits
- 13 writers of the 1990s, one way to scan; other hands, pens and cameras were not measured.
- It always answers with a digit, also for a letter or an empty image; confidence is calibrated for digits only.
- Worst measured corruption: {worst[1]}, accuracy {worst[0]:.3f}. The drift reference (`models/digits/signals.toml`)
  watches brightness, contrast, sharpness, noise, two directions of stroke, confidence, entropy and the mix of classes, and
  says nothing before 300 images.
- A class has about 54 held-out scans: one scan moves its accuracy by 0.019. The networks' sizes were chosen with the
  held-out accuracy in view, so it flatters a little."""


def _made(description: Description) -> str:
    packages = ", ".join(f"{name} {found}" for name, found in sorted(description.packages.items()))
    return f"""## Made with
`{description.recipe}`, code {description.code_version}; {packages}. Fixed seeds throughout."""
