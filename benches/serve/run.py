#!/usr/bin/env python3
"""Measures `layersift serve` on loopback: answers under load, large bodies, faults, and attacks.

    benches/serve/run.py load [--store postgres] [--replicas 2] [--seconds 60]   needs oha
    benches/serve/run.py bodies      200 reviews of 18 MB at once
    benches/serve/run.py outage      the store is stopped in between (PostgreSQL)
    benches/serve/run.py kill        kill -9 with 50 images queued and 4 running
    benches/serve/run.py upgrade     a new layer key under load
    benches/serve/run.py attack      slow clients, endless bodies, 10,000 connections, broken TLS
    benches/serve/run.py audit       answers with and without the log of decisions, by turns

Each prints its figures, and ends with an error where an answer was wrong. Times are of one run on one machine.
"""

import argparse
import json
import os
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor

from stand import LAYERSIFT, Postgres, Registry, Service, review, temporary

BODY = 18 << 20
MIB = 1 << 20


def check(condition, text):
    if not condition:
        raise SystemExit(f"FAILED: {text}")


def allowed(answer):
    return answer.get("allowed", answer.get("response", {}).get("allowed"))


def open_store(kind, directory):
    if kind == "postgres":
        postgres = Postgres(directory)
        return postgres.store, postgres
    return f"{directory}/store.db", None


def known_image(registry, service, token):
    """Pushes a clean image, has it scanned, and returns it by digest."""
    digest = registry.push("shop/app", "1", {"app/readme": b"hello\n" * 100})
    image = f"{registry.address}/shop/app@{digest}"
    answer = service.post("/admit/v1/images", {"images": [image], "wait": "30s"}, token, timeout=60)
    check(allowed(answer), f"a clean image is let in: {answer}")
    return image


def oha(url, body, seconds, headers=(), certificate=None, rate=500):
    command = [os.environ.get("OHA", "oha"), "--no-tui", "--output-format", "json", "-z", f"{seconds}s", "-q", str(rate)]
    command += ["-c", "50", "-m", "POST", "-T", "application/json", "-d", json.dumps(body)]
    command += [part for header in headers for part in ("-H", header)]
    if certificate:
        command += ["--cacert", str(certificate)]
    measured = subprocess.run([*command, url], check=True, capture_output=True, text=True)
    return json.loads(measured.stdout)


def load(options):
    with temporary() as directory:
        registry = Registry(directory)
        store, postgres = open_store(options.store, directory)
        replicas = [
            Service(directory, store, registry.address, f"replica-{number}", tls=True)
            for number in range(options.replicas)
        ]
        token = replicas[0].token("admit")
        image = known_image(registry, replicas[0], token)
        path = f"/{replicas[0].secret}/admit/v1?timeout=10s"
        results = {}

        def measure(replica):
            url = f"https://{replica.admission}{path}"
            rate = options.rate // len(replicas)
            results[replica.name] = oha(url, review([image]), options.seconds, (), replica.certificate, rate)

        threads = [threading.Thread(target=measure, args=(replica,)) for replica in replicas]
        for thread in threads:
            thread.start()
        if len(replicas) > 1 and options.kill:
            time.sleep(options.seconds / 2)
            replicas[-1].kill()
            print(f"{replicas[-1].name} killed")
        for thread in threads:
            thread.join()
        for name, result in sorted(results.items()):
            killed = options.kill and name == replicas[-1].name and len(replicas) > 1
            times, statuses = result["latencyPercentiles"], result["statusCodeDistribution"]
            print(
                f"{name}: {result['summary']['requestsPerSec']:.0f} requests/s, p50 {times['p50'] * 1e3:.2f} ms, "
                f"p99 {times['p99'] * 1e3:.2f} ms, p99.9 {times['p99.9'] * 1e3:.2f} ms, statuses {statuses}, "
                f"errors {result['errorDistribution']}"
            )
            check(set(statuses) == {"200"}, f"{name} answered {statuses}")
            errors = {name for name in result["errorDistribution"] if "deadline" not in name}
            check(killed or not errors, f"{name} had errors")
        answer = replicas[0].post(f"/{replicas[0].secret}/admit/v1", review([image]), at="admission")
        check(allowed(answer), "it is still let in")
        for replica in replicas:
            replica.close()
        registry.close()
        if postgres:
            postgres.close()


