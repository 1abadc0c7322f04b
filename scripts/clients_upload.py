"""Clients of the Hub that upload to a real node, unmodified. Each test is a function named by the promise it holds.

usage: clients_upload.py PATH_OF_LODE FOLDER_OF_VENVS [TEST]..

A venv is named hub-VERSION and has huggingface_hub of that version with hf_xet.
"""
import hashlib
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

import harness
from harness import test

VENVS = pathlib.Path(sys.argv[2]).resolve()
TOKEN = "hf_" + "a" * 36
# What each client may be told: to send large files as xorbs, or by Git LFS.
WAYS = [("2.4.0", "xet"), ("2.4.0", "lfs"), ("1.33.0", "xet"), ("0.36.2", "xet"), ("0.36.2", "lfs")]


class Home(harness.Home):
    """A home whose node may be killed."""

    @property
    def base(self):
        return f"http://{self.address}"

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        # Left behind; with it, a command would take the home for itself before the next node can.
        (self.folder / "control.sock").unlink()


class Counted:
    """A proxy that counts what clients send through it."""

    def __init__(self, home):
        self.target = urllib.parse.urlsplit(home.base).netloc.split(":")
        self.sent = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            node = socket.create_connection((self.target[0], int(self.target[1])))
            for source, sink, counts in ((client, node, True), (node, client, False)):
                threading.Thread(target=self.copy, args=(source, sink, counts), daemon=True).start()

    def copy(self, source, sink, counts):
        try:
            while data := source.recv(1 << 16):
                self.sent += len(data) * counts
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Client:
    """huggingface_hub of one version, with a cache of its own, before one node."""

    def __init__(self, folder, home, version, way):
        self.bin = VENVS / f"hub-{version}" / "bin"
        self.environment = {
            **os.environ,
            "HF_HOME": str(folder / f"cache-{version}-{way}"),
            "HF_ENDPOINT": home.base,
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "*",
        }
        if way == "lfs":
            self.environment["HF_HUB_DISABLE_XET"] = "1"

    def start(self, *arguments):
        return subprocess.Popen(
            list(map(str, arguments)), env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *arguments, code=0):
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == code, f"{arguments}: exit {process.returncode}\n{output[-4000:]}"
        return output

    def hf(self, *arguments, code=0):
        program = self.bin / "hf"
        return self.run(program if program.exists() else self.bin / "huggingface-cli", *arguments, code=code)

    def python(self, program, code=0):
        head = "from huggingface_hub import *\napi = HfApi()\n"
        return self.run(self.bin / "python", "-c", head + program, code=code)


def noise(seed, size):
    return random.Random(seed).randbytes(size)


def model(folder, seed=1):
    """A folder with small and large files: text, and weights that pack well, badly, and in byte planes."""
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text('{"hidden_size": 64}')
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    (folder / "empty.txt").write_text("")
    (folder / "sub/vocab.txt").write_bytes(noise(seed, 200_000).hex().encode())
    (folder / "noise.bin").write_bytes(noise(seed + 1, 3_000_000))
    (folder / "text.bin").write_bytes(b"the same words again and again, " * 40_000)
    # Floats near one another: three of four bytes are noise, and one is not.
    floats = bytearray(noise(seed + 2, 9_000_000))
    floats[3::4] = b"\x3d" * len(floats[3::4])
    (folder / "floats.bin").write_bytes(floats)
    return folder


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".cache" not in path.parts
    }


def pulled(folder, home, name):
    """What a second home gets."""
    ticket = home.lode("share", name)
    other = Home(folder / f"second-{time.monotonic_ns()}")
    to = folder / f"pulled-{time.monotonic_ns()}"
    other.lode("pull", name, "--from", ticket, "--to", to)
    return contents(to)


def head(home, name):
    return home.json("show", name)["version"]


def first_home(folder):
    home = Home(folder / "home")
    return home.serve()


@test
def every_client_uploads_a_folder_that_a_second_home_pulls_byte_for_byte(folder):
    home = first_home(folder)
    for version, way in WAYS:
        client = Client(folder, home, version, way)
        source = model(folder / f"source-{version}-{way}", seed=sum((version + way).encode()))
        name = f"acme/m{version}-{way}"
        client.hf("upload", name, source, ".")
        assert pulled(folder, home, name) == contents(source), f"{version} {way}"
        before = head(home, name)
        client.hf("upload", name, source, ".")
        assert head(home, name) == before, f"{version} {way}: nothing changed, and it made a version"
        # A large file that changes in part, and one that goes.
        floats = bytearray((source / "floats.bin").read_bytes())
        floats[4_000_000:4_000_100] = noise(5, 100)
        (source / "floats.bin").write_bytes(floats)
        (source / "text.bin").unlink()
        client.hf("upload", name, source, ".", "--delete", "text.bin", "--commit-message", "less")
        assert pulled(folder, home, name) == contents(source), f"{version} {way}: second upload"
        assert home.json("log", name)["versions"][0]["message"] == "less"


