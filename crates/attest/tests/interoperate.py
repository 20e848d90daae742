#!/usr/bin/env python3
"""Verifies with OpenSSL and PyPI's securesystemslib what `layersift attest -o` wrote: interoperate.py BUNDLES KEY.pub

Says what was checked, and leaves out what is not installed. PyPI's sigstore (4.5.1) only reads bundles with a
certificate and entries of a transparency log, and says so.
"""

import base64
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

PAYLOAD_TYPE = "application/vnd.in-toto+json"


def pae(payload):
    return f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} ".encode() + payload


def by_openssl(envelope, key):
    payload = base64.b64decode(envelope["payload"])
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        (work / "message").write_bytes(pae(payload))
        (work / "signature").write_bytes(signature)
        is_ed25519 = "ED25519" in run("openssl", "pkey", "-pubin", "-in", key, "-text", "-noout")
        if is_ed25519:
            call = ["pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", work / "message"]
            call += ["-sigfile", work / "signature"]
        else:
            call = ["dgst", "-sha256", "-verify", key, "-signature", work / "signature", work / "message"]
        run("openssl", *call)


def by_securesystemslib(envelope, key):
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    loaded = load_pem_public_key(key.read_bytes())
    scheme = "rsa-pkcs1v15-sha256" if isinstance(loaded, RSAPublicKey) else None
    public = SSlibKey.from_crypto(loaded, scheme=scheme)
    # It finds signatures by key ids, which cosign does not take in a bundle.
    signatures = [{"keyid": public.keyid, "sig": envelope["signatures"][0]["sig"]}]
    read = Envelope.from_dict({**envelope, "signatures": signatures})
    read.verify([public], 1)
    read.payload = read.payload + b" "
    try:
        read.verify([public], 1)
    except Exception:
        return
    raise SystemExit("securesystemslib takes a changed payload")


def by_sigstore(line):
    from sigstore.models import Bundle

    Bundle.from_json(line)


def run(*call):
    return subprocess.run([str(part) for part in call], check=True, capture_output=True, text=True).stdout


def main():
    bundles, key = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    for line in bundles.read_text().splitlines():
        envelope = json.loads(line)["dsseEnvelope"]
        checked = []
        if shutil.which("openssl"):
            by_openssl(envelope, key)
            checked.append("openssl")
        try:
            by_securesystemslib(envelope, key)
            checked.append("securesystemslib")
        except ImportError:
            pass
        try:
            by_sigstore(line)
            checked.append("sigstore parses it")
        except ImportError:
            pass
        except Exception as error:
            lines = str(error).splitlines()
            checked.append(f"sigstore does not parse it ({' '.join(lines[1:3])})")
        kind = json.loads(base64.b64decode(envelope["payload"]))["predicateType"]
        print(f"{kind}: {', '.join(checked)}")


main()
