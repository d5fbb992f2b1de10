"""The API's description says what there is, and every error is a problem report."""

from typing import Any

import pytest

from tests.unit.cloud_hub.hub_world import People

PATHS = {
    "/health",
    "/v1/enrolment-tokens",
    "/v1/enrol",
    "/v1/devices",
    "/v1/devices/revocations",
    "/v1/devices/{device}",
    "/v1/devices/{device}/hold",
    "/v1/devices/{device}/labels",
    "/v1/accuracy/{model}",
    "/v1/devices/{device}/resume",
    "/v1/devices/{device}/revoke",
    "/v1/releases",
    "/v1/releases/{model}/{release}",
    "/v1/releases/{model}/{release}/files/{filename}",
    "/v1/releases/{model}/{release}/model-signature",
    "/v1/releases/{model}/{release}/submit",
    "/v1/releases/{model}/{release}/withdraw",
    "/v1/metadata/{name}",
    "/v1/artifacts/{sha256}",
    "/v1/models/{model}/draft",
    "/v1/models/{model}/draft/signatures",
    "/v1/bundles",
    "/v1/receipts",
    "/v1/rollouts",
    "/v1/rollouts/{rollout}",
    "/v1/rollouts/{rollout}/{action}",
    "/v1/telemetry/counts",
    "/v1/drift",
    "/v1/drift/{model}/{release}",
    "/v1/drift/{model}/{release}/days",
    "/v1/drift/{model}/{release}/devices/{device}",
    "/v1/drift/{model}/{release}/heat-map",
    "/v1/devices/{device}/drift/{model}",
    "/v1/retraining",
    "/v1/retraining/{request_id}",
    "/v1/retraining/{request_id}/acknowledge",
    "/v1/retraining/{request_id}/close",
    "/v1/retraining/{request_id}/evidence/{number}",
    "/v1/retraining/policies/{model}",
    "/v1/notices",
    "/v1/webhooks",
    "/v1/ingest",
    "/v1/samples/requests",
    "/v1/samples/requests/{request_id}",
    "/v1/samples/requests/{request_id}/close",
    "/v1/samples/requests/{request_id}/samples",
    "/v1/samples/requests/{request_id}/samples/{device}/{sample}",
    "/v1/audit",
    "/v1/audit/export",
    "/v1/fleet",
    "/v1/trust",
}


@pytest.fixture
def schema(people: People) -> dict[str, Any]:
    response = people.http.get("/schema/openapi.json")
    assert response.status_code == 200
    document: dict[str, Any] = response.json()
    return document


def test_every_endpoint_is_described_and_every_reference_resolves(schema: dict[str, Any]) -> None:
    assert set(schema["paths"]) == PATHS
    assert schema["openapi"].startswith("3.1")
    found = references(schema)
    assert found
    for reference in found:
        target: Any = schema
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [found for value in part.values() for found in references(value)]
    if isinstance(part, list):
        return [found for value in part for found in references(value)]
    return []


@pytest.mark.parametrize(
    ("who", "method", "path", "body", "status"),
    [
        (None, "GET", "/v1/fleet", None, 401),
        ("viewer", "POST", "/v1/rollouts/1/pause", None, 403),
        ("viewer", "GET", "/v1/devices/nobody", None, 404),
        ("viewer", "GET", "/v1/metadata/..%2f..%2fhub.toml", None, 404),
        ("viewer", "GET", "/v1/artifacts/xyz", None, 400),
        ("viewer", "GET", "/v1/releases/digits/0", None, 400),
        ("operator", "POST", "/v1/rollouts", {"model": 1}, 400),
        ("operator", "POST", "/v1/bundles", {"devices": ["nobody"]}, 404),
        ("operator", "POST", "/v1/receipts", {"payload": ""}, 400),
        ("viewer", "GET", "/v1/receipts?device=No", None, 400),
        ("viewer", "GET", "/v1/receipts?limit=101", None, 400),
        ("viewer", "GET", "/v1/receipts?after=No", None, 400),
        ("viewer", "GET", f"/v1/receipts?after={'0' * 64}", None, 404),
        ("viewer", "GET", "/nowhere", None, 404),
        ("viewer", "DELETE", "/v1/devices", None, 405),
    ],
)
def test_errors_are_problem_reports(
    people: People, who: str | None, method: str, path: str, body: object, status: int
) -> None:
    response = people.call(who, method, path, **({"json": body} if body else {}))
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) == {"type", "title", "status", "detail", "instance"}
    assert problem["status"] == status
