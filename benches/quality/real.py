"""What an expression cannot say of a secret: checksums, and secrets with a structure of their own.

Text made from an expression alone is none that a service issued where the service ends its tokens in a checksum, or
where the secret is a document. Here such text is mended, or made.
"""

import base64
import hashlib
import hmac
import json
import random
import re
import string
import subprocess
import zlib

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
BASE36 = string.digits + string.ascii_lowercase
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def with_checksum(text):
    """`text`, in which every token of a format with a checksum has the right one."""
    for pattern, mend in CHECKSUMS:
        text = pattern.sub(lambda match: mend(match[0]), text)
    return text


def crc(text):
    return zlib.crc32(text.encode())


def digits(number, alphabet, length):
    text = ""
    for _ in range(length):
        number, digit = divmod(number, len(alphabet))
        text = alphabet[digit] + text
    return text


def of_last_36(token):
    """GitHub's and npm's: six digits behind thirty characters."""
    return token[:-6] + digits(crc(token[-36:-6]), BASE62, 6)


def of_github_pat(token):
    """GitHub's fine-grained tokens: an underscore behind 22 characters, and the same six digits at the end."""
    token = token.replace("_", "0")
    return of_last_36(f"github_pat_{token[11:33]}_{token[34:]}")


def of_gitlab(token):
    """GitLab's routable tokens: seven digits behind everything else."""
    return token[:-7] + digits(crc(token[:-7]), BASE36, 7)


def of_grafana(token):
    """Grafana's: hexadecimal digits, the lowest byte first."""
    body = token[:-9]
    return f"{body}_{crc(body).to_bytes(4, 'little').hex()}"


def of_pypi(token):
    """PyPI's: a macaroon, of which the location comes first and an identifier and a signature behind."""
    seed = hashlib.sha256(token.encode()).digest()
    identifier = json.dumps({"version": 1, "permissions": "user", "user": seed.hex()[:16]}).encode()
    packets = b"\x02\x01\x08pypi.org\x02" + bytes([len(identifier)]) + identifier + b"\x00\x00\x06\x20" + seed
    return "pypi-" + base64.urlsafe_b64encode(packets).decode().rstrip("=")


def of_age(token):
    """age's: Bech32 (BIP 173)."""
    name, data = token.lower().rsplit("1", 1)
    values = [BECH32.index(digit) for digit in data[:-6]]
    # 32 bytes are 52 digits of five bits; the four bits that are left over are zero.
    values[-1] &= 0b10000
    high, low = [ord(c) >> 5 for c in name], [ord(c) & 31 for c in name]
    check = polymod(high + [0] + low + values + [0] * 6) ^ 1
    return f"{name}1{''.join(BECH32[v] for v in values)}{digits(check, BECH32, 6)}".upper()


def of_polar(token):
    """Polar's: six digits behind 37 characters that come after the prefix."""
    prefix, body = re.match(r"(polar_[a-z]+_)(.*)", token).groups()
    body = (re.sub("[_-]", "0", body) * 3)[:37]
    return prefix + body + digits(crc(body), BASE62, 6)


def of_bedrock(token):
    """Amazon Bedrock's short-lived keys: an address that is signed, in base64."""
    query = f"bedrock.amazonaws.com/?Action=CallWithBearerToken&X-Amz-Signature={hashlib.sha256(token.encode()).hexdigest()}"
    return "bedrock-api-key-" + base64.b64encode(query.encode()).decode()


def polymod(values):
    generators = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(generators):
            check ^= generator if top >> bit & 1 else 0
    return check


CHECKSUMS = [(re.compile(pattern), mend) for pattern, mend in (
    (r"\bgh[pousr]_[0-9A-Za-z]{36}\b", of_last_36),
    (r"\btss_[0-9A-Za-z_-]{20,}", lambda token: of_last_36("tss_" + (re.sub("[_-]", "0", token[4:]) * 2)[:36])),
    (r"\bgithub_pat_\w{82}\b", of_github_pat),
    (r"\bnpm_[0-9A-Za-z]{36}\b", of_last_36),
    (r"\bgl[a-z]+-[0-9A-Za-z_.-]{27,}\.[0-9a-z]{9}\b", of_gitlab),
    (r"\bglsa_[0-9A-Za-z]{32}_[0-9A-Fa-f]{8}\b", of_grafana),
    (r"\bpypi-AgEIcHlwaS5vcmc[\w-]+", of_pypi),
    (r"\bpolar_[a-z]+_[\w-]{20,}", of_polar),
    (r"\bbedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29t", of_bedrock),
    (r"\bAGE-SECRET-KEY-1[0-9A-Z]{58}\b", of_age),
)]


# Secrets that are documents, by what the name of a rule for them ends in.


def private_key(seed):
    """An RSA key in a PEM block, as OpenSSL writes it."""
    del seed
    return subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
                          capture_output=True, text=True, check=True).stdout.strip()


def service_account(seed):
    """The key file of a Google service account."""
    chosen = random.Random(seed)
    return json.dumps({
        "type": "service_account",
        "project_id": "orchard-" + token(chosen, 6).lower(),
        "private_key_id": chosen.randbytes(20).hex(),
        "private_key": private_key(seed) + "\n",
        "client_email": "builder@orchard.iam.gserviceaccount.com",
        "client_id": str(chosen.randrange(10**20, 10**21)),
        "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
    }, indent=2)


def default_credentials(seed):
    """What `gcloud auth application-default login` leaves."""
    chosen = random.Random(seed)
    return json.dumps({
        "client_id": f"{chosen.randrange(10**11, 10**12)}-{token(chosen, 32).lower()}.apps.googleusercontent.com",
        "client_secret": "GOCSPX-" + token(chosen, 28),
        "refresh_token": "1//0" + token(chosen, 99),
        "type": "authorized_user",
    }, indent=2)


def jwt(seed):
    """A signed token (RFC 7519)."""
    chosen = random.Random(seed)
    parts = {"alg": "HS256", "typ": "JWT"}, {"iss": "https://id.example.org/", "sub": token(chosen, 12), "iat": 1700000000}
    body = ".".join(base64url(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return f"{body}.{base64url(hmac.digest(chosen.randbytes(32), body.encode(), 'sha256'))}"


def jwt_in_base64(seed):
    return base64.b64encode(jwt(seed).encode()).decode()


def kubernetes_secret(seed):
    """A manifest as `kubectl` takes it."""
    password = base64.b64encode(token(random.Random(seed), 24).encode()).decode()
    return f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: database\ndata:\n  password: {password}"


def token(chosen, length):
    return "".join(chosen.choice(BASE62) for _ in range(length))


def base64url(bytes_):
    return base64.urlsafe_b64encode(bytes_).decode().rstrip("=")


DOCUMENTS = {
    "private-key": private_key,
    "gcp-service-account": service_account,
    "gcp-application-default-credentials": default_credentials,
    "jwt": jwt,
    "jwt-base64": jwt_in_base64,
    "kubernetes-secret-yaml": kubernetes_secret,
}


def document(rule, number):
    """The text of a rule that looks for a document, or None for any other rule."""
    make = DOCUMENTS.get(rule.split(".")[-1])
    return make and make(f"{rule} {number}")
