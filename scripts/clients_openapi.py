"""The OpenAPI document held to what a node answers: schemathesis with all its checks, and Prometheus' own parser.

usage: clients_openapi.py PATH_OF_LODE CACHE

CACHE/openapi has schemathesis and prometheus_client (scripts/setup). LODE_OPENAPI_SEED chooses other requests,
LODE_OPENAPI_SECONDS (default 8) bounds the time of each of the five runs.
"""
import json
import os
import pathlib
import struct
import subprocess
import sys
import urllib.request

from harness import Home, main, test

VENV = pathlib.Path(sys.argv[2]).resolve() / "openapi/bin"
SEED = os.environ.get("LODE_OPENAPI_SEED", "20261127")
SECONDS = os.environ.get("LODE_OPENAPI_SECONDS", "8")
# What is right to ask for and is not there: no such rows or bytes, or another ETag.
RIGHT = ["2xx", "304", "401", "403", "404", "409", "412", "416", "5xx"]


def tensors(path, shapes):
    """A safetensors file."""
    header, data = {}, b""
    for name, shape in shapes.items():
        size = 2
        for dimension in shape:
            size *= dimension
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += b"".join(bytes([at % 251, 0x3C]) for at in range(size // 2))
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def served(work):
    """A node with a public model and a private one."""
    source = work / "source"
    (source / "sub").mkdir(parents=True)
    tensors(source / "model.safetensors", {"a": [64, 128], "layers.0/b": [8, 32], "scalar": []})
    (source / "config.json").write_text('{"model_type": "llama"}')
    (source / "empty").touch()
    (source / "link.json").symlink_to("config.json")
    (source / "sub" / "naïve 模型.txt").write_text("text\n" * 1000)
    home = Home(work / "home")
    home.lode("push", source, "acme/open", "--tag", "v1", "--public")
    home.lode("push", source, "acme/hidden")
    home.lode("collection", "create", "acme/docs", "--dim", "4", "--metric", "cosine")
    return home.serve()


def get(home, path, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://{home.address}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.read()


def names(home, token=None):
    """What there is, for each name in a path."""
    def ask(path):
        return json.loads(get(home, path, token))

    models = ask("/lode/v1/models")["models"]
    version = next(row["version"] for row in models if row["model"] == "open")
    at = f"/lode/v1/models/acme/open/{version}"
    files = [row["path"] for row in ask(f"{at}/files")["files"]]
    chunks = ask(f"{at}/chunks/model.safetensors")
    variants = ask(f"{at}/variants")["variants"]
    made = [row["name"] for row in variants if "refused" not in row]
    refused = [row["name"] for row in variants if "refused" in row]
    assert made, variants
    return {
        "publisher": ["acme", models[0]["publisher"]],
        "model": [row["model"] for row in models],
        "rev": ["main", "v1", version, version[:12], *(f"main:{name}" for name in made[:2] + refused[:1])],
        "path": files,
        "name": [row["name"] for row in ask(f"{at}/tensors")["tensors"]],
        "hash": [chunks["chunks"][0]["hash"], chunks["seq"], version],
    }


def schemathesis(home, document, work, *arguments, right=RIGHT):
    """Runs it over a document and fails with what it says."""
    (work / "openapi.json").write_text(json.dumps(document))
    (work / "schemathesis.toml").write_text(f"[checks.positive_data_acceptance]\nexpected-statuses = {json.dumps(right)}\n")
    command = [VENV / "st", "--config-file", work / "schemathesis.toml", "run", work / "openapi.json"]
    command += ["--url", f"http://{home.address}", "--checks", "all", "--seed", SEED, "--max-time", SECONDS]
    command += ["--generation-database", "none", "--suppress-health-check", "all", "--no-color", *arguments]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=300)
    print("\n".join(line for line in done.stdout.splitlines() if line.startswith(("Seed", "Test cases", "  "))))
    assert done.returncode == 0, f"seed {SEED}\n{done.stdout[-8000:]}{done.stderr[-2000:]}"
    return done.stdout


def document_of(home, of_collections=False):
    """The document without the routes of single collections, or of these alone: their dimensions and filters are more than a schema says,
    so that what it makes up may rightly be refused."""
    document = json.loads(get(home, "/lode/v1/openapi.json"))
    for path in list(document["paths"]):
        if path.startswith("/lode/v1/collections/") != of_collections:
            del document["paths"][path]
    assert document["paths"]
    return document


def named(document, values):
    """The document with what there is in place of any text, so that requests go deep."""
    document = json.loads(json.dumps(document))
    for item in document["paths"].values():
        for operation in item.values():
            for parameter in operation["parameters"]:
                if parameter["in"] == "path":
                    parameter["schema"] = {"type": "string", "enum": values[parameter["name"]]}
    return document


@test
def any_request_of_the_owner_is_answered_as_the_document_says(work):
    home = served(work)
    document = document_of(home)
    schemathesis(home, document, work)
    home.stop()


@test
def requests_for_what_there_is_are_answered_as_the_document_says(work):
    home = served(work)
    document = document_of(home)
    schemathesis(home, named(document, names(home)), work)
    home.stop()


@test
def requests_for_a_collection_are_answered_as_the_document_says(work):
    home = served(work)
    document = document_of(home, of_collections=True)
    document = named(document, {"collection": ["acme/docs", "docs", "nothing"]})
    # one that is deleted answers nothing more, and one that was made is none of these
    without = ["--exclude-method", "DELETE", "--exclude-method", "PUT"]
    schemathesis(home, document, work, *without, right=["400", "422", *RIGHT])
    home.stop()


@test
def requests_for_any_collection_are_answered_as_the_document_says(work):
    home = served(work)
    schemathesis(home, document_of(home, of_collections=True), work, right=["400", "422", *RIGHT])
    home.stop()


@test
def with_a_token_for_reading_answers_are_those_of_the_document_too(work):
    home = served(work)
    everything = names(home)
    token = home.json("token", "create", "--scope", "read", "--model", "acme/*")["token"]
    document = named(document_of(home), everything)
    schemathesis(home, document, work, "--header", f"Authorization:Bearer {token}")
    home.stop()


@test
def prometheus_reads_every_line_of_the_figures(work):
    home = served(work)
    for _ in range(2):
        get(home, "/lode/v1/models/acme/open/main/files/config.json")
    variant = names(home)["rev"][4]
    get(home, f"/lode/v1/models/acme/open/{variant}/files/model.safetensors")
    page = get(home, "/metrics").decode()
    read = "import sys, json; from prometheus_client.parser import text_string_to_metric_families as parse\n" \
        "print(json.dumps([[f.name, f.type, f.documentation, [[s.name, s.labels, s.value] for s in f.samples]] " \
        "for f in parse(sys.stdin.read())]))"
    done = subprocess.run([VENV / "python", "-c", read], input=page, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    families = json.loads(done.stdout)
    samples = [sample for family in families for sample in family[3]]
    lines = [line for line in page.splitlines() if not line.startswith("#")]
    assert len(samples) == len(lines), (len(samples), len(lines))
    for name, kind, about, rows in families:
        assert kind in ("counter", "gauge") and about and rows, (name, kind, about)
    documented = (pathlib.Path(__file__).resolve().parent.parent / "docs/http.md").read_text()
    for name in {sample[0] for sample in samples}:
        assert f"`{name}" in documented, f"docs/http.md does not explain {name}"
    home.stop()


main(sys.argv[3:])
