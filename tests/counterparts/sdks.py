"""The SDKs of OpenAI and Anthropic, through the proxy of the service and through gateways."""

import anthropic
import openai

from model import TEXT
from service import MASK, RULE, token

KEY = "sk-a-key-of-the-provider-that-is-nowhere-else"
MARK = "a-sentence-that-is-nowhere-else"


class Sdks:
    """The ways to ask a model. Each returns the text of the answer, as far as it came, and the exception."""

    def __init__(self, openai_url, anthropic_url, key=KEY, headers=None, models=("gpt-stub", "claude-stub")):
        self.openai = openai.OpenAI(base_url=openai_url, api_key=key, default_headers=headers, max_retries=2)
        self.anthropic = anthropic.Anthropic(base_url=anthropic_url, api_key=key, default_headers=headers, max_retries=2)
        self.gpt, self.claude = models
        self.ways = {
            "openai chat": self.chat,
            "openai chat, stream": self.chat_stream,
            "openai chat, stream, tool call": self.chat_call_stream,
            "openai responses": self.responses,
            "openai responses, stream": self.responses_stream,
            "anthropic messages": self.messages,
            "anthropic messages, stream": self.messages_stream,
            "anthropic messages, stream helper": self.messages_helper,
        }

    def ask(self, way, prompt):
        seen = []
        try:
            self.ways[way](prompt, seen)
        except (openai.OpenAIError, anthropic.AnthropicError) as error:
            return "".join(seen), error
        return "".join(seen), None

    @staticmethod
    def said(prompt):
        return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt

    def chat(self, prompt, seen):
        answer = self.openai.chat.completions.create(model=self.gpt, messages=self.said(prompt))
        seen.append(answer.choices[0].message.content)

    def chat_stream(self, prompt, seen):
        for chunk in self.openai.chat.completions.create(model=self.gpt, messages=self.said(prompt), stream=True):
            for choice in chunk.choices:
                seen.append(choice.delta.content or "")

    def chat_call_stream(self, prompt, seen):
        tool = {"type": "function", "function": {"name": "write", "parameters": {"type": "object", "properties": {}}}}
        stream = self.openai.chat.completions.create(model=self.gpt, messages=self.said(prompt), stream=True, tools=[tool])
        for chunk in stream:
            for choice in chunk.choices:
                for call in choice.delta.tool_calls or []:
                    seen.append(call.function.arguments or "")

    def responses(self, prompt, seen):
        seen.append(self.openai.responses.create(model=self.gpt, input=self.said(prompt)).output_text)

    def responses_stream(self, prompt, seen):
        for event in self.openai.responses.create(model=self.gpt, input=self.said(prompt), stream=True):
            if event.type == "response.output_text.delta":
                seen.append(event.delta)
            elif event.type == "response.failed":
                # The SDK raises nothing: its reader has the reason in the event.
                raise openai.OpenAIError(f"event response.failed: {event.response.error.message}")

    def messages(self, prompt, seen):
        answer = self.anthropic.messages.create(model=self.claude, max_tokens=9, messages=self.said(prompt))
        seen.append(answer.content[0].text)

    def messages_stream(self, prompt, seen):
        for event in self.anthropic.messages.create(model=self.claude, max_tokens=9, messages=self.said(prompt), stream=True):
            if event.type == "content_block_delta":
                seen.append(event.delta.text)

    def messages_helper(self, prompt, seen):
        with self.anthropic.messages.stream(model=self.claude, max_tokens=9, messages=self.said(prompt)) as stream:
            for text in stream.text_stream:
                seen.append(text)


def leaks(text):
    """Whether a text has a part of the token that is long enough to matter."""
    return any(token()[at:at + 12] in text for at in range(0, 29))


def shown(way, what, error):
    print(f"  {way}: {what}: {type(error).__name__}: {error}", flush=True)


