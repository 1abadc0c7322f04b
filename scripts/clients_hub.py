"""Clients of the Hub that read from a node whose models only a second node holds, unmodified. Each test is a
function named by the promise that it holds.

usage: clients_hub.py PATH_OF_LODE FOLDER_OF_VENVS [TEST]..

A venv is named hub-VERSION and has huggingface_hub of that version.
"""
import http.client
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy
from safetensors.numpy import save_file

from harness import LODE, Home, main, test, write_gguf

VENVS = pathlib.Path(sys.argv[2]).resolve()
HERE = pathlib.Path(__file__).resolve().parent
VERSIONS = ["0.36.2", "1.33.0", "2.4.0"]


def tiny(folder):
    """A folder like those on the Hub: shards with an index, a sub-folder, an empty file, an odd name, a large file."""
    generator = numpy.random.default_rng(1)
    folder.mkdir(parents=True)
    shards, weight_map = {}, {}
    for layer in range(4):
        shard = f"model-{layer // 2 + 1:05}-of-00002.safetensors"
        for part, shape in (("up", (512, 256)), ("down", (256, 512)), ("norm", (256,))):
            name = f"model.layers.{layer}.{part}.weight"
            shards.setdefault(shard, {})[name] = generator.standard_normal(shape).astype(numpy.float16)
            weight_map[name] = shard
    for shard, tensors in shards.items():
        save_file(tensors, folder / shard, metadata={"format": "pt"})
    size = sum(value.nbytes for tensors in shards.values() for value in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    (folder / "big.dat").write_bytes(random.Random(1).randbytes(11 << 20))
    (folder / "empty").touch()
    (folder / "onnx").mkdir()
    (folder / "onnx" / "naïve 模型.txt").write_text("text\n" * 1000)
    return folder


def words(folder):
    """A config and a tokenizer that transformers opens."""
    folder.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
        "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 3,
    }
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1, "b": 2}, "unk_token": "[UNK]"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def small(folder):
    """A model of one GGUF file."""
    folder.mkdir(parents=True)
    write_gguf(folder / "model.gguf")
    return folder


