"""A thousand open streams: the memory of the service, and that they all go on. Then a thousand whose clients do not read
what their models send as fast as they can, large events that nobody reads, and large bodies at once."""

import asyncio
import json
import resource
import threading
import time
import urllib.error
import urllib.request

COUNT = 1000
MOST_MIB = 256

# Streams of one large event each, and bodies that are checked at once.
LARGE = 80
BODIES = 12


async def ask(service):
    host = service.urls["proxy"].removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(*host, limit=1024)
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
    head = f"POST /model/v1/chat/completions HTTP/1.1\r\nHost: x\r\nx-layersift-auth: {service.token}\r\n"
    writer.write(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return reader, writer


async def one(service, results):
    reader, writer = await ask(service)
    text = b""
    while not text.endswith(b"\r\n0\r\n\r\n"):
        data = await reader.read(65536)
        if not data:
            break
        text += data
    results.append(b"[DONE]" in text)
    writer.close()


async def many(model, service):
    results = []
    tasks = [asyncio.create_task(one(service, results)) for _ in range(COUNT)]
    for _ in range(3000):
        await asyncio.sleep(0.1)
        if model.open >= COUNT:
            break
    is_open = model.open
    memory = service.memory()
    model.loop.call_soon_threadsafe(model.release.set)
    await asyncio.gather(*tasks)
    return is_open, sum(results), memory


async def unread(model, service):
    # Dropping a reader would close its connection.
    clients = [await ask(service) for _ in range(COUNT)]
    for _ in range(600):
        await asyncio.sleep(0.1)
        if model.open >= COUNT:
            break
    await asyncio.sleep(10)
    is_open, memory = model.open, service.memory()
    model.loop.call_soon_threadsafe(model.release.set)
    for _, writer in clients:
        writer.transport.abort()
    return is_open, memory


async def large(service):
    """Asks for large events one after the other, and reads only the beginning of each."""
    clients = []
    for _ in range(LARGE):
        clients.append(await ask(service))
        await clients[-1][0].read(1024)
        await asyncio.sleep(0.25)
    await asyncio.sleep(2)
    memory = service.memory()
    for _, writer in clients:
        writer.transport.abort()
    return memory


def check(service, text, statuses):
    body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    request = urllib.request.Request(f"{service.urls['api']}/v1/prompts/check", body, method="POST",
                                     headers={"Authorization": f"Bearer {service.token}"})
    try:
        statuses.append(urllib.request.urlopen(request).status)
    except urllib.error.HTTPError as error:
        statuses.append(error.code)
    except OSError:
        # The service answers that it is busy before it has read the body.
        statuses.append(429)


def bodies(service):
    """Checks large texts at once in which everything is percent-encoded; the statuses, and the most memory without the
    pages of the program, which the largest resident memory has from before."""
    statuses, most = [], 0
    texts = [f"{'%41%42%43%44' * 660_000} {number}" for number in range(BODIES)]
    threads = [threading.Thread(target=check, args=(service, text, statuses)) for text in texts]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, *service.memory(["RssAnon"]))
        time.sleep(0.02)
    return statuses, most


def run(checks, model, denying, masking, work, directory):
    # Tails that wait: the longest run of characters that is held back.
    model.answer = "words and " * 400 + "x" * 12000
    model.piece = 400
    model.open = 0
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    made = asyncio.run_coroutine_threadsafe(event(), model.loop)
    model.release = made.result()
    before = denying.memory()
    begun = time.monotonic()
    is_open, ended, (peak, resident) = asyncio.run(many(model, denying))
    took = time.monotonic() - begun
    print(f"  {is_open} streams open at a time, {ended} ended as they should, in {took:.0f} s; resident memory "
          f"{before[1] >> 10} MiB before, {resident >> 10} MiB with all open, {peak >> 10} MiB at most")
    checks.that(is_open == COUNT and ended == COUNT, f"{is_open} streams open, {ended} ended")
    checks.that(peak <= MOST_MIB << 10, f"{peak >> 10} MiB with {COUNT} streams")

    model.answer = "words and more " * 200
    model.open, model.floods = 0, True
    model.release = asyncio.run_coroutine_threadsafe(event(), model.loop).result()
    is_open, (peak, _) = asyncio.run(unread(model, masking))
    print(f"  {is_open} streams that nobody reads: {peak >> 10} MiB at most")
    checks.that(is_open == COUNT and peak <= MOST_MIB << 10, f"{is_open} unread streams, {peak >> 10} MiB")

    model.answer = "word " * 1_400_000
    model.piece, model.floods = len(model.answer), False
    peak, _ = asyncio.run(large(denying))
    print(f"  {LARGE} large events that nobody reads: {peak >> 10} MiB at most")
    checks.that(peak <= MOST_MIB << 10, f"{peak >> 10} MiB with large events that nobody reads")
    statuses, peak = bodies(masking)
    print(f"  {BODIES} large bodies: {sorted(statuses)}, {peak >> 10} MiB at most")
    checks.that(200 in statuses and peak <= MOST_MIB << 10, f"{peak >> 10} MiB with large bodies")


async def event():
    return asyncio.Event()
