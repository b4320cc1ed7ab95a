#!/usr/bin/env python3
"""Runs schemathesis against the demo: the real binary with a broker and a simulated camera of its own.

usage: run.py BINARY SECONDS

The binary ends with this script. Exit code 0 only if no check failed.
"""
import hashlib
import json
import os
import pathlib
import secrets
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# Ports that the system chooses, on the loopback address; nothing of the caller's environment.
HOSTS = ["API_SERVER_HOST", "SIGNALING_SERVER_HOST", "DASHBOARD_SERVER_HOST", "MEDIA_HOST", "VIEWER_HOST"]
PORTS = ["API_SERVER_PORT", "SIGNALING_SERVER_PORT", "DASHBOARD_SERVER_PORT", "VIEWER_UDP_PORT",
         "CAMERA_RTP_VIDEO_PORT", "CAMERA_RTCP_PORT", "CAMERA_RTP_AUDIO_PORT"]


def main(binary: str, seconds: str) -> int:
    environment = {name: "127.0.0.1" for name in HOSTS} | {name: "0" for name in PORTS}
    environment |= {"LOCAL_IP": "127.0.0.1", "EXTERNAL_IP": "127.0.0.1", "LOG_LEVEL": "warning"}
    # Access is controlled, so that calls without a credential or with a wrong one are tried as well.
    key = "hck_" + secrets.token_urlsafe(32)
    environment |= {"AUTH_ENABLED": "true", "LIMIT_REQUESTS_PER_SECOND": "100000",
                    "AUTH_API_KEYS": "schemathesis:admin:*:" + hashlib.sha256(key.encode()).hexdigest()}
    of_tool = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
    with tempfile.TemporaryDirectory() as folder, open(os.path.join(folder, "log"), "w+") as log:
        service = subprocess.Popen([os.path.abspath(binary), "demo"], cwd=folder, env=environment, text=True,
                                   stdout=subprocess.PIPE, stderr=log)
        try:
            line = service.stdout.readline()
            if not line.startswith("ready "):
                log.seek(0)
                print("the service is not ready:", line, log.read(), file=sys.stderr)
                return 1
            url = "http://" + json.loads(line.removeprefix("ready "))["api"]
            tool = pathlib.Path(sys.executable).parent / "schemathesis"
            run = [tool, "--config-file", HERE / "schemathesis.toml", "--no-color", "run", url + "/openapi.json",
                   "--header", "Authorization: Bearer " + key, "--max-time", seconds, "--max-failures", "20"]
            code = subprocess.run(run, cwd=folder, env=of_tool, check=False).returncode
            if service.poll() is not None:
                log.seek(0)
                print("the service has ended:", service.returncode, log.read()[-4000:], file=sys.stderr)
                return 1
            return code
        finally:
            service.terminate()
            service.wait(10)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
