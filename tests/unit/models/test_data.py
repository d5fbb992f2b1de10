import numpy as np
import pytest

from models.digits import data
from models.network import FloatArray


def test_parts_are_disjoint_and_whole() -> None:
    digits = data.load()
    parts = (digits.train, digits.calibration, digits.held_out)
    assert [len(part.labels) for part in parts] == [800, 457, 540]
    # Two scans of the data set are equal pixel by pixel in no two parts: nothing held out was trained on.
    seen = [{scan.tobytes() for scan in part.images} for part in parts]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    assert not seen[0] & seen[1]


def test_the_split_is_pinned() -> None:
    assert data.load().digests == {
        "digits-train": "583d0db87bf25d2756df9ee68c0e78ac7ad37eb76803cba8e4f67bf16cb282f9",
        "digits-calibration": "9c1acba4622c95485eedca2bf6d205831dd3062a57fe251491ae9932b05a776b",
        "digits-held-out": "064f68fc5a4bfbe50dc76eb30c8fcd926b4dfdcc0af7d1ae96a7c134d980db75",
    }


def test_a_digest_covers_images_and_labels() -> None:
    part = data.load().calibration
    moved = data.Part(images=np.roll(part.images, 1, axis=0), labels=part.labels)
    renamed = data.Part(images=part.images, labels=np.roll(part.labels, 1))
    assert len({part.sha256, moved.sha256, renamed.sha256}) == 3


@pytest.mark.parametrize("name", data.CORRUPTIONS)
def test_corruptions_keep_form_and_range_and_change_something(name: str) -> None:
    images, _ = data.held_out()
    changed = data.CORRUPTIONS[name](images)
    assert changed.shape == images.shape
    assert changed.dtype == np.float32
    assert changed.min() >= 0.0
    assert changed.max() <= 1.0
    assert np.abs(changed - images).mean() > 0.01
    assert np.array_equal(data.CORRUPTIONS[name](images), changed)  # twice the same


def test_blur_spreads_one_pixel_as_the_binomial_kernel() -> None:
    image: FloatArray = np.zeros((1, 8, 8), np.float32)
    image[0, 3, 4] = 1.0
    spread = data.blur(image)
    assert spread[0, 2:5, 3:6].tolist() == [
        [0.0625, 0.125, 0.0625],
        [0.125, 0.25, 0.125],
        [0.0625, 0.125, 0.0625],
    ]
    assert spread.sum() == pytest.approx(1.0)


def test_darkness_scales_and_dirty_lens_is_both() -> None:
    images, _ = data.held_out()
    assert np.array_equal(data.darkness(images, light=0.5), images * np.float32(0.5))
    assert np.array_equal(data.dirty_lens(images), data.darkness(data.blur(images)))


def test_augmentation_repeats_labels_and_starts_with_the_originals() -> None:
    part = data.load().calibration
    more = data.augmented(part, copies=2, seed=5)
    assert len(more.images) == 3 * len(part.images)
    assert np.array_equal(more.images[: len(part.images)], part.images)
    assert np.array_equal(more.labels, np.tile(part.labels, 3))
