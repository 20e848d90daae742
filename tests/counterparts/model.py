"""A stub of the models of OpenAI and Anthropic, on loopback: it keeps what it was sent, and answers as it is told."""

import asyncio
import json
import threading

TEXT = "The answer is forty two and nothing else matters."


class Model:
    """Answers every request; `answer` is the text of the next answers, streamed in pieces of `piece` characters."""

    def __init__(self):
        self.answer = TEXT
        self.piece = 7
        self.bodies = []
        self.headers = []
        self.open = 0
        self.release = None
        self.floods = False
        ready = threading.Event()
        self.loop = asyncio.new_event_loop()

        def run():
            asyncio.set_event_loop(self.loop)
            server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=2048))
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            self.loop.run_forever()

        threading.Thread(target=run, daemon=True).start()
        ready.wait()
        self.url = f"http://127.0.0.1:{self.port}"

    async def serve(self, reader, writer):
        try:
            while await self.request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def request(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
        body = await self.body(reader, headers)
        self.bodies.append(body)
        self.headers.append(headers)
        path = lines[0].split(" ")[1].split("?")[0]
        asked = json.loads(body or b"{}")
        if asked.get("stream"):
            await self.stream(path, asked, writer)
        else:
            await self.whole(path, writer)
        return True

    @staticmethod
    async def body(reader, headers):
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int((await reader.readline()).split(b";")[0], 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
            return body
        return await reader.readexactly(int(headers.get("content-length", 0)))

    async def whole(self, path, writer):
        body = json.dumps(self.whole_answer(path)).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    async def stream(self, path, asked, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        events = list(self.events(path, asked))
        if self.floods:
            self.open += 1
            many = b"".join(events[:-2]) * 4
            while not self.release.is_set():
                writer.write(b"%x\r\n%s\r\n" % (len(many), many))
                await writer.drain()
            return
        for number, event in enumerate(events):
            if self.release is not None and number + 2 == len(events):
                # The text is there, and the end is not.
                self.open += 1
                await self.release.wait()
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await writer.drain()
            # Each piece arrives alone.
            await asyncio.sleep(0.002)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def whole_answer(self, path):
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        if path.endswith("/messages"):
            return {"id": "msg_1", "type": "message", "role": "assistant", "model": "stub", "stop_reason": "end_turn",
                    "content": [{"type": "text", "text": self.answer}], "stop_sequence": None,
                    "usage": {"input_tokens": 1, "output_tokens": 1}}
        if path.endswith("/responses"):
            return self.response()
        return {"id": "c", "object": "chat.completion", "created": 1, "model": "stub", "usage": usage,
                "choices": [{"index": 0, "finish_reason": "stop",
                             "message": {"role": "assistant", "content": self.answer}}]}

    def response(self):
        return {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "stub",
                "error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "tools": [],
                "parallel_tool_calls": True, "tool_choice": "auto", "temperature": 1.0, "top_p": 1.0,
                "output": [{"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
                            "content": [{"type": "output_text", "text": self.answer, "annotations": []}]}],
                "usage": {"input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1,
                          "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 2}}

    def events(self, path, asked):
        pieces = [self.answer[at:at + self.piece] for at in range(0, len(self.answer), self.piece)]
        if path.endswith("/messages"):
            yield from self.messages(pieces)
        elif path.endswith("/responses"):
            yield from self.responses(pieces)
        else:
            yield from self.chat(pieces, "tools" in asked)

    @staticmethod
    def chat(pieces, is_call):
        def chunk(delta, reason=None):
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            data = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "stub", "choices": [choice]}
            return b"data: " + json.dumps(data).encode() + b"\n\n"

        if is_call:
            call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "write", "arguments": ""}}
            yield chunk({"role": "assistant", "content": None, "tool_calls": [call]})
            for piece in pieces:
                yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        else:
            yield chunk({"role": "assistant", "content": ""})
            for piece in pieces:
                yield chunk({"content": piece})
        yield chunk({}, "tool_calls" if is_call else "stop")
        yield b"data: [DONE]\n\n"

    @staticmethod
    def messages(pieces):
        def event(kind, **data):
            return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()

        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "stub", "content": [],
                   "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
        yield event("message_start", message=message)
        yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        for piece in pieces:
            yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
        yield event("content_block_stop", index=0)
        stop = {"stop_reason": "end_turn", "stop_sequence": None}
        yield event("message_delta", delta=stop, usage={"output_tokens": 1})
        yield event("message_stop")

    def responses(self, pieces):
        number = 0

        def event(kind, **data):
            nonlocal number
            number += 1
            data = {"type": kind, "sequence_number": number, **data}
            return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()

        at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        yield event("response.created", response={**self.response(), "status": "in_progress", "output": []})
        item = {"type": "message", "id": "msg_1", "status": "in_progress", "role": "assistant", "content": []}
        yield event("response.output_item.added", output_index=0, item=item)
        part = {"type": "output_text", "text": "", "annotations": []}
        yield event("response.content_part.added", part=part, **at)
        for piece in pieces:
            yield event("response.output_text.delta", delta=piece, logprobs=[], **at)
        yield event("response.output_text.done", text=self.answer, logprobs=[], **at)
        yield event("response.completed", response=self.response())
