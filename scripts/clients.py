"""Real clients against real nodes. Each test is a function named by the promise that it holds.

usage: clients.py PATH_OF_LODE
"""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import harness
import slices
from harness import test

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = pathlib.Path(os.environ.get("LODE_TEST_MODELS", ROOT / ".cache/models"))


class Home(harness.Home):
    """A home whose native dialect is asked."""

    @property
    def base(self):
        return f"http://{self.address}/lode/v1"

    def get(self, path, headers=None, method="GET"):
        request = urllib.request.Request(self.base + path, headers=headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()


def small_model(folder, seed=1):
    """A folder like those on the Hub: sub-folder, empty file, link, odd name, two shards with index."""
    generator = numpy.random.default_rng(seed)
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
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    (folder / "empty").touch()
    (folder / "onnx").mkdir()
    (folder / "onnx" / "naïve 模型.txt").write_text("text\n" * 1000)
    (folder / "link.json").symlink_to("config.json")
    return folder


def same_folder(left, right):
    names = sorted(str(path.relative_to(left)) for path in left.rglob("*") if not path.is_dir())
    found = sorted(
        str(path.relative_to(right)) for path in right.rglob("*")
        if not path.is_dir() and not path.name.endswith(".lode-part")
    )
    assert names == found, (names, found)
    for name in names:
        assert (left / name).is_symlink() == (right / name).is_symlink(), name
        assert (left / name).read_bytes() == (right / name).read_bytes(), name


@test
def a_pushed_folder_arrives_byte_for_byte_and_the_copy_seeds(work):
    source = small_model(work / "source")
    a, b, c = (Home(work / name) for name in "abc")
    a.lode("push", source, "acme/tiny", "--tag", "v1", "--public")
    a.serve()
    ticket = a.lode("share", "acme/tiny@v1")
    out = work / "out"
    assert b.lode("pull", "acme/tiny@v1", "--from", ticket, "--to", out) == str(out)
    same_folder(source, out)
    a.stop()
    b.serve()
    second = b.lode("share", "acme/tiny@v1")
    c.lode("pull", "acme/tiny@v1", "--from", second, "--to", work / "third")
    same_folder(source, work / "third")
    b.stop()
    c.lode("verify", "acme/tiny@v1")


@test
def a_private_model_needs_the_capability_of_its_ticket(work):
    source = small_model(work / "source")
    a, b = Home(work / "a"), Home(work / "b")
    a.lode("push", source, "acme/secret")
    a.lode("push", source, "acme/open", "--public")
    a.serve()
    public = a.lode("share", "acme/open")
    b.lode("pull", "acme/open", "--from", public)
    b.lode("pull", "acme/secret", code=3)
    b.lode("pull", "acme/secret", "--from", a.lode("share", "acme/secret"))
    a.stop()


@test
def tensors_pulled_alone_open_in_safetensors(work):
    source = small_model(work / "source")
    a, b = Home(work / "a"), Home(work / "b")
    a.lode("push", source, "acme/tiny", "--public", "--in-place")
    a.serve()
    ticket = a.lode("share", "acme/tiny")
    done = b.json("pull", "acme/tiny", "--from", ticket, "--tensors", "model.layers.0.*", "--to", work / "part")
    found = {}
    for path in (work / "part").rglob("*.safetensors"):
        found.update(load_file(path))
    whole = {}
    for path in source.glob("*.safetensors"):
        whole.update(load_file(path))
    wanted = {name: value for name, value in whole.items() if name.startswith("model.layers.0.")}
    assert sorted(found) == sorted(wanted)
    for name, value in wanted.items():
        assert numpy.array_equal(found[name], value), name
    bytes_wanted = sum(value.nbytes for value in wanted.values())
    assert done["size_fetched"] <= bytes_wanted * 1.3 + 200_000, (done, bytes_wanted)
    a.stop()


def sharded(folder, name, config, shapes):
    """A checkpoint of two shards with an index and a file of another kind."""
    generator = numpy.random.default_rng(len(name))
    folder.mkdir(parents=True)
    names = list(shapes)
    weight_map, size = {}, 0
    for number in range(2):
        shard = f"model-{number + 1:05}-of-00002.safetensors"
        tensors = {key: generator.standard_normal(shapes[key]).astype(numpy.float16) for key in names[number::2]}
        save_file(tensors, folder / shard, metadata={"format": "pt"})
        weight_map.update({key: shard for key in tensors})
        size += sum(value.nbytes for value in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"architectures": [name], **config}))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def as_a_loader_reads(folder):
    """The tensors of a checkpoint, by its index, each from the shard that the index names."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    found = {}
    for shard in sorted(set(index["weight_map"].values())):
        with safe_open(folder / shard, framework="numpy") as file:
            assert file.metadata() == {"format": "pt"}
            for name in file.keys():
                assert index["weight_map"][name] == shard, name
                found[name] = file.get_tensor(name)
    assert sorted(found) == sorted(index["weight_map"])
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in found.values())
    return found


@test
def slices_equal_slicing_the_whole_model_in_python(work):
    a = Home(work / "a")
    models = slices.families()
    for name, config, shapes in models:
        a.lode("push", sharded(work / name, name, config, shapes), f"acme/{name}", "--public", "--in-place")
    a.serve()
    checked = 0
    for name, config, shapes in models:
        ticket = a.lode("share", f"acme/{name}")
        b = Home(work / f"b-{name}")
        whole = as_a_loader_reads(work / name)
        cuts = [{"tp": (rank, of)} for of in (2, 4) for rank in range(of)]
        cuts += [{"layers": (0, 1)}, {"layers": (1, 2), "tp": (1, 2)}]
        if "Mo" in name or "Mix" in name:
            cuts += [{"experts": (1, 3)}, {"experts": (0, 2), "tp": (3, 4), "layers": (0, 1)}]
        for number, cut in enumerate(cuts):
            write = {"tp": "tp={}/{}", "layers": "layers={}..{}", "experts": "experts={}..{}"}
            arguments = [part for key, value in cut.items() for part in ("--slice", write[key].format(*value))]
            out = work / f"{name}-{number}"
            done = b.json("pull", f"acme/{name}", "--from", ticket, "--to", out, *arguments)
            expected = slices.Slicer(config, whole, **cut).of_model(whole)
            found = as_a_loader_reads(out)
            assert sorted(found) == sorted(expected), (name, cut)
            manifest = json.loads((out / "lode-slice.json").read_text())
            for key, value in expected.items():
                assert found[key].shape == value.shape and found[key].tobytes() == value.tobytes(), (name, cut, key)
                row = manifest["tensors"][key]
                assert row["shape"] == list(whole[key].shape), (name, cut, key)
                again = whole[key]
                if row["cut"]:
                    parts = [numpy.arange(part["start"], part["end"]) for part in row["cut"]["parts"]]
                    again = numpy.take(again, numpy.concatenate(parts), axis=row["cut"]["dim"])
                assert again.tobytes() == value.tobytes(), (name, cut, key)
            assert (out / "config.json").read_bytes() == (work / name / "config.json").read_bytes()
            assert (out / "tokenizer.json").exists() and done["size_full"] > done["size"] * 0.9
            checked += 1
        again = b.json("pull", f"acme/{name}", "--from", ticket, "--to", work / f"{name}-0", "--slice", "tp=0/2")
        assert again["size_fetched"] == 0, again
        b.lode("pull", f"acme/{name}", "--from", ticket, "--to", work / "no", "--slice", "tp=0/3", code=2)
        assert not (work / "no").exists()
    assert checked >= 80, checked
    a.stop()


@test
def http_ranges_and_tensors_equal_what_python_reads(work):
    source = small_model(work / "source")
    a = Home(work / "a")
    a.lode("push", source, "acme/tiny", "--tag", "v1")
    a.serve()
    shard = "model-00001-of-00002.safetensors"
    data = (source / shard).read_bytes()
    base = "/models/acme/tiny/v1"
    status, headers, body = a.get(f"{base}/files/{shard}")
    assert status == 200 and body == data
    assert headers["ETag"].strip('"') == hashlib.sha256(data).hexdigest()
    status, headers, body = a.get(f"{base}/files/{shard}", {"Range": "bytes=1000-70999"})
    assert status == 206 and body == data[1000:71000] and headers["Content-Range"] == f"bytes 1000-70999/{len(data)}"
    status, headers, body = a.get(f"{base}/files/{shard}", {"Range": "bytes=-17"})
    assert status == 206 and body == data[-17:]
    status, headers, _ = a.get(f"{base}/files/{shard}", {"Range": f"bytes={len(data)}-"})
    assert status == 416 and headers["Content-Range"] == f"bytes */{len(data)}"
    status, headers, body = a.get(f"{base}/files/{shard}", method="HEAD")
    assert status == 200 and body == b"" and int(headers["Content-Length"]) == len(data)
    for name, value in load_file(source / shard).items():
        status, headers, body = a.get(f"{base}/tensors/{name}")
        assert status == 200 and body == value.tobytes(), name
        assert headers["Lode-Dtype"] == "F16"
    up = load_file(source / shard)["model.layers.1.up.weight"]
    status, _, body = a.get(f"{base}/tensors/model.layers.1.up.weight?rows=10..20")
    assert status == 200 and body == up[10:20].tobytes()
    assert a.get(f"{base}/files/missing")[0] == 404
    assert a.get("/models/acme/nothing/v1")[0] == 404
    assert a.get(f"{base}/files/{shard}", {"Host": "evil.example"})[0] in (400, 403, 421)
    a.stop()


@test
def curl_resumes_a_download_and_reads_many_ranges(work):
    if not shutil.which("curl"):
        return "curl is not installed"
    source = small_model(work / "source")
    a = Home(work / "a")
    a.lode("push", source, "acme/tiny")
    a.serve()
    shard = "model-00002-of-00002.safetensors"
    data = (source / shard).read_bytes()
    url = f"{a.base}/models/acme/tiny/main/files/{shard}"
    out = work / "resumed"
    out.write_bytes(data[:12345])
    subprocess.run(["curl", "-sSf", "-C", "-", "-o", out, url], check=True, timeout=60)
    assert out.read_bytes() == data
    many = subprocess.run(["curl", "-sSf", "-r", "0-9,100-109", url], check=True, capture_output=True, timeout=60).stdout
    assert data[:10] in many and data[100:110] in many and b"Content-Range: bytes 100-109/" in many
    a.stop()


@test
def curl_reads_through_a_node_what_only_its_peer_holds(work):
    if not shutil.which("curl"):
        return "curl is not installed"
    source = small_model(work / "source")
    big = numpy.random.default_rng(7).bytes(40_000_000)
    (source / "big.bin").write_bytes(big)
    a, b = Home(work / "a"), Home(work / "b")
    a.lode("push", source, "acme/tiny", "--tag", "v1", "--public")
    key = a.json("show", "acme/tiny")["publisher"]
    a.serve()
    b.lode("peers", "add", a.lode("share", "acme/tiny@v1"))
    b.serve()

    def curl(*arguments):
        return subprocess.run(["curl", "-s", *arguments], capture_output=True, timeout=120)

    url = f"{b.base}/models/{key}/tiny/v1"
    assert curl("-f", "-r", "30000000-30016383", f"{url}/files/big.bin").stdout == big[30_000_000:30_016_384]
    out = work / "out"
    assert curl("-f", "-o", out, f"{url}/files/big.bin").returncode == 0
    assert out.read_bytes() == big
    shard = load_file(source / "model-00001-of-00002.safetensors")["model.layers.0.up.weight"]
    rows = curl("-f", f"{url}/tensors/model.layers.0.up.weight?rows=10..20").stdout
    assert rows == shard[10:20].tobytes()
    assert curl("-f", f"{url}/files/link.json").stdout == (source / "config.json").read_bytes()
    metrics = curl(b.base.removesuffix("/lode/v1") + "/metrics").stdout.decode()
    fetched = [line.split()[1] for line in metrics.splitlines() if line.startswith("lode_fetch_bytes_total ")]
    assert int(fetched[0]) >= len(big), metrics
    # What was read whole is here now; what was not is 503, and comes back with its peer.
    deadline = time.monotonic() + 30
    while b.json("ls")["models"][0]["size_held"] < len(big) and time.monotonic() < deadline:
        time.sleep(0.1)
    a.stop()
    assert curl("-f", f"{url}/files/big.bin").stdout == big
    lacking = curl("-D", "-", "-o", "/dev/null", f"{url}/files/model-00002-of-00002.safetensors").stdout.decode()
    assert " 503 " in lacking.splitlines()[0] and "retry-after:" in lacking.lower(), lacking
    b.stop()


@test
def a_second_version_sends_little_more_than_what_changed(work):
    source = small_model(work / "source")
    a, b = Home(work / "a"), Home(work / "b")
    a.lode("push", source, "acme/tiny", "--public")
    a.serve()
    ticket = a.lode("share", "acme/tiny")
    b.lode("pull", "acme/tiny", "--from", ticket)
    shard = source / "model-00001-of-00002.safetensors"
    tensors = load_file(shard)
    tensors["model.layers.0.up.weight"] = tensors["model.layers.0.up.weight"] + numpy.float16(1)
    save_file(tensors, shard, metadata={"format": "pt"})
    a.lode("push", source, "acme/tiny", "-m", "one tensor")
    done = b.json("pull", "acme/tiny", "--from", ticket)
    changed = tensors["model.layers.0.up.weight"].nbytes
    assert done["size_fetched"] <= changed * 2 + 100_000, (done["size_fetched"], changed)
    log = a.json("log", "acme/tiny")
    assert len(log["versions"]) == 2, log
    rows = a.json("diff", f"acme/tiny@{log['versions'][1]['version']}", "acme/tiny", "--stats")
    assert [row["name"] for row in rows["tensors"]] == ["model.layers.0.up.weight"], rows
    assert 0.9 < rows["tensors"][0]["mean_abs"] < 1.1
    a.stop()


@test
def real_models_are_pushed_listed_and_pulled_whole(work):
    models = sorted(path for path in MODELS.glob("*") if path.is_dir()) if MODELS.exists() else []
    if not models:
        return "no real models: run scripts/fetch-models"
    a, b = Home(work / "a"), Home(work / "b")
    for model in models:
        a.lode("push", model, f"acme/{model.name}", "--in-place", "--strict", "--public")
        rows = a.json("tensors", f"acme/{model.name}")["tensors"]
        assert rows, model
    a.serve()
    for model in models:
        ticket = a.lode("share", f"acme/{model.name}")
        b.lode("pull", f"acme/{model.name}", "--from", ticket, "--to", work / model.name)
        same_folder(model, work / model.name)
    a.stop()


harness.main(sys.argv[2:])
