#!/usr/bin/env python3
"""Measures how `layersift serve` takes events and tells what is new, on loopback.

    benches/serve/events.py pushes [--store postgres] [--pushes 1000] [--seconds 60]
        images are pushed and told of, each by two policies of a Harbor, while four scans take all processors
    benches/serve/events.py told [--store postgres] [--images 100]
        the receiver of messages is down while images are scanned, and then comes back

Each prints its figures, and ends with an error where something was lost or done twice. Times are of one run on one machine.
"""

import argparse
import base64
import http.server
import json
import os
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from run import check, open_store
from stand import Registry, Service, temporary

AUTH = "Bearer made-up-text-of-the-bench-0123456789"
MIB = 1 << 20


def default(host, repository, tag, digest):
    namespace, name = repository.split("/", 1)
    return {
        "type": "PUSH_ARTIFACT", "occur_at": int(time.time()), "operator": "admin",
        "event_data": {
            "resources": [{"digest": digest, "tag": tag, "resource_url": f"{host}/{repository}:{tag}"}],
            "repository": {
                "date_created": int(time.time()), "name": name, "namespace": namespace,
                "repo_full_name": repository, "repo_type": "private",
            },
        },
    }


def cloud_event(host, repository, tag, digest):
    event = default(host, repository, tag, digest)
    return {
        "specversion": "1.0", "id": str(uuid.uuid4()), "source": "/projects/6/webhook/policies/2",
        "type": "harbor.artifact.pushed", "datacontenttype": "application/json",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "data": event["event_data"],
        "operator": "admin", "requestid": str(uuid.uuid4()),
    }


def tell(service, event):
    """Sends an event as Harbor does, within its 3 seconds; the status and the time that it took."""
    request = urllib.request.Request(f"http://{service.api}/events/harbor", data=json.dumps(event).encode())
    request.add_header("Authorization", AUTH)
    begun = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=3) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    except OSError:
        status = 0
    return status, time.monotonic() - begun


def scans(service, token):
    """All requests, from the interface."""
    found, after = [], 0
    while after is not None:
        request = urllib.request.Request(f"http://{service.api}/api/v1/scans?limit=1000&after={after}")
        request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            page = json.load(answer)
        found += page["scans"]
        after = page["next"]
    return found


def execute(store, sql):
    if store.startswith("postgres"):
        subprocess.run(["psql", "-q", store, "-c", sql], check=True, stdout=subprocess.DEVNULL)
    else:
        with sqlite3.connect(store, timeout=60) as connection:
            connection.execute(sql)


def percentile(times, part):
    return sorted(times)[min(len(times) - 1, int(len(times) * part))] * 1e3


def pushes(options):
    with temporary() as directory:
        registry = Registry(directory)
        store, postgres = open_store(options.store, directory)
        auth = Path(directory) / "harbor-auth"
        auth.write_text(f"{AUTH}\n")
        service = Service(directory, store, registry.address, settings=f'[events]\nharbor-auth = "{auth}"')
        token = service.token("scan")
        print(f"pushing {options.pushes} images", flush=True)
        with ThreadPoolExecutor(4) as pool:
            push = lambda number: registry.push(f"team/app-{number}", "1", {"app/readme": f"{number}\n".encode()})
            digests = list(pool.map(push, range(options.pushes)))
        busy = Busy(registry, service, token, options.busy)
        busy.start()
        begun = time.monotonic()

        def announce(number):
            time.sleep(max(0, begun + number * options.seconds / options.pushes - time.monotonic()))
            repository, digest = f"team/app-{number}", digests[number]
            forms = (default, cloud_event)
            return [tell(service, form(registry.address, repository, "1", digest)) for form in forms]

        with ThreadPoolExecutor(32) as pool:
            answers = [answer for both in pool.map(announce, range(options.pushes)) for answer in both]
        took = time.monotonic() - begun
        busy.is_over = True
        times = [time for _, time in answers]
        load = os.getloadavg()[0]
        found = Counter(scan["image"] for scan in scans(service, token) if "/team/" in scan["image"])
        waiting = sum(scan["state"] in ("queued", "running") for scan in scans(service, token))
        print(
            f"{options.store}: {len(answers)} events about {options.pushes} pushes in {took:.0f} s, statuses "
            f"{dict(Counter(status for status, _ in answers))}: p50 {percentile(times, 0.5):.1f} ms, "
            f"p99 {percentile(times, 0.99):.1f} ms, longest {max(times) * 1e3:.1f} ms; load {load:.1f}; {waiting} wait"
        )
        check({status for status, _ in answers} == {200}, "every event is taken")
        check(len(found) == options.pushes and set(found.values()) == {1}, "each push is queued once")
        check(max(times) < 1, "each push is queued within a second")
        states = Counter()
        while set(states) != {"done"}:
            check(time.monotonic() - begun < 1200, f"all are scanned: {states}")
            time.sleep(1)
            states = Counter(scan["state"] for scan in scans(service, token))
        print(f"all were scanned {time.monotonic() - begun:.0f} s after the first push, "
              f"and {busy.number} images of {options.busy} MiB meanwhile")
        finish(service, registry, postgres)


