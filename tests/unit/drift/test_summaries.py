"""Each formula against another implementation of it, or by hand."""

import colorsys

import numpy as np
import pytest
from scipy import fft, signal, stats

from agent.drift import summaries
from agent.drift.views import Views
from agent.protocol.drift import Layout

RANDOM = np.random.default_rng(3)
PHOTO = RANDOM.integers(0, 256, (4, 20, 24, 3), dtype=np.uint8)
GREY = np.stack(
    [0.299 * one[..., 0] + 0.587 * one[..., 1] + 0.114 * one[..., 2] for one in PHOTO.astype(float)]
)
SOUND = RANDOM.normal(0, 0.2, (3, 4_000)) + np.sin(np.arange(4_000) * 0.3)


def test_brightness_and_contrast_are_mean_and_deviation_of_luma() -> None:
    views = Views(PHOTO)
    assert summaries.brightness(views, "HWC") == pytest.approx(GREY.mean(axis=(1, 2)), rel=1e-6)
    assert summaries.contrast(views, "HWC") == pytest.approx(GREY.std(axis=(1, 2)), rel=1e-5)


@pytest.mark.parametrize("summary", list(summaries.PICTURES.values()))
def test_every_layout_is_the_same_picture(summary: summaries.Summarise) -> None:
    planes = np.moveaxis(PHOTO, -1, 1)
    see_through = np.concatenate([PHOTO, PHOTO[..., :1]], axis=-1)
    expected = summary(Views(PHOTO), layout="HWC")  # type: ignore[call-arg]
    pairs: list[tuple[np.ndarray, Layout]] = [
        (planes, "CHW"),
        (see_through, "HWC"),
        (PHOTO.astype(float), "HWC"),
    ]
    for tensor, layout in pairs:
        found = summary(Views(tensor), layout=layout)  # type: ignore[call-arg]
        assert found == pytest.approx(expected, rel=1e-5)


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    kernel = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
    expected = [signal.convolve2d(one, kernel, mode="valid").var() for one in GREY]
    assert summaries.sharpness(Views(GREY), "HW") == pytest.approx(expected)


def test_a_blurred_picture_is_less_sharp() -> None:
    blurred = np.stack([signal.convolve2d(one, np.full((3, 3), 1 / 9), mode="same") for one in GREY])
    assert (summaries.sharpness(Views(blurred), "HW") < summaries.sharpness(Views(GREY), "HW")).all()


def test_saturation_is_that_of_hsv() -> None:
    picture = PHOTO[:1, :4, :4].copy()
    picture[0, 0, 0] = 0  # black
    expected = np.mean([colorsys.rgb_to_hsv(*(pixel / 255))[1] for pixel in picture.reshape(-1, 3)])
    assert summaries.saturation(Views(picture), "HWC") == pytest.approx([expected], rel=1e-6)


def test_noise_finds_the_deviation_that_was_added() -> None:
    slope = np.add.outer(np.linspace(0, 50, 120), np.linspace(0, 90, 160))
    for sigma in (0.5, 4.0):
        found = summaries.noise(Views(slope[None] + RANDOM.normal(0, sigma, (3, 120, 160))), "HW")
        assert found == pytest.approx([sigma] * 3, rel=0.05)
    assert summaries.noise(Views(slope[None]), "HW") == pytest.approx([0], abs=1e-10)


def test_noise_is_immerkaers_convolution() -> None:
    kernel = [[1, -2, 1], [-2, 4, -2], [1, -2, 1]]
    for one in GREY:
        total = np.abs(signal.convolve2d(one, kernel, mode="valid")).sum()
        expected = np.sqrt(np.pi / 2) * total / (6 * (one.shape[0] - 2) * (one.shape[1] - 2))
        assert summaries.noise(Views(one[None]), "HW") == pytest.approx([expected])


def test_a_picture_too_small_for_its_neighbours_has_no_sharpness_and_no_noise() -> None:
    small = Views(GREY[:, :2])
    assert np.isnan(summaries.sharpness(small, "HW")).all()
    assert np.isnan(summaries.noise(small, "HW")).all()


def test_rms() -> None:
    assert summaries.rms(Views(SOUND)) == pytest.approx(np.sqrt((SOUND**2).mean(axis=1)))


def test_the_centroid_of_a_tone_is_its_frequency() -> None:
    # 0.3 radians a sample are 0.3 / π of half the sampling rate.
    tone = np.sin(np.arange(4_000) * 0.3)[None]
    assert summaries.spectral_centroid(Views(tone)) == pytest.approx([0.3 / np.pi], abs=0.002)
    higher = np.sin(np.arange(4_000) * 1.2)[None] * 5
    assert summaries.spectral_centroid(Views(higher)) == pytest.approx([1.2 / np.pi], abs=0.002)


def test_centroid_and_flatness_agree_with_scipys_spectrum() -> None:
    windowed = (SOUND - SOUND.mean(axis=1, keepdims=True)) * signal.windows.hann(4_000, sym=True)
    magnitude = np.abs(fft.rfft(windowed, axis=1))
    frequencies = np.linspace(0, 1, magnitude.shape[1])
    centroid = [np.average(frequencies, weights=one) for one in magnitude]
    flatness = stats.gmean(magnitude[:, 1:] ** 2, axis=1) / (magnitude[:, 1:] ** 2).mean(axis=1)
    assert summaries.spectral_centroid(Views(SOUND)) == pytest.approx(centroid)
    assert summaries.spectral_flatness(Views(SOUND)) == pytest.approx(flatness)


def test_noise_is_flat_and_a_tone_is_not() -> None:
    noise = summaries.spectral_flatness(Views(RANDOM.normal(size=(1, 4_000))))[0]
    tone = summaries.spectral_flatness(Views(np.sin(np.arange(4_000) * 0.3)[None]))[0]
    assert noise > 0.5
    assert tone < 0.01


def test_silence_has_loudness_and_no_spectrum() -> None:
    silence = Views(np.zeros((1, 100)))
    assert summaries.rms(silence) == [0.0]
    with np.errstate(all="ignore"):
        assert np.isnan(summaries.spectral_centroid(silence)).all()
        assert np.isnan(summaries.spectral_flatness(silence)).all()


def test_clipping_counts_both_sides_of_full_scale() -> None:
    sound = np.array([[0, 32767, -32768, 100], [1, 2, 3, 4]], dtype=np.int16)
    assert summaries.clipping(Views(sound), full_scale=32767).tolist() == [0.5, 0.0]


def test_projection_is_the_coordinate_along_a_component() -> None:
    rows = RANDOM.normal(size=(5, 8))
    mean, component = RANDOM.normal(size=8), RANDOM.normal(size=8)
    expected = (rows - mean) @ component
    assert summaries.projection(Views(rows), component=component, mean=mean) == pytest.approx(expected)


def test_margin_is_the_lead_of_the_first_over_the_second() -> None:
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.0, 0.5]])
    assert summaries.margin(Views(scores)) == pytest.approx([0.5, 0.0])
    assert np.isnan(summaries.margin(Views(np.ones((1, 1))))).all()
