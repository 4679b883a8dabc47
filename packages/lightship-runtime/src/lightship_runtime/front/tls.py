"""HTTPS with a certificate and key from files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightship_runtime.config import Config
from lightship_runtime.errors import ConfigError

if TYPE_CHECKING:
    import ssl


def tls_context(config: Config) -> ssl.SSLContext | None:
    """For the listening socket; None where the settings name no certificate. Raises ConfigError."""
    if config.tls_certificate is None:
        return None
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        files = " and ".join(filter(None, (config.tls_certificate, config.tls_key)))
        raise ConfigError(
            f"Could not load the certificate of {files}: {error.strerror or error}.",
            hint="Both are PEM files, readable by the server's user; the key must belong to the certificate.",
        ) from error
    return context
