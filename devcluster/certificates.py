"""A certificate authority for one cluster, and what it signs; all of it lives as long as the cluster's state."""

import datetime as dt
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_YEARS = dt.timedelta(days=3650)


class Authority:
    """Signs server and client certificates into `folder`. Existing files in the folder are reused."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self.certificate = folder / "ca.crt"
        key = folder / "ca.key"
        if not self.certificate.exists():
            private = ec.generate_private_key(ec.SECP256R1())
            name = _name("devcluster-ca")
            usage = x509.KeyUsage(
                digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
                key_encipherment=False, data_encipherment=False, key_agreement=False,
                encipher_only=False, decipher_only=False,
            )  # fmt: skip
            certificate = (
                _builder(name, name, private.public_key())
                .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
                .add_extension(usage, critical=True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
                .sign(private, hashes.SHA256())
            )
            _write_key(key, private)
            self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{key} is not a key of ours")
        self._key = loaded
        self._root = x509.load_pem_x509_certificate(self.certificate.read_bytes())

    def issue(self, name: str, *, user: str, group: str | None = None, hosts: Sequence[str] = ()) -> tuple[Path, Path]:
        """Certificate and key files for `name`: common name `user`, organisation `group`, and `hosts` its addresses."""
        crt, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        if crt.exists() and key.exists():
            return crt, key
        private = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_name(user, group), self._root.subject, private.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_address(h) for h in hosts]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        _write_key(key, private)
        crt.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return crt, key

    def signing_key(self, name: str) -> tuple[Path, Path]:
        """A key pair for signing ServiceAccount tokens: public and private key files."""
        public, key = self._folder / f"{name}.pub", self._folder / f"{name}.key"
        if not public.exists():
            private = rsa.generate_private_key(65537, 2048)
            _write_key(key, private)
            public.write_bytes(
                private.public_key().public_bytes(
                    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
                )
            )
        return public, key


def _name(user: str, group: str | None = None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    if group:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(parts)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + _YEARS)
    )


def _address(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(pem)
