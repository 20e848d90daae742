"""The real Envoy, LiteLLM and Portkey, with the configurations of `deploy/gateways/`."""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import openai
import yaml

import sdks
from model import TEXT
from sdks import KEY, MARK, RULE, Sdks, leaks
from service import token

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy/gateways"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Program:
    """A program that listens at a port, until the end of the block."""

    def __init__(self, command, port, log, environment=None):
        self.log = log
        self.port = port
        path = f"{Path(command[0]).parent}:{os.environ['PATH']}"
        environment = {"PATH": path, "HOME": str(Path(log).parent), **(environment or {})}
        with open(log, "wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, cwd=Path(log).parent)

    def __enter__(self):
        for _ in range(1800):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"{self.log}: {Path(self.log).read_text()[-3000:]}")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def cluster(name, url):
    host, port = url.removeprefix("http://").split(":")
    address = {"socket_address": {"address": host, "port_value": int(port)}}
    return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": [
        {"lb_endpoints": [{"endpoint": {"address": address}}]}]}}


def envoy_settings(service, model, port):
    shipped = yaml.safe_load((DEPLOY / "envoy.yaml").read_text().replace("TOKEN", service.token))
    authz = shipped["http_filters"][0]
    authz["typed_config"]["http_service"]["server_uri"]["uri"] = service.urls["api"]
    router = {"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}
    routes = {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
        {"match": {"prefix": "/"}, "route": {"cluster": "model", "timeout": "30s"}}]}]}
    manager = {"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
                        "HttpConnectionManager",
               "stat_prefix": "in", "route_config": routes, "http_filters": [authz, router]}
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"static_resources": {
        "listeners": [{"name": "in", "address": address, "filter_chains": [chain]}],
        "clusters": [cluster("layersift", service.urls["api"]), cluster("model", model.url)]}}


def envoy(checks, model, denying, masking, work, directory):
    for service in [denying, masking]:
        port = free_port()
        settings = directory / f"envoy-{port}.yaml"
        settings.write_text(yaml.safe_dump(envoy_settings(service, model, port)))
        command = [str(work / "venv/bin/envoy"), "-c", str(settings), "--base-id", str(port), "--log-level", "error"]
        with Program(command, port, directory / f"envoy-{port}.log"):
            through = Sdks(f"http://127.0.0.1:{port}/v1", f"http://127.0.0.1:{port}")
            sdks.clean(checks, model, through, "envoy")
            # It cannot mask: what would be masked is denied as well.
            sdks.denied_prompts(checks, model, through, "envoy")


def litellm_settings(service, model, **changes):
    shipped = yaml.safe_load((DEPLOY / "litellm.yaml").read_text())
    parameters = shipped["guardrails"][0]["litellm_params"]
    parameters["api_base"] = service.urls["api"]
    parameters.update(changes)
    shipped["model_list"] = [
        {"model_name": "gpt-stub", "litellm_params": {
            "model": "openai/gpt-stub", "api_base": f"{model.url}/v1", "api_key": KEY}},
        {"model_name": "claude-stub", "litellm_params": {
            "model": "anthropic/claude-sonnet-4-5", "api_base": model.url, "api_key": KEY}}]
    shipped["general_settings"] = {"master_key": "sk-master"}
    shipped["litellm_settings"] = {"num_retries": 0, "telemetry": False}
    return shipped


def run_litellm(service, model, work, directory, name, **changes):
    port = free_port()
    settings = directory / f"{name}.yaml"
    settings.write_text(yaml.safe_dump(litellm_settings(service, model, **changes)))
    command = [str(work / "venv/bin/litellm"), "--config", str(settings), "--port", str(port), "--host", "127.0.0.1",
               "--telemetry", "False"]
    environment = {"LAYERSIFT_TOKEN": service.token, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "DO_NOT_TRACK": "1"}
    program = Program(command, port, directory / f"{name}.log", environment)
    return program, Sdks(f"http://127.0.0.1:{port}/v1", f"http://127.0.0.1:{port}", key="sk-master")