class Busy(threading.Thread):
    """Has four large images scanned at a time: of text that is decoded and scanned, and whose bytes are its own."""

    def __init__(self, registry, service, token, mib):
        super().__init__(daemon=True)
        self.registry, self.service, self.token = registry, service, token
        self.text = base64.encodebytes(os.urandom(mib * MIB * 3 // 4))
        self.number, self.is_over = 0, False
        for _ in range(4):
            self.add()

    def add(self):
        name = f"busy/app-{self.number}"
        digest = self.registry.push(name, "1", {"noise": f"{self.number}\n".encode() + self.text})
        check(tell(self.service, default(self.registry.address, name, "1", digest))[0] == 200, "it is taken")
        self.number += 1

    def run(self):
        while not self.is_over:
            found = scans(self.service, self.token)
            if sum("/busy/" in scan["image"] and scan["state"] != "done" for scan in found) < 5:
                self.add()
            time.sleep(0.5)


class Receiver:
    """A webhook that is down, or takes everything."""

    def __init__(self):
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.tries += 1
                if not receiver.is_down:
                    receiver.messages.append((self.headers["X-Layersift-Delivery"], body))
                self.send_response(503 if receiver.is_down else 200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.is_down, self.tries, self.messages = True, 0, []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/made-up"


def told(options):
    with temporary() as directory:
        registry = Registry(directory)
        store, postgres = open_store(options.store, directory)
        receiver = Receiver()
        service = Service(directory, store, registry.address, settings=f'[notify]\nurl = "{receiver.url}"')
        token = service.token("scan")
        images = []
        for number in range(options.images):
            secret = f"token = glpat-Zk7Qm2Xr9Tb4Wn6V{number:04}\n"
            digest = registry.push(f"team/app-{number}", "1", {"app/settings": secret.encode()})
            images.append(f"{registry.address}/team/app-{number}@{digest}")
            service.post("/api/v1/scans", {"image": images[-1]}, token)
            if number == options.images // 2:
                service.kill()
                service.start()
        while not all(scan["state"] == "done" for scan in scans(service, token)):
            time.sleep(0.5)
        time.sleep(10)
        print(f"{options.images} images with a secret each were scanned, with a kill -9 in between: "
              f"{receiver.tries} tries while the receiver was down")
        receiver.is_down = False
        begun = time.monotonic()
        # The delay of what is tried next would be five minutes at the end of an hour.
        execute(store, "UPDATE notifications SET not_before = 0 WHERE state = 'waiting'")
        while len(receiver.messages) < options.images and time.monotonic() - begun < 400:
            time.sleep(0.1)
        print(f"{len(receiver.messages)} messages {time.monotonic() - begun:.1f} s after it came back")
        time.sleep(5)
        told = Counter(message["image"] for _, message in receiver.messages)
        deliveries = {delivery for delivery, _ in receiver.messages}
        check(set(told) == set(images), f"everything is told: {set(images) - set(told)}")
        check(set(told.values()) == {1} and len(deliveries) == options.images, "and once")
        finish(service, registry, postgres)


def finish(service, registry, postgres):
    service.close()
    registry.close()
    if postgres:
        postgres.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pushes", "told"])
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--pushes", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--busy", type=int, default=100, help="MiB of each of the images that take the processors")
    parser.add_argument("--images", type=int, default=100)
    options = parser.parse_args()
    {"pushes": pushes, "told": told}[options.what](options)


if __name__ == "__main__":
    main()
