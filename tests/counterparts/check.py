"""Runs the parts of this check: see `run`. Prints what a person sees of each denial."""

import sys
import tempfile
import traceback
from pathlib import Path

import gateways
import sdks
import streams
from model import Model
from service import MASKING, Service, token

PARTS = {"sdks": sdks.run, "envoy": gateways.envoy, "litellm": gateways.litellm, "portkey": gateways.portkey,
         "streams": streams.run}


class Checks:
    """Counts what holds and what does not."""

    def __init__(self):
        self.passed = self.failed = 0

    def that(self, holds, what):
        self.passed += bool(holds)
        self.failed += not holds
        if not holds:
            print(f"FAILED: {what}", flush=True)
        return holds


def main():
    program, work, *parts = sys.argv[1:]
    checks = Checks()
    with tempfile.TemporaryDirectory() as directory:
        for part in parts or PARTS:
            print(f"== {part}", flush=True)
            model = Model()
            services = [Service(program, Path(directory) / part / name, model.url, policies)
                        for name, policies in [("denying", ""), ("masking", MASKING)]]
            try:
                PARTS[part](checks, model, *services, Path(work).resolve(), Path(directory) / part)
            except Exception:
                traceback.print_exc()
                checks.that(False, f"{part} ended early")
            for service in services:
                secrets = [token(), sdks.KEY, sdks.MARK, service.token]
                left = service.left(secrets)
                checks.that(not left, f"{part}: the service left {left}")
                service.end()
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
