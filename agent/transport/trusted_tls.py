"""TLS whose certificates are judged at trusted time, which the machine's own clock is only one source of (decision 0018).

OpenSSL is told not to look at the clock; each certificate of the chain that it verified is then judged here, before the
first byte of whatever is to be said. Trusted time is a lower bound, so it can prove that a certificate has expired, never that
it is not valid yet: a device that wakes up in 1970 reaches a hub whose certificate was renewed meanwhile.
"""

import ssl
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

NO_CHECK_TIME = 0x200000
"""``X509_V_FLAG_NO_CHECK_TIME`` (openssl/x509_vfy.h); the ``ssl`` module has no name for it."""


class ExpiredCertificateError(ssl.SSLCertVerificationError):
    """A certificate of the verified chain has expired at trusted time."""


def judge_at(context: ssl.SSLContext, clock: Callable[[], float]) -> ssl.SSLContext:
    """Have every connection of a client's context judge certificates by ``clock`` (Unix seconds); returns the context."""

    class TimedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as it is inherited
            try:
                super().do_handshake(block)
                judge(_chain(self), clock())
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except OSError:
                self.close()  # paho would leave it to the garbage collector
                raise

    class TimedObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            judge(_chain(self), clock())

    context.verify_flags = ssl.VerifyFlags(context.verify_flags | NO_CHECK_TIME)
    context.sslsocket_class = TimedSocket
    context.sslobject_class = TimedObject
    return context


def judge(chain: Iterable[Mapping[str, Any]], now: float) -> None:
    """Judge certificates, as :meth:`ssl.SSLSocket.getpeercert` tells them.

    Raises:
        ExpiredCertificateError: one has expired, or there is none.
    """
    seen = False
    for certificate in chain:
        seen = True
        expires = float(ssl.cert_time_to_seconds(certificate["notAfter"]))
        if now > expires:
            raise ExpiredCertificateError(
                f"CERTIFICATE_VERIFY_FAILED: the certificate of {_name(certificate)} expired at {_at(expires)}, and this "
                f"device takes it to be {_at(now)}: if its clock is wrong, set it; else the hub needs a new certificate"
            )
    if not seen:
        raise ExpiredCertificateError("CERTIFICATE_VERIFY_FAILED: no certificate was verified")


def _chain(connection: Any) -> Iterable[Mapping[str, Any]]:
    """From the leaf to the authority. Public only from Python 3.13 on, and without the dates; a test guards the private name."""
    return [certificate.get_info() for certificate in connection._sslobj.get_verified_chain()]  # noqa: SLF001


def _name(certificate: Mapping[str, Any]) -> str:
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return names[0] if names else "the hub"


def _at(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"
