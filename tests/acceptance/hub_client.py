"""What a fleet manager's scripts do: the hub's REST API, by httpx."""

from typing import Any

import httpx

from tests.acceptance.processes import StepFailedError


class HubClient:
    """A person with a bearer token."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def get(self, path: str) -> Any:
        return self._checked(self._http.get(path))

    def download(self, path: str) -> bytes:
        answer = self._http.get(path)
        answer.raise_for_status()
        return answer.content

    def post(self, path: str, body: object | None = None) -> Any:
        return self._checked(self._http.post(path, json=body))

    def is_up(self) -> bool:
        try:
            return self._http.get("/v1/fleet").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self._http.close()

    @staticmethod
    def _checked(answer: httpx.Response) -> Any:
        if answer.is_error:
            raise StepFailedError(
                f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
            )
        return answer.json() if answer.content else None