def litellm(checks, model, denying, masking, work, directory):
    program, through = run_litellm(denying, model, work, directory, "denying")
    with program:
        sdks.clean(checks, model, through, "litellm")
        sdks.denied_prompts(checks, model, through, "litellm")
        sdks.masked_history(checks, model, through, "litellm")
        sdks.denied_answers(checks, model, through, "litellm")
    program, through = run_litellm(masking, model, work, directory, "masking")
    with program:
        sdks.masked_prompts(checks, model, through, "litellm")
        # LiteLLM would drop the masks in streams.
        sdks.denied_answers(checks, model, through, "litellm, masking")
    changes = {"streaming_buffer_until_moderated": False, "streaming_transform_mode": "incremental_diff",
               "additional_provider_specific_params": {"layersift_mask_answers": True}}
    program, through = run_litellm(masking, model, work, directory, "incremental", **changes)
    with program:
        ways = ["openai chat", "openai chat, stream", "openai responses", "anthropic messages"]
        sdks.masked_answers(checks, model, through, "litellm, incremental_diff", ways)


def portkey(checks, model, denying, masking, work, directory):
    node, script = shutil.which("node"), work / "node_modules/@portkey-ai/gateway/build/start-server.js"
    if node is None or not script.exists():
        print("NOT RUN: there is no node, or no npm that could install Portkey")
        return
    port = free_port()
    # It reaches webhooks and models at private addresses only where it is told to.
    environment = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost", "PATH": os.environ["PATH"]}
    with Program([node, str(script), f"--port={port}", "--headless"], port, directory / "portkey.log", environment):
        for service in [denying, masking]:
            through(checks, model, service, port, masks=service is masking)


def reasons(error):
    """What Portkey shows of a denial: its message, and the reasons of the checks."""
    body = json.loads(error)
    results = [result for results in body["hook_results"].values() for result in results]
    checks = [check for result in results for check in result["checks"]]
    return body["error"]["message"], [check["data"].get("responseData", {}).get("reason") for check in checks]


def through(checks, model, service, port, masks):
    shipped = (DEPLOY / "portkey.json").read_text().replace("TOKEN", service.token)
    config = json.loads(shipped.replace("https://layersift.example.org", service.urls["api"]))
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{model.url}/v1",
               "x-portkey-config": json.dumps(config)}
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, default_headers=headers, max_retries=0)

    def ask(prompt, stream=False):
        model.bodies.clear()
        try:
            answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": prompt}],
                                                    stream=stream)
            if stream:
                return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices), None
            return answer.choices[0].message.content, None
        except openai.APIStatusError as error:
            # The text of the exception has no reason; the body has.
            return "", error.response.text

    model.answer = TEXT
    text, error = ask(f"hello {MARK}")
    checks.that(error is None and text == TEXT, f"portkey, clean: {text!r} {error!r}")
    # It would pass the answer on, whatever is decided about it.
    text, error = ask("hello", stream=True)
    print(f"  openai chat: a stream: {error and reasons(error)}")
    checks.that("prompt.unseen-answer" in str(error) and not model.bodies and not text,
                f"portkey, a stream: {text!r} {error!r}")
    text, error = ask(f"use {token()}")
    sent = b"".join(model.bodies).decode()
    if masks:
        checks.that(error is None and "[MASKED" in sent and not leaks(sent), f"portkey, masked: {sent} {error!r}")
    else:
        print(f"  openai chat: a denied prompt: {reasons(error)}")
        checks.that(RULE in str(error) and not model.bodies, f"portkey, denied: {error!r}, {sent}")
    model.answer = f"The key is {token()} so it is"
    text, error = ask("hello")
    if masks:
        checks.that(error is None and "[MASKED" in text and not leaks(text), f"portkey, masked answer: {text!r} {error!r}")
    else:
        print(f"  openai chat: a denied answer: {reasons(error)}")
        checks.that(RULE in str(error) and not leaks(str(error)), f"portkey, denied answer: {text!r} {error!r}")