def clean(checks, model, sdks, name):
    model.answer = TEXT
    for way in sdks.ways:
        text, error = sdks.ask(way, f"hello {MARK}")
        checks.that(error is None and text == TEXT, f"{name}, {way}, clean: {text!r} {error!r}")


def denied_prompts(checks, model, sdks, name, wanted=RULE):
    model.answer = TEXT
    for way in sdks.ways:
        model.bodies.clear()
        text, error = sdks.ask(way, f"use {token()}")
        shown(way, "a denied prompt", error)
        checks.that(error is not None and wanted in str(error) and not leaks(str(error)), f"{name}, {way}: {error!r}")
        checks.that(not text and not model.bodies, f"{name}, {way}: the model was asked {len(model.bodies)} times")


def masked_prompts(checks, model, sdks, name):
    model.answer = TEXT
    for way in sdks.ways:
        model.bodies.clear()
        text, error = sdks.ask(way, f"use {token()}")
        sent = b"".join(model.bodies).decode()
        checks.that(error is None and text == TEXT, f"{name}, {way}, masked: {text!r} {error!r}")
        checks.that(MASK in sent and not leaks(sent), f"{name}, {way}: the model got {sent}")


def masked_history(checks, model, sdks, name):
    model.answer = TEXT
    history = [{"role": "user", "content": f"use {token()}"}, {"role": "assistant", "content": "no"},
               {"role": "user", "content": "and now?"}]
    for way in sdks.ways:
        model.bodies.clear()
        text, error = sdks.ask(way, history)
        sent = b"".join(model.bodies).decode()
        checks.that(error is None and text == TEXT, f"{name}, {way}, history: {text!r} {error!r}")
        checks.that(MASK in sent and not leaks(sent), f"{name}, {way}, history: the model got {sent}")


def denied_answers(checks, model, sdks, name, ways=None):
    model.answer = f"The key is {token()} and nothing else matters, as was said before."
    for way in ways or sdks.ways:
        text, error = sdks.ask(way, "hello")
        shown(way, f"a denied answer, after {text!r}", error)
        checks.that(error is not None and RULE in str(error), f"{name}, {way}, denied answer: {text!r} {error!r}")
        checks.that(not leaks(text) and not leaks(str(error)), f"{name}, {way}: leaked before the block: {text!r}")


def masked_answers(checks, model, sdks, name, ways=None):
    model.answer = f"The key is {token()} and nothing else matters, as was said before."
    for way in ways or sdks.ways:
        text, error = sdks.ask(way, "hello")
        wanted = model.answer.replace(token(), MASK)
        checks.that(error is None and text == wanted, f"{name}, {way}, masked answer: {text!r} {error!r}")


def run(checks, model, denying, masking, work, directory):
    def through(service, in_path):
        base = service.urls["proxy"] + "/model"
        if in_path:
            return Sdks(f"{base}/{service.token}/v1", f"{base}/{service.token}")
        return Sdks(f"{base}/v1", base, headers={"x-layersift-auth": f"Bearer {service.token}"})

    for in_path in [False, True]:
        clean(checks, model, through(denying, in_path), "proxy")
        checks.that(all(headers["authorization"] == f"Bearer {KEY}" for headers in model.headers
                        if "authorization" in headers), "the key of the provider goes on")
        checks.that(not any(denying.token in str(headers) for headers in model.headers), "the token does not go on")
    denied_prompts(checks, model, through(denying, True), "proxy")
    masked_prompts(checks, model, through(masking, False), "proxy")
    masked_history(checks, model, through(denying, False), "proxy")
    denied_answers(checks, model, through(denying, False), "proxy")
    masked_answers(checks, model, through(masking, True), "proxy")
    wrong = Sdks(denying.urls["proxy"] + "/model/layersift_0/v1", denying.urls["proxy"] + "/model/layersift_0")
    for way in ["openai chat", "anthropic messages, stream"]:
        _, error = wrong.ask(way, "hello")
        shown(way, "an unknown token", error)
        checks.that("Layersift" in str(error), f"an unknown token: {error!r}")
