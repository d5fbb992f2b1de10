"""A request for samples, checked against metadata: who signed it, for whom, until when."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Targets

from agent.protocol.codec import encode_json
from agent.protocol.envelope import (
    BUNDLE_TYPE,
    SAMPLE_REQUEST_TYPE,
    EnvelopeSignature,
    pae,
    seal_all,
)
from agent.protocol.samples import SampleRequest, VerifiedSampleRequest
from agent.trust.errors import RefusedError
from agent.trust.samples import check_sample_request
from tests.fault.trust.hub_simulator import HubSimulator

HUB = HubSimulator(models=("digits", "faces"))
DIRECTOR, ADA = HUB.keys.director, HUB.keys.approvers["ada"]
TARGETS = Metadata[Targets].from_bytes(HUB.repository.published("targets")).signed
REQUEST = SampleRequest(
    id="request-1",
    model="digits",
    devices=("cam-1", "cam-2"),
    first_release=1,
    last_release=3,
    maximum=20,
    created=HUB.now.timestamp(),
    expires=HUB.now.timestamp() + 3600,
    purpose="night shots",
)


def envelope(
    *signers: CryptoSigner, kind: str = SAMPLE_REQUEST_TYPE, payload: bytes | None = None, **changes: Any
) -> bytes:
    signed = encode_json(msgspec.structs.replace(REQUEST, **changes))
    made = (signer.sign(pae(kind, signed)) for signer in signers)
    signatures = tuple(
        EnvelopeSignature(keyid=each.keyid, sig=bytes.fromhex(each.signature)) for each in made
    )
    return seal_all(kind, payload or signed, signatures, limit=2**20)


def check(
    data: bytes, *, device: str = "cam-1", seconds: float = 0.0, targets: Targets = TARGETS
) -> VerifiedSampleRequest:
    now = HUB.now + timedelta(seconds=seconds)
    return check_sample_request(data, targets=targets, device=device, now=now)


def refusal(data: bytes, **where: Any) -> str:
    with pytest.raises(RefusedError) as refused:
        check(data, **where)
    return refused.value.reason.code


def test_with_both_signatures_it_is_taken_and_says_who_asked() -> None:
    verified = check(envelope(DIRECTOR, ADA))
    assert verified.request == REQUEST
    assert verified.approver == ADA.public_key.keyid
    assert check(envelope(ADA, DIRECTOR), device="cam-2").digest == verified.digest


def test_one_signature_is_not_enough_whosever_it_is() -> None:
    stranger = CryptoSigner.generate_ed25519()
    for signers, code in (
        ((), "bad-signature"),
        ((ADA,), "bad-signature"),
        ((DIRECTOR,), "not-an-approver"),
        ((DIRECTOR, DIRECTOR), "not-an-approver"),
        ((DIRECTOR, stranger), "not-an-approver"),
        ((DIRECTOR, HUB.keys.online), "not-an-approver"),
        ((DIRECTOR, HUB.keys.offline[0]), "not-an-approver"),
        ((stranger, ADA), "bad-signature"),
    ):
        assert refusal(envelope(*signers)) == code, signers


def test_a_directors_key_that_is_an_approvers_too_counts_once() -> None:
    both = Metadata[Targets].from_bytes(HUB.repository.published("targets")).signed
    assert both.delegations is not None
    assert both.delegations.roles is not None
    both.add_key(DIRECTOR.public_key, "digits")
    assert refusal(envelope(DIRECTOR), targets=both) == "not-an-approver"
    assert check(envelope(DIRECTOR, ADA), targets=both).approver == ADA.public_key.keyid


def test_an_approver_who_was_revoked_or_is_another_models_may_not_ask() -> None:
    changed = Metadata[Targets].from_bytes(HUB.repository.published("targets")).signed
    changed.revoke_key(ADA.public_key.keyid, "digits")
    assert refusal(envelope(DIRECTOR, ADA), targets=changed) == "not-an-approver"
    assert check(envelope(DIRECTOR, ADA, model="faces"), targets=changed).request.model == "faces"
    assert refusal(envelope(DIRECTOR, ADA, model="unheard-of")) == "unknown-model"


def test_not_a_byte_of_it_may_change() -> None:
    larger = encode_json(msgspec.structs.replace(REQUEST, maximum=1000))
    assert refusal(envelope(DIRECTOR, ADA, payload=larger)) == "bad-signature"


def test_what_was_signed_as_something_else_is_none() -> None:
    assert refusal(envelope(DIRECTOR, ADA, kind=BUNDLE_TYPE)) == "malformed"
    relabelled = envelope(DIRECTOR, ADA, kind=BUNDLE_TYPE).replace(
        BUNDLE_TYPE.encode(), SAMPLE_REQUEST_TYPE.encode()
    )
    assert refusal(relabelled) == "bad-signature"


def test_it_is_for_these_devices_and_until_then() -> None:
    assert refusal(envelope(DIRECTOR, ADA), device="cam-3") == "wrong-device"
    assert check(envelope(DIRECTOR, ADA), seconds=3599).request == REQUEST
    assert refusal(envelope(DIRECTOR, ADA), seconds=3600) == "request-expired"


@pytest.mark.parametrize(
    "changes",
    [
        {"created": HUB.now.timestamp() + 2 * 86_400, "expires": HUB.now.timestamp() + 3 * 86_400},
        {"expires": HUB.now.timestamp() + 31 * 86_400},
        {"expires": 1e300},
        {"created": 1e300, "expires": 1.1e300},
        {"expires": REQUEST.created},
        {"first_release": 4},
        {"maximum": 0},
        {"maximum": 1001},
        {"devices": ()},
        {"purpose": ""},
        {"purpose": "two\nlines"},
        {"purpose": "\u202e"},
        {"id": "../../etc"},
    ],
)
def test_what_nobody_may_ask_for_is_malformed_whoever_signs(changes: dict[str, Any]) -> None:
    assert refusal(envelope(DIRECTOR, ADA, **changes)) == "malformed"


def test_noise_is_malformed() -> None:
    for data in (b"", b"{}", b"[" * 9_000, b"\xff" * 100, envelope(DIRECTOR, *[ADA] * 8)):
        assert refusal(data) == "malformed"