@test
def every_call_that_changes_a_model_does_what_it_says(folder):
    home = first_home(folder)
    for version, way in WAYS:
        client = Client(folder, home, version, way)
        client.python(f"""
name, big = "acme/calls-{version}-{way}", bytes(range(256)) * 50_000
url = api.create_repo(name)
assert str(url).endswith(name), url
try:
    api.create_repo(name); raise SystemExit("made twice")
except Exception as error:
    assert error.response.status_code == 409, error
api.create_repo(name, exist_ok=True)
one = api.upload_file(path_or_fileobj=b"hello", path_in_repo="a/small.txt", repo_id=name)
two = api.upload_file(path_or_fileobj=big, path_in_repo="a/big.bin", repo_id=name)
info = api.create_commit(name, [
    CommitOperationDelete("a/small.txt"),
    CommitOperationCopy("a/big.bin", "b/copy.bin"),
    CommitOperationAdd("c.json", b"{{}}"),
], commit_message="three at once", commit_description="and a text")
assert len(info.oid) == 40
try:
    api.create_commit(name, [CommitOperationAdd("d", b"d")], commit_message="late", parent_commit=two.oid)
    raise SystemExit("a stale parent was taken")
except Exception as error:
    assert error.response.status_code == 412, error
api.create_branch(name, branch="dev")
try:
    api.create_branch(name, branch="dev"); raise SystemExit("made twice")
except Exception as error:
    assert error.response.status_code == 409, error
api.upload_file(path_or_fileobj=b"dev", path_in_repo="dev.txt", repo_id=name, revision="dev")
api.create_tag(name, tag="v1", revision="main")
api.delete_folder("b", name)
api.delete_tag(name, tag="v1")
api.create_tag(name, tag="v2", revision="dev")
api.delete_branch(name, branch="dev")
""")
        name = f"acme/calls-{version}-{way}"
        files = {row["path"] for row in home.json("ls", name)["files"]}
        assert files == {"a/big.bin", "c.json"}, files
        files = {row["path"] for row in home.json("ls", f"{name}@v2")["files"]}
        assert files == {"a/big.bin", "b/copy.bin", "c.json", "dev.txt"}, files
        assert [ref["name"] for ref in home.json("branch", "ls", name)["refs"]] == ["main", "v2"]
        client.python(f"api.delete_repo('{name}')")
        home.lode("show", name, code=3)
        client.python(f"""
try:
    api.delete_repo('{name}'); raise SystemExit("removed twice")
except Exception as error:
    assert type(error).__name__ == "RepositoryNotFoundError", repr(error)
api.delete_repo('{name}', missing_ok=True)
""")


@test
def a_token_uploads_to_the_models_that_it_is_for_and_to_no_others(folder):
    home = first_home(folder)
    make = lambda *arguments: home.lode("token", "create", *arguments).split()[-1]
    writes, reads = make("--scope", "write", "--model", "acme/*"), make("--scope", "read")
    source = model(folder / "source")
    for version, way in [("2.4.0", "xet"), ("0.36.2", "lfs")]:
        client = Client(folder, home, version, way)
        client.environment["HF_TOKEN"] = writes
        client.hf("upload", f"acme/t{version}", source, ".")
        client.hf("upload", f"other/t{version}", source, ".", code=1)
        client.environment["HF_TOKEN"] = reads
        client.hf("upload", f"acme/t{version}", source, "more", code=1)
        client.environment["HF_TOKEN"] = TOKEN
        client.hf("upload", f"acme/t{version}", source, "more", code=1)
        assert pulled(folder, home, f"acme/t{version}") == contents(source)


@test
def a_node_that_is_killed_amid_an_upload_takes_it_when_it_is_started_again(folder):
    home = first_home(folder)
    for version, way in [("2.4.0", "xet"), ("0.36.2", "lfs")]:
        name = f"acme/killed-{version}-{way}"
        source = folder / f"killed-{version}"
        source.mkdir()
        (source / "weights.bin").write_bytes(noise(7, 150_000_000))
        client = Client(folder, home, version, way)
        client.python(f"api.create_repo('{name}')")
        process = client.start(client.bin / "hf", "upload", name, source, ".")
        uploads = home.folder / "uploads"
        deadline = time.monotonic() + 60
        size = lambda: sum(path.stat().st_blocks * 512 for path in uploads.rglob("*") if path.is_file())
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if size() > 20_000_000:
                    break
            except OSError:
                pass
            time.sleep(0.01)
        assert process.poll() is None, f"the upload was over too soon\n{process.communicate()[0][-2000:]}"
        home.kill()
        process.kill()
        process.communicate()
        home.serve()
        assert not any((uploads / "incoming").glob("*")), "a killed upload leaves something behind"
        client = Client(folder, home, version, way)
        client.hf("upload", name, source, ".")
        assert pulled(folder, home, name) == contents(source), f"{version} {way}"


