"""What a huggingface_hub of any version reads from a node. Runs in that version's environment; see clients_hub.py.

usage: hub_reads.py PLAN.json    (HF_ENDPOINT and HF_HOME are set)

Each check is a function named by the promise that it holds. Prints a line for each, exits 1 when one fails.
"""
import filecmp
import inspect
import json
import pathlib
import subprocess
import sys
import traceback

import huggingface_hub
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError,
)

PLAN = json.loads(pathlib.Path(sys.argv[1]).read_text())
SOURCE = pathlib.Path(PLAN["source"])
COMMIT = PLAN["commit"]
MODEL, GGUF = "acme/tiny", "acme/small-GGUF"
NAMES = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*") if not path.is_dir())
VERSION = huggingface_hub.__version__
# The program beside this interpreter, not one of the same name elsewhere.
HF = str(pathlib.Path(sys.executable).parent / "hf")
api = HfApi()


def raises(error, call, *arguments, **more):
    try:
        call(*arguments, **more)
    except error as found:
        return found
    raise AssertionError(f"{call.__name__} raised no {error.__name__}")


def same(path, name):
    assert filecmp.cmp(path, SOURCE / name, shallow=False), name


def a_description_has_commit_and_all_files():
    info = api.model_info(MODEL, files_metadata=True, securityStatus=True)
    assert info.sha == COMMIT and info.id == MODEL, info
    assert sorted(file.rfilename for file in info.siblings) == NAMES
    sizes = {file.rfilename: file.size for file in info.siblings}
    assert all(sizes[name] == (SOURCE / name).stat().st_size for name in NAMES), sizes
    assert api.model_info(MODEL, revision="v1").sha == COMMIT
    assert api.model_info(MODEL, expand=["sha"]).sha == COMMIT


def files_are_listed_as_trees_and_paths():
    assert sorted(api.list_repo_files(MODEL)) == NAMES
    rows = list(api.list_repo_tree(MODEL, recursive=True, expand=True))
    assert sorted(row.path for row in rows if hasattr(row, "size")) == NAMES
    assert [row.path for row in api.list_repo_tree(MODEL, "onnx")] == ["onnx/naïve 模型.txt"]
    found = api.get_paths_info(MODEL, ["config.json", "onnx", "none"])
    assert sorted(row.path for row in found) == ["config.json", "onnx"]
    assert api.file_exists(MODEL, "config.json") and not api.file_exists(MODEL, "none")
    assert api.repo_exists(MODEL) and not api.repo_exists("acme/none")
    assert api.revision_exists(MODEL, "v1") and not api.revision_exists(MODEL, "v2")


def refs_and_commits_are_listed():
    refs = api.list_repo_refs(MODEL, include_pull_requests=True)
    assert [(ref.name, ref.target_commit) for ref in refs.branches] == [("main", COMMIT)]
    assert [ref.name for ref in refs.tags] == ["v1"]
    commits = api.list_repo_commits(MODEL, formatted=True)
    assert [commit.commit_id for commit in commits] == [COMMIT]
    assert commits[0].title == "the first" and commits[0].formatted_title == "the first"


def models_are_found():
    assert [model.id for model in api.list_models(author="acme", search="tin")] == [MODEL]
    assert not list(api.list_models(author="nobody"))


def a_file_comes_byte_for_byte():
    for name in NAMES:
        same(hf_hub_download(MODEL, name, revision="v1"), name)
    path = hf_hub_download(MODEL, "config.json")
    assert COMMIT in path
    # The second time nothing but a head is asked for, and without the node the copy is used.
    assert hf_hub_download(MODEL, "config.json") == path
    assert hf_hub_download("ACME/Tiny", "config.json")


def a_snapshot_has_all_files_or_the_chosen_ones():
    folder = pathlib.Path(snapshot_download(MODEL))
    assert folder.name == COMMIT
    for name in NAMES:
        same(folder / name, name)
    part = pathlib.Path(snapshot_download(MODEL, allow_patterns=["*.json"], local_dir=PLAN["work"] + "/part"))
    found = sorted(str(path.relative_to(part)) for path in part.rglob("*.*") if ".cache" not in path.parts)
    assert found == [name for name in NAMES if name.endswith(".json")], found


