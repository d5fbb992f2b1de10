"""Cameras: threads that send held-out digits to their device with the unmodified ``tritonclient[http]``."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import tritonclient.http as triton

Images = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tally:
    """What one camera saw since it was last reset."""

    sent: int = 0
    failed: int = 0
    correct: int = 0
    first_failure: str | None = None

    @property
    def accuracy(self) -> float:
        answered = self.sent - self.failed
        return self.correct / answered if answered else float("nan")


class Camera(threading.Thread):
    """One device's client: a persistent connection, one image a request, at a steady rate."""

    def __init__(
        self, address: str, model: str, images: Images, labels: npt.NDArray[np.int64], rate: float
    ) -> None:
        super().__init__(name=f"camera-{address}", daemon=True)
        self._address = address
        self._model = model
        self._images = images
        self._labels = labels
        self._period = 1.0 / rate
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._tally = Tally()
        self.serving = threading.Event()
        """Set after the first answer; before it, 503 is what the device is to say."""
        self.lens: Callable[[Images], Images] | None = None

    def tally(self, *, reset: bool = False) -> Tally:
        with self._lock:
            tally = self._tally
            if reset:
                self._tally = Tally()
            return tally

    def finish(self) -> None:
        self._end.set()
        self.join(20)

    def run(self) -> None:
        client = triton.InferenceServerClient(url=self._address, connection_timeout=10, network_timeout=10)
        order = np.random.default_rng(int(self._address.rpartition(":")[2])).permutation(len(self._images))
        due = time.monotonic()
        row = 0
        while not self._end.is_set():
            self._send(client, int(order[row % len(order)]))
            row += 1
            due = max(due + self._period, time.monotonic() - 1.0)
            self._end.wait(max(0.0, due - time.monotonic()))
        client.close()

    def _send(self, client: triton.InferenceServerClient, index: int) -> None:
        image = self._images[index : index + 1]
        if self.lens is not None:
            image = self.lens(image)
        tensor = triton.InferInput("image", list(image.shape), "FP32")
        tensor.set_data_from_numpy(image)
        try:
            answer = client.infer(self._model, [tensor])
            digit = int(np.argmax(answer.as_numpy("probabilities")))
        except Exception as error:  # noqa: BLE001 - whatever the client raises is a failed request
            if self.serving.is_set():
                self._count(correct=False, failure=f"{type(error).__name__}: {error}")
            return
        self.serving.set()
        self._count(correct=digit == int(self._labels[index]), failure=None)

    def _count(self, *, correct: bool, failure: str | None) -> None:
        with self._lock:
            old = self._tally
            self._tally = replace(
                old,
                sent=old.sent + 1,
                failed=old.failed + (failure is not None),
                correct=old.correct + correct,
                first_failure=old.first_failure or failure,
            )