@test
def xorbs_that_are_known_are_not_sent_again_and_forgotten_ones_are(folder):
    home = first_home(folder)
    counted = Counted(home)
    client = Client(folder, counted, "2.4.0", "xet")
    source = folder / "source"
    source.mkdir()
    weights = noise(3, 40_000_000)
    (source / "weights.bin").write_bytes(weights)
    client.hf("upload", "acme/again", source, ".")
    # Other bytes behind the same ones: the client counts on the xorbs that it sent.
    (source / "weights.bin").write_bytes(weights + noise(4, 1_000_000))
    before = counted.sent
    client.hf("upload", "acme/again", source, ".")
    sent = counted.sent - before
    assert 1_000_000 < sent < 5_000_000, f"{sent} bytes were sent for one million new ones"
    assert pulled(folder, home, "acme/again") == contents(source)
    # The node forgets, and the client begins anew instead of failing.
    home.kill()
    shutil.rmtree(home.folder / "uploads")
    counted.target = urllib.parse.urlsplit(home.serve().base).netloc.split(":")
    (source / "weights.bin").write_bytes(weights + noise(5, 1_000_000))
    client.hf("upload", "acme/again", source, ".")
    assert pulled(folder, home, "acme/again") == contents(source)


def figures(home):
    """Requests that a node answered, by method, route and status."""
    found = {}
    with urllib.request.urlopen(f"{home.base}/metrics") as page:
        for line in page.read().decode().splitlines():
            if line.startswith("lode_http_requests_total{"):
                labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
                found[labels["method"], labels["route"], labels["status"]] = int(line.split()[-1])
    return found


def offered(home, name, path):
    """The hash by which a file is offered by Xet: the first request has it made ready."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        request = urllib.request.Request(f"{home.base}/{name}/resolve/main/{path}", method="HEAD")
        with urllib.request.urlopen(request) as answer:
            if answer.headers["X-Xet-Hash"]:
                return answer.headers["X-Xet-Hash"]
        time.sleep(0.05)
    raise AssertionError(f"{path} is not offered by Xet")


@test
def what_was_uploaded_by_xet_is_read_by_xet_where_that_is_switched_on_and_at_its_address_elsewhere(folder):
    home = Home(folder / "home")
    home.serve("--xet-reads")
    source = model(folder / "source")
    # More than one xorb, and one that comes twice.
    (source / "long.bin").write_bytes(noise(11, 70 << 20))
    (source / "zeros.bin").write_bytes(bytes(140 << 20))
    large = [name for name in os.listdir(source) if name.endswith(".bin")]
    for version, way in WAYS:
        client = Client(folder, home, version, way)
        name = f"acme/read-{version}-{way}"
        client.hf("upload", name, source, ".")
        hashes = {path: offered(home, name, path) for path in large}
        files = [str(source / path) for path in large]
        said = client.run(
            client.bin / "python", "-c", f"import hf_xet; print(*[file.hash for file in hf_xet.hash_files({files!r})])"
        )
        assert said.split() == list(hashes.values()), f"{version}: other hashes than the client's own"
        before = figures(home)
        to = folder / f"read-{version}-{way}"
        client.hf("download", name, "--local-dir", to)
        assert contents(to) == contents(source), f"{version} {way}"
        after = figures(home)
        count = lambda part, status: sum(
            value - before.get(key, 0) for key, value in after.items() if part in key[1] and key[0] == "GET" and key[2] == status
        )
        small = len(contents(source)) - len(large)
        if way == "xet":
            assert count("/xet-read-token/", "200") >= 1, after
            assert count("/reconstructions/", "200") >= len(large), after
            assert count("/xet/xorbs/", "206") >= len(large), after
            large_by_http = count("/resolve/", "200") + count("/resolve/", "206") - small
            assert large_by_http <= 0, f"{version}: {large_by_http} large files at their addresses"
        else:
            assert count("/reconstructions/", "200") == count("/xet/xorbs/", "206") == 0
            assert count("/resolve/", "200") >= len(large), after
    home.stop()
    # What clients noted of a node that offered files by Xet does not keep them from reading once it does not.
    home.serve()
    for version, way in WAYS:
        client = Client(folder, home, version, way)
        client.environment["HF_ENDPOINT"] = home.base
        to = folder / f"plain-{version}-{way}"
        client.hf("download", f"acme/read-{version}-{way}", "--local-dir", to)
        assert contents(to) == contents(source), f"{version} {way}: switched off"
    assert not [key for key in figures(home) if "/xet" in key[1] or "xet-read" in key[1]]


if __name__ == "__main__":
    harness.main(sys.argv[3:])
