"""An authority that a team made itself, and a certificate of it for a server on loopback."""

import datetime as dt
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def made(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """The authority's PEM file, and what a server at 127.0.0.1 shows."""
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("authority", "server")}
    files = {name: folder / f"{name}.pem" for name in ("authority", "server", "key")}
    files["authority"].write_bytes(_certificate("authority", keys))
    files["server"].write_bytes(_certificate("server", keys))
    files["key"].write_bytes(
        keys["server"].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(files["server"], files["key"])
    return files["authority"], shown


def _certificate(of: str, keys: dict[str, ec.EllipticCurvePrivateKey]) -> bytes:
    now, a_day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
    begun = (
        x509.CertificateBuilder()
        .subject_name(_name(of))
        .issuer_name(_name("authority"))
        .public_key(keys[of].public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - a_day)
        .not_valid_after(now + a_day)
        .add_extension(x509.BasicConstraints(ca=of == "authority", path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    return begun.sign(keys["authority"], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"tidegate test {common}")])
