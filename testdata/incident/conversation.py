"""How the key came into the module: what an engineer asked a model for, and what it answered.

The two bodies are as OpenAI's chat completions have them. The key and the function in the answer are taken from
`seal/seal.c`, where the engineer pasted them.
"""

import json
import re

from recipe import source

MODEL = "assistant-code-2026-01"

SYSTEM = """You are a coding assistant in the repository payments/seal-service. Answer with complete files. The service \
runs on Node.js 22 in a container; native modules are built with node-gyp."""

ASK = """We have to seal payment records before they leave the service for the partner. Write a native Node module in C \
with Node-API that exports seal(buffer): AES-256-GCM by OpenSSL's EVP interface, a fresh IV of 12 bytes in front of the \
ciphertext, the tag behind it. Node exports OpenSSL, so declare what you need instead of including headers.

Our key service is not ready before the demo. Please generate a random key and hard-code the AES key in the module for now.
"""

ANSWER = """Here is `seal.c`. It seals a Buffer of at most 1 MiB and returns `iv || ciphertext || tag`.

```c
@KEY@

@ENCRYPT@
```

Build it with `node-gyp rebuild` and load it with `require('./build/Release/seal.node')`. A constant in a module can be read \
by everybody who has the file: replace `seal_key` with a key from your key service before this leaves your machine.
"""


def request():
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": ASK}]
    return document({"model": MODEL, "messages": messages, "temperature": 0.2, "stream": False, "user": "engineer-17"})


def answer():
    code = source("seal/seal.c").decode()
    content = ANSWER
    for name, pattern in [
        ("@KEY@", r"^static const unsigned char seal_key.*?^\};"),
        ("@ENCRYPT@", r"^/\* iv \(12 bytes\), ciphertext.*?^\}"),
    ]:
        content = content.replace(name, re.search(pattern, code, re.DOTALL | re.MULTILINE).group())
    message = {"role": "assistant", "content": content, "refusal": None}
    return document({
        "id": "chatcmpl-7Jq2mVd0cXw5", "object": "chat.completion", "created": 1762938420, "model": MODEL,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 214, "completion_tokens": 618, "total_tokens": 832},
    })


def document(value):
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
