"""TLS for a listening socket, from files."""

import ssl
from pathlib import Path

from agent.protocol.access import TlsFiles

HANDSHAKE_SECONDS = 10.0
"""For a client to finish its handshake; until then it holds a connection's place."""

SHUTDOWN_SECONDS = 2.0
"""For a client to say goodbye after the server has; what it still sends is thrown away meanwhile."""


class TlsError(Exception):
    """TLS can't be spoken with these files; the text says which one and why."""


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.2 or newer with these files as they are now.

    Raises:
        TlsError: a file can't be read, is something else, or the key is not that of the certificate.
    """
    certificate, key, client_ca = files.certificate, files.key, files.client_ca
    for what, path in (("certificate", certificate), ("key", key), ("client_ca", client_ca)):
        if path is not None:
            _check_readable(what, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def refuse_to_ask() -> str:
        raise TlsError(f"tls.key {key}: the file is encrypted, and nobody is there to type its password")

    try:
        context.load_cert_chain(certificate, key, password=refuse_to_ask)
    except ssl.SSLError as error:
        told = (
            "the key is not that of the certificate"
            if error.reason == "KEY_VALUES_MISMATCH"
            else "not a certificate and its key in PEM"
        )
        raise TlsError(f"tls.certificate {certificate}, tls.key {key}: {told}") from error
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as error:
            raise TlsError(f"tls.client_ca {client_ca}: no certificate in PEM stands in it") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _check_readable(what: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise TlsError(f"tls.{what} {path}: {error.strerror}") from error
