"""Enrolment: a token and a key made here, against an identity and the root of trust. Once in a device's life."""

import contextlib

from agent.config import AgentConfig
from agent.enrolled import BROKER_FILE, IDENTITY_FOLDER, TRUST_FILE
from agent.protocol.codec import encode_json
from agent.protocol.enrolment import EnrolmentRequest
from agent.protocol.verification import Mark
from agent.store.durable_file import create_durable, make_folder, write_durable
from agent.store.trust_db import TrustDatabase
from agent.transport.errors import IdentityExistsError
from agent.transport.http import enrol
from agent.transport.identity import create_key, signing_request, store_certificate
from agent.transport.identity_files import IdentityFiles


def enrol_device(config: AgentConfig, hub_url: str, token: str) -> None:
    """Enrol this device; may be run again after a failure, and with a new token for a new certificate.

    Raises:
        EnrolmentError: the hub refused, or its root of trust is not the one the token names.
        IdentityError: the key can't be used, or the certificate does not fit it.
        StoreError: another root of trust is here already.
    """
    files = IdentityFiles.within(config.state / IDENTITY_FOLDER)
    make_folder(config.state / IDENTITY_FOLDER)
    # An earlier attempt made it, or a new certificate is asked for.
    with contextlib.suppress(IdentityExistsError):
        create_key(files, create_durable)
    request = EnrolmentRequest(
        token=token,
        device=config.device.id,
        hardware_class=config.device.hardware_class,
        csr=signing_request(files, config.device.id),
    )
    answer = enrol(hub_url, request)
    trust = TrustDatabase(config.state / TRUST_FILE)
    try:
        minimum = [
            Mark(role=role, keys="", version=version) for role, version in answer.minimum_versions.items()
        ]
        trust.initialise(answer.root.encode(), minimum)
    finally:
        trust.close()
    store_certificate(files, config.device.id, answer.certificate, answer.authority, write_durable)
    write_durable(config.state / BROKER_FILE, encode_json(answer.broker))