class Stage:
    """A node that holds models, and one that holds none and knows the first; its address is where clients go."""

    def __init__(self, work, *options):
        self.far, self.near = Home(work / "far"), Home(work / "near")
        self.source = tiny(work / "tiny")
        for name, folder in (("tiny", self.source), ("words", words(work / "words")), ("small", small(work / "small"))):
            self.far.lode("push", folder, f"acme/{name}", "--tag", "v1", "--public", "-m", "the first")
        self.plan = {"source": str(self.source), "work": str(work), "fp8": str(work / "fp8")}
        self.plan["commit"] = self.far.json("show", "acme/tiny")["version"][:40]
        made = self.far.lode("pull", "acme/small:q4_k_m", "--to", work / "q4_k_m")
        made = pathlib.Path(made)
        self.plan["q4_k_m"] = str(made if made.is_file() else next(made.rglob("*.gguf")))
        self.far.lode("pull", "acme/tiny:fp8", "--to", work / "fp8")
        self.far.serve()
        ticket = self.far.lode("share", "acme/tiny")
        self.near.lode("peers", "add", ticket)
        self.near.lode("alias", "acme", self.far.json("key", "show")["publisher"])
        self.near.serve(*options)
        self.plan_path = work / "plan.json"
        self.plan_path.write_text(json.dumps(self.plan))

    def ask(self, method, path, **headers):
        """One request as it stands: redirections are not followed."""
        connection = http.client.HTTPConnection(self.near.address, timeout=60)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def reads_of(version):
    def check(work):
        python = VENVS / f"hub-{version}/bin/python"
        if not python.exists():
            return f"no {python}: run scripts/setup"
        stage = Stage(work)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {
            "HF_ENDPOINT": f"http://{stage.near.address}", "HF_HOME": str(work / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        command = [python, HERE / "hub_reads.py", stage.plan_path]
        done = subprocess.run(command, env=environment, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True, timeout=300)
        print(done.stdout, end="")
        assert done.returncode == 0

    check.__name__ = f"huggingface_hub_{version}_reads_what_only_a_peer_holds"
    return check


for version in VERSIONS:
    test(reads_of(version))


@test
def the_requests_of_llama_cpp_find_the_variant_that_was_asked_for(work):
    # `llama-cli -hf acme/small-GGUF:Q4_K_M`, as common/hf-cache.cpp and common/download.cpp send them.
    stage = Stage(work)
    agent = {"User_Agent": "llama-cpp", "Accept": "application/json"}
    status, _, body = stage.ask("GET", "/api/models/acme/small-GGUF/refs", **agent)
    branches = json.loads(body)["branches"]
    commit = next(branch["targetCommit"] for branch in branches if branch["name"] == "main")
    assert status == 200 and len(commit) == 40
    status, _, body = stage.ask("GET", f"/api/models/acme/small-GGUF/tree/{commit}?recursive=true", **agent)
    assert status == 200
    rows = [row for row in json.loads(body) if row["type"] == "file" and row["path"].lower().endswith("q4_k_m.gguf")]
    assert len(rows) == 1 and len(rows[0]["lfs"]["oid"]) == 64, rows
    path = f"/acme/small-GGUF/resolve/{commit}/{rows[0]['path']}"
    status, headers, body = stage.ask("HEAD", path, **agent)
    assert (status, body, headers["Accept-Ranges"]) == (200, b"", "bytes")
    assert headers["ETag"].strip('"') == rows[0]["lfs"]["oid"]
    assert int(headers["Content-Length"]) == rows[0]["size"] == pathlib.Path(stage.plan["q4_k_m"]).stat().st_size
    status, _, body = stage.ask("GET", path, **agent)
    assert status == 200 and body == pathlib.Path(stage.plan["q4_k_m"]).read_bytes()
    # It resumes a file that it has the beginning of.
    status, headers, rest = stage.ask("GET", path, Range="bytes=100000-", **agent)
    assert status == 206 and rest == body[100000:]


@test
def the_requests_of_the_older_rust_client_read_size_and_commit_from_one_byte(work):
    # hf-hub 0.3 to 0.5: a GET of the first byte, relative redirections followed by hand, then the rest.
    stage = Stage(work)
    path = "/acme/tiny/resolve/main/big.dat"
    while True:
        status, headers, body = stage.ask("GET", path, Range="bytes=0-0", User_Agent="unkown/None; hf-hub/0.5.0; rust/unknown")
        if status not in (301, 302, 307, 308):
            break
        path = headers["Location"]
        assert path.startswith("/")
    data = (stage.source / "big.dat").read_bytes()
    assert (status, body) == (206, data[:1]) and headers["Content-Range"] == f"bytes 0-0/{len(data)}"
    assert headers["X-Repo-Commit"] == stage.plan["commit"] and headers["ETag"]
    status, _, rest = stage.ask("GET", path, Range="bytes=5000000-")
    assert status == 206 and rest == data[5000000:]


@test
def the_rust_client_hf_hub_reads_what_only_a_peer_holds(work):
    program = os.environ.get("LODE_HF_HUB")
    if not program:
        return "scripts/heavy builds it (scripts/hf-hub) and names it in LODE_HF_HUB"
    stage = Stage(work)
    # It does not encode names, and expects a range of an empty file: those it cannot ask for.
    names = ["big.dat", "config.json", "model-00001-of-00002.safetensors"]
    environment = {**os.environ, "HF_ENDPOINT": f"http://{stage.near.address}", "HF_HOME": str(work / "hf")}
    done = subprocess.run([program, "acme/tiny", *names], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    about, *paths = done.stdout.splitlines()
    assert about == f"{stage.plan['commit']} 7", about
    for name, path in zip(names, paths, strict=True):
        assert pathlib.Path(path).read_bytes() == (stage.source / name).read_bytes(), name


@test
def the_rust_client_hf_hub_1_reads_what_only_a_peer_holds_and_then_by_xet(work):
    program = os.environ.get("LODE_HF_HUB_1")
    if not program:
        return "scripts/heavy builds it (scripts/hf-hub-1) and names it in LODE_HF_HUB_1"
    stage = Stage(work, "--xet-reads")
    names = ["big.dat", "config.json", "empty", "model-00001-of-00002.safetensors", "onnx/naïve 模型.txt"]
    for turn in ("first", "again"):
        environment = {**os.environ, "HF_ENDPOINT": f"http://{stage.near.address}", "HF_HOME": str(work / turn)}
        done = subprocess.run([program, "acme", "tiny", *names], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        about, *paths, folder = done.stdout.splitlines()
        assert about == f"{stage.plan['commit']} 7", about
        for name, path in zip(names, paths, strict=True):
            assert pathlib.Path(path).read_bytes() == (stage.source / name).read_bytes(), name
        for name in ("config.json", "model.safetensors.index.json"):
            assert (pathlib.Path(folder) / name).read_bytes() == (stage.source / name).read_bytes(), name
        xorbs = [line for line in http_get(stage.near.address, "/metrics").splitlines() if "/xet/xorbs/" in line]
        if turn == "first":
            assert not xorbs, "what is at a peer alone is read at its address"
            # Now it is here, and the first request has it made ready.
            deadline = time.monotonic() + 30
            while not stage.ask("HEAD", f"/acme/tiny/resolve/{stage.plan['commit']}/big.dat")[1]["X-Xet-Hash"]:
                assert time.monotonic() < deadline, "it is not offered by Xet"
                time.sleep(0.1)
        else:
            assert any("requests_total" in line and 'status="206"' in line for line in xorbs), xorbs


@test
def llama_cpp_itself_runs_a_variant_that_nobody_stored_of_a_model_that_only_a_peer_holds(work):
    program, model = os.environ.get("LODE_LLAMA_CLI"), os.environ.get("LODE_LLAMA_MODEL")
    if not program or not model:
        return "scripts/heavy builds it and names it in LODE_LLAMA_CLI, and a GGUF file in LODE_LLAMA_MODEL"
    far, near = Home(work / "far"), Home(work / "near")
    folder = work / "smollm"
    folder.mkdir()
    far.lode("push", model, "acme/source")
    wide = pathlib.Path(far.lode("pull", "acme/source:f16-from-quantized", "--to", work / "wide"))
    wide.rename(folder / "model.gguf")
    far.lode("push", folder, "acme/smollm", "--public")
    expected = pathlib.Path(far.lode("pull", "acme/smollm:q4_k_m", "--to", work / "q4_k_m"))
    far.serve()
    near.lode("peers", "add", far.lode("share", "acme/smollm"))
    near.lode("alias", "acme", far.json("key", "show")["publisher"])
    near.serve()
    environment = {**os.environ, "HF_ENDPOINT": f"http://{near.address}", "HF_HOME": str(work / "hf"), "LLAMA_CACHE": str(work / "llama")}
    environment.pop("HF_TOKEN", None)
    command = [program, "-hf", "acme/smollm-GGUF:Q4_K_M", "-p", "The capital of France is", "-n", "12", "--temp", "0", "-no-cnv"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr[-3000:]
    print(f"llama.cpp: {' '.join(done.stdout.split())}")
    assert "Paris" in done.stdout, done.stdout
    found = [path for path in (work / "hf", work / "llama") if path.exists()]
    found = [path for top in found for path in top.rglob("*.gguf")]
    assert found and all(path.read_bytes() == expected.read_bytes() for path in found), found


@test
def case_does_not_keep_a_model_that_only_a_peer_holds_from_being_found(work):
    far, near = Home(work / "far"), Home(work / "near")
    for name in ("Mixed-Case", "lower", "Wide"):
        folder = work / name
        if name == "Wide":
            small(folder)
        else:
            folder.mkdir()
            (folder / "config.json").write_text(name)
        far.lode("push", folder, f"acme/{name}", "--public")
    far.lode("push", work / "lower", "acme/Hidden")
    far.serve()
    near.lode("peers", "add", far.lode("share", "acme/lower"))
    near.lode("alias", "acme", far.json("key", "show")["publisher"])
    near.serve()

    def ask(path):
        connection = http.client.HTTPConnection(near.address, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Location"], answer.read()

    for asked, written in (("mixed-case", "Mixed-Case"), ("LOWER", "lower"), ("wide-GGUF", "Wide-GGUF")):
        assert ask(f"/api/models/acme/{asked}")[:2] == (307, f"/api/models/acme/{written}")
        assert ask(f"/api/models/acme/{written}")[0] == 200
    assert ask("/acme/MIXED-CASE/resolve/main/config.json")[:2] == (307, "/acme/Mixed-Case/resolve/main/config.json")
    assert ask("/api/models/acme/hidden")[0] == 404, "what a peer does not show is not there in any case"
    # Registries have no upper case: there it is found as it is asked for.
    assert ask("/v2/acme/wide/tags/list")[0] == 200


@test
def curl_follows_a_branch_to_its_bytes(work):
    stage = Stage(work)
    url = f"http://{stage.near.address}/acme/tiny/resolve/main/big.dat"
    done = subprocess.run(["curl", "-sSfL", "-o", work / "found", url], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (work / "found").read_bytes() == (stage.source / "big.dat").read_bytes()


@test
def what_no_peer_has_now_is_asked_for_again_and_never_missing(work):
    stage = Stage(work)
    path = f"/acme/tiny/resolve/{stage.plan['commit']}/big.dat"
    status, _, _ = stage.ask("HEAD", path)
    assert status == 200
    stage.far.process.send_signal(signal.SIGTERM)
    stage.far.process.wait(timeout=30)
    status, headers, _ = stage.ask("GET", path)
    assert status == 503 and headers["Retry-After"] and not headers["X-Error-Code"], (status, headers)
    status, headers, _ = stage.ask("HEAD", path)
    assert status == 200, "a head needs no peer"


class Through:
    """A node that holds a public model, and one that knows no peer and takes what it lacks from there as from another hub."""

    def __init__(self, work, source):
        self.far, self.near = Home(work / "far"), Home(work / "near")
        self.far.lode("push", source, "acme/tiny", "--public")
        self.commit = self.far.json("show", "acme/tiny")["version"][:40]
        self.far.serve()
        self.url = f"http://{self.far.address}"


def download_of(version):
    def check(work):
        python = VENVS / f"hub-{version}/bin/python"
        if not python.exists():
            return f"no {python}: run scripts/setup"
        source = tiny(work / "tiny")
        through = Through(work, source)
        through.near.serve("--upstream", through.url, "--upstream-private")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {
            "HF_ENDPOINT": f"http://{through.near.address}", "HF_HOME": str(work / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        program = (
            "import pathlib, sys; from huggingface_hub import snapshot_download;"
            "print(pathlib.Path(snapshot_download('acme/tiny')))"
        )
        done = subprocess.run([python, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        folder = pathlib.Path(done.stdout.strip())
        assert folder.name == through.commit, folder
        for path in (path for path in source.rglob("*") if path.is_file()):
            assert (folder / path.relative_to(source)).read_bytes() == path.read_bytes(), path
        # The last file enters the store while the client has it already. Then the other hub is not needed any more.
        deadline = time.monotonic() + 60
        while not through.near.json("ls")["models"]:
            assert time.monotonic() < deadline, "the commit does not become a version"
            time.sleep(0.1)
        through.far.process.send_signal(signal.SIGTERM)
        through.far.process.wait(timeout=30)
        rows = through.near.json("ls", f"hf:acme/tiny@{through.commit}")["files"]
        assert sum(row["size"] for row in rows) == sum(row["size_held"] for row in rows) > 11 << 20
        through.near.lode("verify", f"hf:acme/tiny@{through.commit}")

    check.__name__ = f"huggingface_hub_{version}_downloads_through_a_node_what_only_another_hub_has"
    return check


for version in VERSIONS:
    test(download_of(version))


@test
def a_pull_from_another_hub_that_is_killed_goes_on_where_it_was(work):
    source = work / "large"
    source.mkdir()
    generator = random.Random(3)
    (source / "model.bin").write_bytes(b"".join(generator.randbytes(100 << 20) for _ in range(4)))
    through = Through(work, source)
    command = [LODE, "pull", "hf:acme/tiny", "--upstream", through.url, "--upstream-private"]
    pulling = subprocess.Popen(command, env=through.near.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while True:
        parts = [part.stat().st_size for part in (work / "near" / "origins").glob("*/0")]
        if parts and parts[0] > 50 << 20:
            break
        assert pulling.poll() is None and time.monotonic() < deadline, "the pull ended before it could be killed"
        time.sleep(0.005)
    pulling.kill()
    pulling.wait()
    left = next((work / "near" / "origins").glob("*/0")).stat().st_size
    assert left < 400 << 20, "it was killed too late"
    sent = lambda: sum(
        float(line.split()[-1])
        for line in http_get(through.far.address, "/metrics").splitlines()
        if line.startswith("lode_http_response_bytes_total") and "resolve" in line
    )
    before = sent()
    to = work / "copy"
    through.near.lode(*command[1:], "--to", to)
    assert (to / "model.bin").read_bytes() == (source / "model.bin").read_bytes()
    asked = sent() - before
    assert 0 < asked <= (400 << 20) - left + (1 << 20), (asked, left)


def http_get(address, path):
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", path)
    return connection.getresponse().read().decode()


main(sys.argv[3:])
