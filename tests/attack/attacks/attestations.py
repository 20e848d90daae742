"""Registries whose attestations are hostile: without number, without end, nested, signed by nobody, or said twice."""

import base64
import json
import os

from harness import attack
from images import END, entry, sha256, token
from server import MANIFEST, Image, Server

LAYER = entry("a", b"x") + END
SECRET = token(9)


class Attached(Image):
    """An image with a manifest of attestations under the tag that cosign uses."""

    def __init__(self, payloads, kind="application/vnd.dsse.envelope.v1+json", more=None):
        super().__init__([LAYER])
        self.digest = "sha256:" + sha256(self.manifest)
        listed = []
        for payload in payloads:
            self.blobs["sha256:" + sha256(payload)] = payload
            listed.append({"mediaType": kind, "digest": "sha256:" + sha256(payload), "size": len(payload)})
        document = b"{}"
        self.blobs["sha256:" + sha256(document)] = document
        described = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:" + sha256(document)}
        attached = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {**described, "size": 2}, "layers": listed}
        self.attached = json.dumps({**attached, **(more or {})}).encode()

    def handle(self, request):
        path = request.path.split("?")[0]
        if "/manifests/sha256-" in path and path.endswith(".att"):
            kind = {"Docker_Content_Digest": "sha256:" + sha256(self.attached)}
            return request.answer(200, self.attached, MANIFEST, **kind)
        if "/manifests/sha256-" in path or "/referrers/" in path:
            return request.answer(404, {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "no"}]})
        return super().handle(request)


def envelope(statement, signature=b"\0" * 70, **more):
    document = {
        "payloadType": "application/vnd.in-toto+json",
        "payload": base64.b64encode(statement).decode(),
        "signatures": [{"keyid": SECRET, "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps({**document, **more}).encode()


def verified(setting, image):
    if not os.path.exists(setting.at("key.pub")):
        setting.write("password", b"made up\n")
        setting.run("generate-key", setting.at("key"), "--password-file", setting.at("password"))
    with Server(image.handle) as server:
        target = f"docker://{server.address}/x/y@sha256:{sha256(image.manifest)}"
        outcome = setting.run("verify", target, "--key", setting.at("key.pub"), "--plain-http", most=60)
        yield outcome
        for text in (outcome.out, outcome.err):
            if any(mark.encode() in text for mark in ("\x1b", "\u202e", "\x9b")):
                yield "an attestation steers a terminal"
        scanned = setting.run("scan", f"docker://{server.address}/x/y:1", "-q", "--plain-http", "--anonymous", most=60)
        if scanned.code not in (0, 1, 3):
            yield f"the scan ended with {scanned.code}: {scanned.err[-200:]!r}"
        if SECRET.encode() in scanned.out + scanned.err:
            yield "a scan shows a token of an attestation"


@attack(1, 2, 3)
def signatures_of_nobody(setting):
    statement = {"_type": "https://in-toto.io/Statement/v1", "subject": [], "predicateType": "x\x1b]0;t\x07\u202e"}
    for payload in (
        envelope(json.dumps(statement).encode()),
        envelope(b"[" * 100_000),
        envelope(json.dumps(statement).encode(), payload="?"),
        envelope(b'{"_type":"a","_type":"b"}'),
        b"[" * 100_000,
        b"",
        b"\xff" * 1000,
    ):
        yield from verified(setting, Attached([payload]))


@attack(1, 2, 3)
def attestations_without_number(setting):
    yield from verified(setting, Attached([envelope(b"%d" % number) for number in range(900)]))


@attack(1, 2, 3)
def attestations_that_are_huge(setting):
    yield from verified(setting, Attached([envelope(b"x" * (7 << 20) + b"%d" % number) for number in range(20)]))


@attack(1, 2, 3)
def manifests_with_hostile_annotations(setting):
    more = {"annotations": {f"k{number}": SECRET + "\x1b]0;t\x07\u202e" for number in range(10_000)}}
    yield from verified(setting, Attached([envelope(b"{}")], more=more))
