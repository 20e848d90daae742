"""Clients of the service that send too much, too deep, too slowly, or what is not text; also to the prompt gate."""

import base64
import gzip
import json
import os
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

from harness import MEMORY, anonymous, attack
from images import token

SECRET = token(3)


class Service:
    """A service of its own, with a token for everything, and the peak of its memory."""

    def __init__(self, setting):
        key = setting.write("key", os.urandom(32))
        settings = f'fingerprint-key = "{key}"\n\n[listen]\napi = "127.0.0.1:0"\nhealth = "127.0.0.1:0"\n\n[prompts]\n'
        settings += '\n[[prompts.policies]]\ndeny = "high"\n'
        path, store = setting.write("serve.toml", settings.encode()), setting.at("service.db")
        scopes = [part for scope in ("admit", "read", "prompt") for part in ("--scope", scope)]
        made = setting.run("token", "add", "attack", *scopes, "--store", store)
        self.token = made.out.decode().split()[0] if made.out else ""
        self.log = open(setting.at("service.log"), "w+b")
        arguments = [setting.program, "serve", "-v", "--config", path, "--store", store]
        self.process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=self.log)
        self.peak, self.ended = 0, threading.Event()
        threading.Thread(target=self.watch, daemon=True).start()
        self.address = self.found("api")
        self.health = self.found("health")

    def watch(self):
        while not self.ended.wait(0.02):
            self.peak = max(self.peak, anonymous(self.process.pid))

    def text(self):
        self.log.flush()
        with open(self.log.name, "rb") as log:
            return log.read()

    def found(self, name):
        for _ in range(300):
            found = re.search(rb'"address":"' + name.encode() + rb': http://([0-9.:]*)', self.text())
            if found:
                return found[1].decode()
            time.sleep(0.1)
        raise RuntimeError(f"the service does not start: {self.text()[-500:]!r}")

    def post(self, path, body, **headers):
        """The status and the body of an answer."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **headers}
        asked = urllib.request.Request(f"http://{self.address}{path}", body, headers)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read()
        except OSError as error:
            return 0, str(error).encode()

    def is_well(self):
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"http://{self.health}/readyz", timeout=10
            ) as answer:
                return answer.status == 200
        except OSError:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()

    def faults(self):
        """What must hold at the end of each attack."""
        if self.process.poll() is not None or not self.is_well():
            yield "the service does not answer any more"
        if self.peak > MEMORY:
            yield f"the service took {self.peak >> 20} MiB"
        log = self.text()
        if b"panicked" in log:
            yield f"it panicked: {log[-300:]!r}"
        if SECRET.encode() in log:
            yield "a secret is in its log"
        print(f"  the service took {self.peak >> 20} MiB  (wanted: {MEMORY >> 20} MiB)", flush=True)


def bodies():
    """Bodies that are hostile, and whether they may pass."""
    yield "", False
    yield "{", False
    yield "[" * 100_000, False
    yield '{"a":' * 5000 + "1" + "}" * 5000, False
    yield '{"images":["' + "a" * (9 << 20) + '"]}', False
    yield '{"images":[' + ",".join(['"x/y:1"'] * 100_000) + "]}", False
    yield '{"images":["x/y:1"],"images":["x/z:1"]}', False
    yield '{"images":["\\ud800"]}', False
    yield '{"images":["x\x1b[31m/\u202ey@sha256:' + "0" * 64 + '"]}', False
    yield '{"images":["../../etc/passwd","http://169.254.169.254/x"]}', False


@attack()
def questions_about_images(setting):
    with Service(setting) as service:
        for path in ("/admit/v1/images", "/admit/v1/review", "/admit/v1/gatekeeper"):
            for body, _ in bodies():
                status, answer = service.post(path, body.encode("utf-8", "surrogatepass"))
                if status == 200 and b'"allowed":true' in answer.replace(b" ", b""):
                    yield f"{path} allows {body[:40]!r}"
                if status >= 500:
                    yield f"{path} answers {status} to {body[:40]!r}"
        yield from service.faults()


@attack()
def bombs_of_compression(setting):
    bomb = gzip.compress(bytes(1 << 30), 9)
    with Service(setting) as service:
        for path in ("/admit/v1/images", "/v1/prompts/check"):
            status, _ = service.post(path, bomb, **{"Content-Encoding": "gzip"})
            if status == 200:
                yield f"{path} takes a bomb"
        yield from service.faults()


@attack()
def clients_that_are_slow(setting):
    with Service(setting) as service:
        host, port = service.address.split(":")
        open_ones = []
        for number in range(300):
            connection = socket.create_connection((host, int(port)), timeout=5)
            connection.sendall(b"POST /admit/v1/images HTTP/1.1\r\nHost: x\r\n" if number % 2 else b"G")
            open_ones.append(connection)
        # A client that is not slow gets its answer meanwhile, or a refusal.
        status, _ = service.post("/admit/v1/images", b'{"images":[]}')
        if status == 0 and not service.is_well():
            yield "slow clients keep others out"
        for connection in open_ones:
            connection.close()
        yield from service.faults()


def prompts():
    """Prompts with a secret, in places and forms that a gate may overlook."""
    def chat(content, **more):
        return json.dumps({"model": "m", "messages": [{"role": "user", "content": content}], **more})

    yield chat(f"key {SECRET}")
    yield chat([{"type": "text", "text": SECRET}])
    yield chat("x", tools=[{"type": "function", "function": {"name": "f", "description": SECRET}}])
    yield chat("x", unknown={"deep": [[[SECRET]]]})
    yield chat(base64.b64encode(f"token: {SECRET}".encode()).decode())
    yield chat("x", **{SECRET: 1})
    yield json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]})[:-1] + f',"model":"{SECRET}"}}'
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in SECRET)
    yield '{"model":"m","messages":[{"role":"user","content":"' + escaped + '"}]}'
    data = base64.b64encode(gzip.compress(SECRET.encode())).decode()
    source = {"type": "base64", "media_type": "application/pdf", "data": data}
    yield json.dumps({"model": "m", "max_tokens": 1, "messages": [
        {"role": "user", "content": [{"type": "document", "source": source}]}]})


@attack()
def secrets_in_prompts(setting):
    with Service(setting) as service:
        for number, body in enumerate(prompts()):
            status, answer = service.post("/v1/prompts/check", body.encode())
            if status == 200:
                yield f"prompt {number} passes: {answer[:200]!r}"
            if SECRET.encode() in answer:
                yield f"the answer to prompt {number} has the secret"
        yield from service.faults()


@attack()
def prompts_that_are_large(setting):
    with Service(setting) as service:
        messages = [{"role": "user", "content": "password = hunter" + str(number)} for number in range(60_000)]
        nested = "x"
        for _ in range(200):
            nested = [nested]
        data = base64.b64encode(gzip.compress(bytes(256 << 20))).decode()
        source = {"type": "base64", "media_type": "application/gzip", "data": data}
        bodies = [
            json.dumps({"model": "m", "messages": messages}),
            json.dumps({"model": "m", "messages": [{"role": "user", "content": nested}]}),
            json.dumps({"model": "m", "messages": [{"role": "user", "content": [{"type": "document", "source": source}]}]}),
            json.dumps({"model": "m", "messages": [{"role": "user", "content": "password=" * 800_000}]}),
        ]
        asking = [threading.Thread(target=service.post, args=("/v1/prompts/check", body.encode())) for body in bodies * 3]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        yield from service.faults()
