"""Clients of registries that pull from a node whose models only a second node holds, unmodified. Each test is a function
named by the promise that it holds.

usage: clients_oci.py PATH_OF_LODE FOLDER_OF_VENVS [TEST]..

The venv is named oci and has oras.
"""
import hashlib
import http.client
import json
import pathlib
import random
import subprocess
import sys
import time

import gguf

from harness import Home, main, test, write_gguf

VENV = pathlib.Path(sys.argv[2]).resolve() / "oci"
OCI = "application/vnd.oci.image.manifest.v1+json"
OLLAMA = "application/vnd.docker.distribution.manifest.v2+json"
PULL = """
import sys, oras.client
client = oras.client.OrasClient(hostname=sys.argv[1], insecure=True)
print("\\n".join(client.get_tags(f"{sys.argv[1]}/{sys.argv[2]}")))
client.pull(target=f"{sys.argv[1]}/{sys.argv[2]}:{sys.argv[3]}", outdir=sys.argv[4])
"""


def tiny(folder):
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "LICENSE").write_text("as you like\n")
    (folder / "big.dat").write_bytes(random.Random(1).randbytes(11 << 20))
    (folder / "empty").touch()
    (folder / "sub" / "naïve 模型.txt").write_text("text\n" * 1000)
    write_gguf(folder / "model.gguf")
    return folder


class Stage:
    """A node that holds a model, and one that holds none and knows the first; its address is where clients go."""

    def __init__(self, work):
        self.far, self.near = Home(work / "far"), Home(work / "near")
        self.source = tiny(work / "tiny")
        self.far.lode("push", self.source, "acme/tiny", "--tag", "v1", "--public")
        self.far.serve()
        self.near.lode("peers", "add", self.far.lode("share", "acme/tiny"))
        self.near.lode("alias", "acme", self.far.json("key", "show")["publisher"])
        self.near.serve()

    def ask(self, method, path, **headers):
        connection = http.client.HTTPConnection(self.near.address, timeout=60)
        connection.request(method, path, headers={key.replace("_", "-"): value for key, value in headers.items()})
        answer = connection.getresponse()
        return answer, answer.read()

    def manifest(self, path, accept):
        """A manifest, waited for while a variant is made."""
        deadline = time.monotonic() + 60
        while True:
            answer, body = self.ask("GET", path, accept=accept)
            if answer.status != 503:
                assert answer.status == 200, (answer.status, body)
                return json.loads(body)
            assert time.monotonic() < deadline and int(answer.headers["retry-after"]) > 0
            time.sleep(0.2)


def same(one, other):
    def files(folder):
        found = (path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}

    one, other = files(one), files(other)
    assert one.keys() == other.keys(), (one.keys(), other.keys())
    assert all(one[path] == other[path] for path in one)


@test
def oras_pulls_a_version_that_only_a_peer_holds(work):
    stage = Stage(work)
    command = [VENV / "bin/python", "-c", PULL, stage.near.address, "acme/tiny", "v1", work / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"latest", "main", "v1", "q4_k_m", "v1--q8_0"} <= set(done.stdout.split()), done.stdout
    same(stage.source, work / "out")


@test
def oras_pulls_a_variant_once_it_is_made(work):
    stage = Stage(work)
    stage.manifest("/v2/acme/tiny/manifests/v1--q8_0", OCI)
    command = [VENV / "bin/python", "-c", PULL, stage.near.address, "acme/tiny", "v1--q8_0", work / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    made = stage.far.lode("pull", "acme/tiny:q8_0", "--to", work / "made")
    assert made
    one = next((work / "made").rglob("*.gguf"))
    other = next((work / "out").rglob("*.gguf"))
    assert one.read_bytes() == other.read_bytes()


@test
def the_requests_of_ollama_bring_a_variant_that_nobody_stored(work):
    stage = Stage(work)
    agent = "ollama/0.12.3 (amd64 linux) Go/go1.24.1"
    manifest = stage.manifest("/v2/acme/tiny/manifests/q4_k_m", OLLAMA)
    layers = {layer["mediaType"].rsplit(".", 1)[-1]: layer for layer in manifest["layers"]}
    for described in [manifest["config"], *manifest["layers"]]:
        path = f"/v2/acme/tiny/blobs/{described['digest']}"
        head, _ = stage.ask("HEAD", path, user_agent=agent)
        assert head.status == 200 and int(head.headers["content-length"]) == described["size"]
        whole, body = stage.ask("GET", path, user_agent=agent)
        assert whole.status == 200 and whole.headers["location"]
        assert described["digest"] == f"sha256:{hashlib.sha256(body).hexdigest()}"
        half = described["size"] // 2
        parts = b""
        for start, end in ((0, half), (half, described["size"])):
            answer, part = stage.ask("GET", path, user_agent=agent, range=f"bytes={start}-{end - 1}")
            assert answer.status == 206
            parts += part
        assert parts == body
    _, model = stage.ask("GET", f"/v2/acme/tiny/blobs/{layers['model']['digest']}")
    (work / "model.gguf").write_bytes(model)
    types = {tensor.tensor_type.name for tensor in gguf.GGUFReader(work / "model.gguf").tensors}
    assert types & {"Q4_K", "Q6_K"}, types


@test
def curl_resumes_a_blob_where_it_stopped(work):
    stage = Stage(work)
    bytes_ = (stage.source / "big.dat").read_bytes()
    url = f"http://{stage.near.address}/v2/acme/tiny/blobs/sha256:{hashlib.sha256(bytes_).hexdigest()}"
    out = work / "big.dat"
    out.write_bytes(bytes_[: 4 << 20])
    subprocess.run(["curl", "-fsS", "-C", "-", "-o", out, url], check=True, timeout=60)
    assert out.read_bytes() == bytes_


@test
def what_no_peer_has_now_is_503_and_not_missing(work):
    stage = Stage(work)
    manifest = stage.manifest("/v2/acme/tiny/manifests/v1", OCI)
    big = max(manifest["layers"], key=lambda layer: layer["size"])
    stage.far.stop()
    answer, body = stage.ask("GET", f"/v2/acme/tiny/blobs/{big['digest']}")
    assert answer.status == 503 and answer.headers["retry-after"], (answer.status, body[:200])
    assert json.loads(body)["errors"][0]["code"] == "UNAVAILABLE"


main(sys.argv[3:])