def headers_of_safetensors_are_read_alone():
    metadata = api.get_safetensors_metadata(MODEL)
    assert metadata.sharded and len(metadata.files_metadata) == 2
    shape = metadata.files_metadata["model-00001-of-00002.safetensors"].tensors["model.layers.0.up.weight"].shape
    assert list(shape) == [512, 256]


def a_file_system_lists_and_reads_ranges():
    system = HfFileSystem()
    assert sorted(system.find(MODEL)) == [f"{MODEL}/{name}" for name in NAMES]
    assert system.info(f"{MODEL}/big.dat")["size"] == (SOURCE / "big.dat").stat().st_size
    assert system.glob(f"{MODEL}@v1/*.dat")
    data = (SOURCE / "big.dat").read_bytes()
    with system.open(f"{MODEL}/big.dat", "rb") as file:
        file.seek(7_000_000)
        assert file.read(100_000) == data[7_000_000:7_100_000]
    assert system.read_text(f"{MODEL}/config.json") == (SOURCE / "config.json").read_text()


def what_is_missing_raises_what_programs_expect():
    assert raises(EntryNotFoundError, hf_hub_download, MODEL, "none")
    raises(RevisionNotFoundError, hf_hub_download, MODEL, "config.json", revision="none")
    raises(RevisionNotFoundError, api.model_info, MODEL, revision="refs/pr/1")
    raises(RepositoryNotFoundError, api.model_info, "acme/none")
    raises(RepositoryNotFoundError, hf_hub_download, "nobody/none", "config.json")
    raises(RepositoryNotFoundError, api.dataset_info, MODEL)
    raises(RepositoryNotFoundError, hf_hub_download, MODEL, "config.json", repo_type="dataset")
    raises(RepositoryNotFoundError, hf_hub_download, MODEL, "config.json", repo_type="space")
    raises((EntryNotFoundError, HfHubHTTPError), lambda: list(api.list_repo_tree(MODEL, "none")))


def a_token_says_who_reads_and_without_one_nobody_does():
    raises(Exception, api.whoami)
    # An endpoint of no tokens is its owner's, whatever is shown.
    assert api.whoami(token="hf_" + "x" * 36)["type"] == "user"


def a_variant_is_a_file_or_a_revision():
    files = api.list_repo_files(GGUF)
    assert "small-Q4_K_M.gguf" in files and "small-Q8_0.gguf" in files, files
    path = hf_hub_download(GGUF, "small-Q4_K_M.gguf")
    assert filecmp.cmp(path, PLAN["q4_k_m"], shallow=False)
    folder = pathlib.Path(snapshot_download(MODEL, revision="main--fp8"))
    assert filecmp.cmp(folder / "config.json", pathlib.Path(PLAN["fp8"]) / "config.json", shallow=False)
    # The commit of a variant names it for ever.
    commit = api.model_info(MODEL, revision="v1--fp8").sha
    assert folder.name == commit and api.model_info(MODEL, revision=commit).sha == commit


def the_program_downloads_and_verifies():
    work = PLAN["work"] + "/by-hf"
    done = subprocess.run([HF, "download", MODEL, "--local-dir", work], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        same(pathlib.Path(work) / name, name)
    if int(VERSION.split(".")[0]) >= 1:
        snapshot_download(MODEL)
        done = subprocess.run([HF, "cache", "verify", MODEL], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def transformers_reads_config_and_tokenizer():
    try:
        import transformers
    except ImportError:
        return "no transformers here"
    config = transformers.AutoConfig.from_pretrained("acme/words")
    assert config.hidden_size == 64, config
    tokenizer = transformers.AutoTokenizer.from_pretrained("acme/words")
    assert tokenizer.encode("a b") == [1, 2]


def main():
    failed = 0
    checks = [value for value in globals().values() if inspect.isfunction(value) and value.__module__ == "__main__"]
    for check in checks:
        if check in (main, raises, same):
            continue
        try:
            reason = check()
        except Exception:
            traceback.print_exc()
            failed += 1
            reason = "FAILED"
        print(f"  {check.__name__.replace('_', ' ')} .. {reason or 'ok'}", flush=True)
    sys.exit(bool(failed))


main()
