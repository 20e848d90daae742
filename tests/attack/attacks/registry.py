"""Registries that answer without an end, slowly, or with other bytes than they say."""

import base64
import bz2
import os
import subprocess
import time

from harness import attack
from attacks.work import zeros
from images import END, config, entry, header, sha256, token
from server import Image, Server

LEAK = entry("app/.env", b"T=" + token().encode()) + END
LOGIN = {"LAYERSIFT_REGISTRY_USER": "bob", "LAYERSIFT_REGISTRY_PASSWORD": "made-up-Passw0rd-XYZ"}


def sweep(setting, server, *arguments, most=60):
    arguments = ["sweep", "registry", server.address, "--store", setting.at("store.db"), "-q", "--plain-http", *arguments]
    return setting.run(*arguments, "-j", setting.threads, "-o", "/dev/null", environment=LOGIN, most=most)


def late(outcome, limit, allowed=3):
    """A fault if a run passed its limit by much. The machine may do other things, so more than a second is allowed."""
    if outcome.seconds > limit + allowed:
        yield f"it ended after {outcome.seconds:.1f} s, and its limit is {limit} s"


def endless(blob_digest, pause, count=1 << 40, piece=bytes(1200)):
    """Answers for a blob with bytes that do not end."""

    def handle(request):
        if blob_digest not in request.path:
            return None
        request.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % count)
        while True:
            request.connection.sendall(piece)
            if pause:
                time.sleep(pause)

    return handle


def first_of(first, image):
    return lambda request: image.handle(request) if (answered := first(request)) is None else answered


@attack(3)
def a_slow_blob_under_max_time(setting):
    layer = entry("a", os.urandom(1 << 20) * 16) + END
    image = Image([layer])
    with Server(first_of(endless(sha256(layer), 1, len(layer)), image)) as server:
        outcome = sweep(setting, server, "--max-time", "5s")
        yield outcome
        yield from late(outcome, 5)
        outcome = setting.run("scan", f"docker://{server.address}/x/y:1", "-q", "--plain-http", "--timeout", "3s")
        yield outcome
        yield from late(outcome, 3)


@attack(3)
def a_blob_without_an_end(setting):
    layer = entry("a", b"x") + END
    image = Image([layer])
    with Server(first_of(endless(sha256(layer), 0, piece=bytes(1 << 20)), image)) as server:
        outcome = sweep(setting, server, "--max-time", "10s")
        yield outcome
        yield from late(outcome, 10)
        yield setting.run("scan", f"docker://{server.address}/x/y:1", "-q", "--plain-http", most=30)


@attack(3)
def a_blob_without_an_end_under_max_bytes(setting):
    layer = entry("a", b"x") + END
    image, sent = Image([layer], sizes={0: 1 << 40}), [0]

    def count(request):
        if sha256(layer) not in request.path:
            return image.handle(request)
        request.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
        while True:
            request.connection.sendall(bytes(64 << 10))
            sent[0] += 64 << 10

    with Server(count) as server:
        yield sweep(setting, server, "--max-bytes", "10M", "--max-time", "20s")
    # What the system buffers on the way is not read.
    if sent[0] > 24 << 20:
        yield f"{sent[0] >> 20} MiB were taken of 10"


@attack(3)
def bombs_under_max_time(setting):
    packed = bz2.BZ2Compressor(9)
    stream = b"".join(packed.compress(bytes(8 << 20)) for _ in range(128)) + packed.flush()
    layer = b"".join(entry(f"b{number}.bz2", stream * 4) for number in range(40)) + END
    with Server(Image([layer]).handle) as server:
        outcome = sweep(setting, server, "--max-time", "5s")
        yield outcome
        yield from late(outcome, 5)


