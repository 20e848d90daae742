"""A registry that answers as an attack wants."""

import json
import socketserver
import threading

from images import config, sha256

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Request:
    def __init__(self, method, path, headers, body, connection):
        self.method, self.path, self.headers, self.body, self.connection = method, path, headers, body, connection

    def answer(self, status, body=b"", kind="application/json", **headers):
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.connection.sendall("\r\n".join(lines).encode("latin1") + b"\r\n\r\n" + body)
        return True


class Server:
    """Answers by `handle`, which returns whether the connection stays open."""

    def __init__(self, handle):
        self.requests = []

        class Handler(socketserver.BaseRequestHandler):
            def handle(handler):
                stream = handler.request.makefile("rb")
                try:
                    while (request := read(stream, handler.request)) is not None:
                        self.requests.append(request.path)
                        if handle(request) is False:
                            return
                except OSError:
                    pass

        class Listening(socketserver.ThreadingTCPServer):
            allow_reuse_address, daemon_threads, request_queue_size = True, True, 128

        self.server = Listening(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def read(stream, connection):
    line = stream.readline(65536).split()
    if len(line) < 2:
        return None
    headers = {}
    while (field := stream.readline(65536)) not in (b"\r\n", b"\n", b""):
        name, _, value = field.decode("latin1").partition(":")
        headers[name.strip().lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))
    return Request(line[0].decode(), line[1].decode("latin1"), headers, body, connection)


class Image:
    """An image in memory, with its manifest."""

    def __init__(self, layers, document=None, sizes=None, media_type=None):
        document = document if document is not None else config(layers)
        self.blobs = {"sha256:" + sha256(blob): blob for blob in [*layers, document]}
        listed = [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": "sha256:" + sha256(layer),
                "size": (sizes or {}).get(number, len(layer)),
            }
            for number, layer in enumerate(layers)
        ]
        media_type = media_type or "application/vnd.oci.image.config.v1+json"
        described = {"mediaType": media_type, "digest": "sha256:" + sha256(document)}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {**described, "size": len(document)}}
        self.manifest = json.dumps({**manifest, "layers": listed}).encode()

    def handle(self, request):
        path = request.path.split("?")[0]
        if path == "/v2/":
            return request.answer(200, {})
        if "/manifests/" in path:
            return request.answer(200, self.manifest, MANIFEST, Docker_Content_Digest="sha256:" + sha256(self.manifest))
        if path.endswith("/_catalog"):
            return request.answer(200, {"repositories": ["x/y"]})
        if path.endswith("/tags/list"):
            return request.answer(200, {"name": "x/y", "tags": ["1"]})
        blob = self.blobs.get(path.rsplit("/", 1)[1])
        if blob is not None:
            return request.answer(200, blob, "application/octet-stream")
        return request.answer(404, {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "no"}]})