def bodies(options):
    with temporary() as directory:
        registry = Registry(directory)
        service = Service(directory, f"{directory}/store.db", registry.address)
        image = known_image(registry, service, service.token("admit"))
        large = json.dumps(review([image], padding=BODY // 6)).replace("<", "\\u003c").encode()
        host, port = service.admission.split(":")
        head = (
            f"POST /{service.secret}/admit/v1?timeout=30s HTTP/1.1\r\nHost: {service.admission}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(large)}\r\nConnection: close\r\n\r\n"
        ).encode()

        def ask(_):
            for attempt in range(10):
                with socket.create_connection((host, int(port)), 60) as connection:
                    connection.settimeout(60)
                    try:
                        connection.sendall(head)
                        connection.sendall(large)
                    except OSError:
                        pass
                    answer = b""
                    while chunk := connection.recv(65536):
                        answer += chunk
                status = int(answer.split(b" ", 2)[1])
                if status in (429, 503) and b"retry-after" in answer.lower():
                    time.sleep(1)
                    continue
                return status, b'"allowed":true' in answer, attempt
            return status, False, attempt

        begun = time.time()
        with ThreadPoolExecutor(options.at_once) as pool:
            answers = list(pool.map(ask, range(options.at_once)))
        now, most = service.memory()
        again = sum(1 for _, _, attempt in answers if attempt)
        print(
            f"{options.at_once} bodies of {len(large) / 1e6:.1f} MB: {time.time() - begun:.1f} s, "
            f"{again} were asked to come again, memory at most {most / MIB:.0f} MiB"
        )
        check(all(status == 200 and is_allowed for status, is_allowed, _ in answers), f"answers: {set(answers)}")
        check(most <= 256 * MIB, "memory")
        service.close()
        registry.close()


def outage(options):
    with temporary() as directory:
        registry, postgres = Registry(directory), Postgres(directory)
        service = Service(directory, postgres.store, registry.address)
        token = service.token("admit")
        known = known_image(registry, service, token)
        unknown = f"{registry.address}/shop/app@sha256:{'0' * 64}"
        path = f"/{service.secret}/admit/v1?timeout=3s"
        ask = lambda image: service.post(path, review([image]), at="admission")
        check(allowed(ask(known)), "known before")
        postgres.stop()
        time.sleep(8)
        times, begun = [], time.time()
        while time.time() - begun < 20:
            at = time.time()
            check(allowed(ask(known)), "known is let in while the store is stopped")
            times.append(time.time() - at)
            time.sleep(0.02)
        at = time.time()
        try:
            answer = ask(unknown)
            check(not allowed(answer), "unknown is denied")
            text = answer["response"]["status"]
        except urllib.error.HTTPError as error:
            text = error.code
        print(f"stopped: {len(times)} answers, slowest {max(times) * 1e3:.0f} ms; unknown: {text} "
              f"after {time.time() - at:.2f} s")
        postgres.start()
        begun = time.time()
        new = registry.push("shop/new", "1", {"new": b"new\n"})
        answer = service.post(
            "/admit/v1/images", {"images": [f"{registry.address}/shop/new@{new}"], "wait": "30s"}, token, timeout=60
        )
        check(allowed(answer), f"a new image is scanned after the restart: {answer}")
        print(f"recovered: a new image was let in {time.time() - begun:.1f} s after the restart")
        service.close()
        registry.close()
        postgres.close()


def kill(options):
    with temporary() as directory:
        registry = Registry(directory)
        store, postgres = open_store(options.store, directory)
        service = Service(directory, store, registry.address, settings="[scans]\nat-once = 4\npulls = 2")
        token = service.token("admit", "scan", "read")
        images = []
        for number in range(54):
            content = os.urandom(64) * (100_000 if number < 4 else 100)
            digest = registry.push(f"shop/app{number}", "1", {f"app/{number}": content})
            images.append(f"{registry.address}/shop/app{number}@{digest}")
        service.post("/admit/v1/images", {"images": images}, token)
        time.sleep(0.5)
        service.kill()
        before = states(store)
        service.start()
        begun = time.time()
        answer = service.post("/admit/v1/images", {"images": images, "wait": "30s"}, token, timeout=60)
        effects = sorted({decision["effect"] for decision in answer["decisions"]})
        print(f"killed with {before}; all {len(images)} answered {time.time() - begun:.1f} s after the restart: {effects}")
        check(allowed(answer) and len(answer["decisions"]) == 54, "all are answered")
        service.close()
        registry.close()
        if postgres:
            postgres.close()


def states(store):
    if store.startswith("postgres"):
        return "requests in PostgreSQL"
    import sqlite3

    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
        return dict(connection.execute("SELECT state, count(*) FROM scan_requests GROUP BY state"))


def upgrade(options):
    with temporary() as directory:
        registry = Registry(directory)
        store, postgres = open_store(options.store, directory)
        old = Service(directory, store, registry.address, "old")
        token = old.token("admit", "read")
        images = []
        for number in range(20):
            digest = registry.push(f"shop/app{number}", "1", {f"app/{number}": b"x" * number})
            images.append(f"{registry.address}/shop/app{number}@{digest}")
        answer = old.post("/admit/v1/images", {"images": images, "wait": "30s"}, token, timeout=60)
        check(allowed(answer), "all are let in by the old replica")
        rules = f"{directory}/rule.toml"
        with open(rules, "w") as file:
            file.write(
                '[[signature]]\nid = "made.up"\ntitle = "A word"\nseverity = "high"\nconfidence = "high"\n'
                "pattern = 'never-in-an-image-[0-9]{12}'\nkeywords = ['never-in-an-image-']\n"
                'what = "x"\nrisk = "x"\nfix = "x"\n'
                "[[signature.example]]\ninput = 'never-in-an-image-012345678901'\n"
            )
        denied, asked, stop = [], [0], threading.Event()
        replicas = [old]

        def ask():
            while not stop.is_set():
                for replica in list(replicas):
                    for image in images:
                        answer = replica.post(
                            f"/{replica.secret}/admit/v1?timeout=10s", review([image]), at="admission"
                        )
                        asked[0] += 1
                        if not allowed(answer):
                            denied.append((replica.name, image))

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(3)
        new = Service(directory, store, registry.address, "new", settings=f'rules = ["{rules}"]')
        replicas.append(new)
        time.sleep(10)
        replicas.remove(old)
        time.sleep(2)
        old.close()
        time.sleep(25)
        stop.set()
        for thread in threads:
            thread.join()
        check(not denied, f"denied: {denied[:5]}")
        answer = new.post("/admit/v1/images", {"images": images}, token)
        outdated = sum(1 for decision in answer["decisions"] if decision["basis"]["is_outdated"])
        print(f"{asked[0]} questions while the rules changed: none denied; {outdated} of 20 images still to be rescanned")
        check(outdated == 0, "all are rescanned")
        new.close()
        registry.close()
        if postgres:
            postgres.close()


def attack(options):
    with temporary() as directory:
        registry = Registry(directory)
        service = Service(directory, f"{directory}/store.db", registry.address, tls=True)
        token = service.token("admit")
        image = known_image(registry, service, token)
        path = f"/{service.secret}/admit/v1?timeout=10s"

        def answers(what):
            begun = time.time()
            answer = service.post(path, review([image]), at="admission")
            check(allowed(answer), f"{what}: the answer")
            now, most = service.memory()
            print(f"{what}: answered in {(time.time() - begun) * 1e3:.0f} ms, memory {now / MIB:.0f} MiB, "
                  f"at most {most / MIB:.0f} MiB")
            check(most <= 256 * MIB, f"{what}: memory")

        host, port = service.admission.split(":")
        address = (host, int(port))
        context = service.context()

        def connect(is_tls=True):
            connection = socket.create_connection(address, 10)
            return context.wrap_socket(connection, server_hostname="localhost") if is_tls else connection

        answers("at first")
        # Slow heads, and slow bodies of whoever may ask.
        slow = [connect() for _ in range(300)]
        for connection in slow:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n")
        answers("300 slow heads")
        close(slow)
        slow = [connect() for _ in range(300)]
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{{".encode()
        for connection in slow:
            connection.sendall(head)
        time.sleep(1)
        answered = threading.Thread(target=answers, args=("300 slow bodies",))
        answered.start()
        answered.join()
        close(slow)
        endless(connect, path, 10 << 30)
        answers("a body of 10 GB")
        endless(connect, "/nothing", 1 << 30)
        answers("a body of 1 GB at a path that does not exist")
        many, refused = [], 0
        for _ in range(options.connections):
            try:
                many.append(connect(is_tls=False))
            except OSError:
                refused += 1
        answers(f"{len(many)} connections that send nothing ({refused} refused)")
        close(many)
        many = []
        for _ in range(1_500):
            try:
                many.append(connect())
            except OSError:
                refused += 1
        answers(f"{len(many)} connections with TLS that send nothing")
        close(many)
        broken = [
            b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 20_000, os.urandom(70_000)
        ]
        for data in broken * 20:
            with connect(is_tls=False) as connection:
                try:
                    connection.sendall(data)
                except OSError:
                    pass
        answers("100 connections with broken TLS")
        heads = [
            b"POST " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000 + b"\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        ]
        for data in heads * 20:
            with connect() as connection:
                try:
                    connection.sendall(data)
                    connection.settimeout(10)
                    status = connection.recv(1000).split(b" ")[1:2]
                except OSError:
                    status = [b"reset"]
                check(status not in ([b"200"],), f"{data[:30]} was answered with {status}")
        answers("80 broken heads")
        service.close()
        registry.close()


def audit(options):
    """The same question to two replicas on one store, of which one logs its decisions; and a bare write to the disk."""
    with temporary() as directory:
        registry = Registry(directory)
        store, postgres = open_store(options.store, directory)
        log = f'[audit]\ndirectory = "{directory}/audit"\nship-to-store = true'
        services = {
            "without": Service(directory, store, registry.address, "without"),
            "with": Service(directory, store, registry.address, "with", admission=log),
        }
        image = known_image(registry, services["without"], services["without"].token("admit"))
        for connections in (1, 50):
            times = {**{name: [] for name in services}, "disk alone": []}
            for _ in range(4):
                for name, service in services.items():
                    times[name] += paced(service, review([image]), connections, options.rate, options.seconds / 8)
                times["disk alone"] += syncs(directory, options.rate, options.seconds / 8)
            figures = {name: [at(taken, share) * 1e3 for share in (0.5, 0.99)] for name, taken in times.items()}
            for name, (median, p99) in figures.items():
                print(f"{connections} connections, {name}: {len(times[name])}, p50 {median:.2f} ms, p99 {p99:.2f} ms")
            ratios = [one / other for one, other in zip(figures["with"], figures["without"])]
            print(f"{connections} connections: p50 x {ratios[0]:.2f}, p99 x {ratios[1]:.2f}")
        for service in services.values():
            service.close()
        verified = subprocess.run([LAYERSIFT, "audit", "verify", f"{directory}/audit"], capture_output=True, text=True)
        print(verified.stdout)
        check(verified.returncode == 0, "the log is what was written")
        registry.close()
        if postgres:
            postgres.close()


def syncs(directory, rate, seconds):
    """Appends as many bytes as an entry has and waits until they are on disk: the seconds of each."""
    times, until = [], time.monotonic() + seconds
    file = os.open(f"{directory}/syncs", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    while time.monotonic() < until:
        begun = time.monotonic()
        os.write(file, b"x" * 600)
        os.fdatasync(file)
        times.append(time.monotonic() - begun)
        time.sleep(max(0, 1 / rate - times[-1]))
    os.close(file)
    return times


def at(times, share):
    return sorted(times)[int(len(times) * share)]


def paced(service, body, connections, rate, seconds):
    """Asks over as many connections, all of them together `rate` times a second at most: the seconds of each answer."""
    body = json.dumps(body).encode()
    host, port = service.admission.split(":")
    head = f"POST /{service.secret}/admit/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    until = time.monotonic() + seconds

    def ask(number):
        times, due = [], time.monotonic() + number / rate
        with socket.create_connection((host, int(port)), 30) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while due < until:
                time.sleep(max(0, due - time.monotonic()))
                begun = time.monotonic()
                connection.sendall(request)
                answer = b""
                while b'"allowed":true' not in answer:
                    chunk = connection.recv(65536)
                    check(chunk and b"HTTP/1.1 200" in answer + chunk, f"it is let in: {answer + chunk}")
                    answer += chunk
                    check(b'"allowed":false' not in answer, f"it is let in: {answer}")
                times.append(time.monotonic() - begun)
                due += connections / rate
        return times

    with ThreadPoolExecutor(connections) as pool:
        return [taken for times in pool.map(ask, range(connections)) for taken in times]


def endless(connect, path, size):
    """Sends a body until it is refused."""
    sent, chunk = 0, b" " * MIB
    with connect() as connection:
        connection.settimeout(30)
        try:
            connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
            while sent < size:
                connection.sendall(chunk)
                sent += len(chunk)
        except (OSError, ssl.SSLError):
            pass
    print(f"  {sent / MIB:.0f} MiB were taken of {size / MIB:.0f}")


def close(connections):
    for connection in connections:
        connection.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["load", "bodies", "outage", "kill", "upgrade", "attack", "audit"])
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--kill", action="store_true", help="kill the last replica in the middle")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--at-once", type=int, default=200)
    parser.add_argument("--connections", type=int, default=10_000)
    options = parser.parse_args()
    globals()[options.what](options)


if __name__ == "__main__":
    main()