@attack(3)
def an_image_of_small_bombs_in_a_sweep(setting):
    size = 512 << 20
    program = ["zstd", "-q", "-3", "-c"]
    end = zeros(program, size)
    starts = [subprocess.run(program, input=header(f"zeros{number}", size), capture_output=True) for number in range(30)]
    layers = [start.stdout + end for start in starts]
    image, asked = Image(layers), set()
    digests = {sha256(layer) for layer in layers}

    def handle(request):
        asked.update(digest for digest in digests if digest in request.path)
        return image.handle(request)

    with Server(handle) as server:
        yield sweep(setting, server, "--pulls", "16")
    # Each takes 256 MiB of work, of which its bytes permit a part.
    if len(asked) > 12:
        yield f"{len(asked)} layers were read"


@attack(0, 3, seconds=20)
def a_catalog_without_an_end(setting):
    pages = [0]

    def catalog(request):
        if request.path.startswith("/v2/_catalog"):
            pages[0] += 1
            names = [f"r{pages[0]}-{number}" for number in range(1000)]
            return request.answer(200, {"repositories": names}, Link=f'</v2/_catalog?n=1000&last={pages[0]}>; rel="next"')
        if "/tags/list" in request.path:
            return request.answer(200, {"tags": []})
        return None

    with Server(first_of(catalog, Image([LEAK]))) as server:
        outcome = sweep(setting, server, "--max-time", "8s")
        yield outcome
        yield from late(outcome, 8)


@attack(0, 1, 3)
def names_that_are_requests(setting):
    names = ["a\r\nX: y", "../../x", "x/y?z=1", "X/Y", "x/\u202ey", "x/\x1b[31my", "a" * 300, "", "x//y", "x/y:1", "x/y"]

    def catalog(request):
        if request.path.startswith("/v2/_catalog"):
            return request.answer(200, {"repositories": names})
        if "/tags/list" in request.path:
            return request.answer(200, {"name": "x/y", "tags": ["1", "..", "a/b", "a?b", "\x1b[31m", "a\r\nb", "a" * 200]})
        return None

    with Server(first_of(catalog, Image([LEAK]))) as server:
        outcome = sweep(setting, server)
        yield outcome
        for path in server.requests:
            if any(part in path for part in ("..", "%2e", "z=1", "\x1b", "\u202e")) and "referrers" not in path:
                yield f"it asked for {path!r}"
        if b"\x1b[31m" in outcome.err or "\u202e".encode() in outcome.err:
            yield "a name steers the terminal"


def images_of(documents, layer, media_type=None):
    """Answers for one image in each of several repositories, whose layer comes late."""
    images = [Image([layer], document, media_type=media_type) for document in documents]

    def handle(request):
        path = request.path.split("?")[0]
        if path == "/v2/_catalog":
            return request.answer(200, {"repositories": [f"r{number}" for number in range(len(images))]})
        if "/tags/list" in path:
            return request.answer(200, {"tags": ["1"]})
        if sha256(layer) in path:
            time.sleep(8)
        if path.startswith("/v2/r"):
            return images[int(path.split("/")[2][1:])].handle(request)
        return request.answer(200, {})

    return handle


@attack(3)
def pending_images_with_large_configurations(setting):
    layer = entry("a", b"x") + END
    labels = {f"{number:06x}": "b" for number in range(350_000)}
    documents = [config([layer], author=str(number), config={"User": "1", "Labels": labels}) for number in range(20)]
    with Server(images_of(documents, layer)) as server:
        yield sweep(setting, server, "--pulls", "16")


@attack(0, 1, 3, seconds=20)
def pending_images_with_long_labels(setting):
    layer = entry("a", b"x") + END
    labels = {f"{number:06x}": "b" * 160 for number in range(48_000)}
    documents = [config([layer], author=str(number), config={"User": "1", "Labels": labels}) for number in range(20)]
    with Server(images_of(documents, layer)) as server:
        yield sweep(setting, server, "--pulls", "16")


@attack(0)
def artifacts_that_wait_for_memory(setting):
    layer = entry("a", b"x") + END
    documents = [base64.b64encode(os.urandom(5 << 20)) for _ in range(12)]
    with Server(images_of(documents, layer, "application/vnd.example.artifact")) as server:
        yield sweep(setting, server, "--pulls", "16")
