"""What the scripts of real clients share: homes with their nodes, and tests named by the promises that they hold.

The first argument of a script is the path of `lode`.
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

LODE = pathlib.Path(sys.argv[1]).resolve()
TESTS = []
RUNNING = []


def test(function):
    TESTS.append(function)
    return function


def write_gguf(path):
    """Writes a model of two layers of F16."""
    import gguf  # not every client's environment has them
    import numpy

    writer = gguf.GGUFWriter(path, "llama")
    weights = numpy.random.default_rng(2).standard_normal((512, 512)).astype(numpy.float16)
    for layer in range(2):
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Home:
    """One home and, once served, its node: `address` is HOST:PORT."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {**os.environ, "LODE_HOME": str(folder), "LODE_OFFLINE": "1", "LODE_LOG": "warn"}
        self.process = self.address = None

    def lode(self, *arguments, code=0):
        command = [LODE, *map(str, arguments)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, (
            f"lode {' '.join(map(str, arguments))}: exit {done.returncode}, expected {code}\n{done.stdout}{done.stderr}"
        )
        return done.stdout.strip()

    def json(self, *arguments):
        return json.loads(self.lode("--json", *arguments).splitlines()[-1])

    def serve(self, *options):
        log = open(self.folder.parent / f"{self.folder.name}.log", "ab")
        command = [LODE, "serve", "--http", "127.0.0.1:0", "--listen", "127.0.0.1:0", *options]
        self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        RUNNING.append(self.process)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"serve ended: {pathlib.Path(log.name).read_text()}")
            if (self.folder / "control.sock").exists():
                try:
                    self.address = self.json("status").get("http")
                except AssertionError:
                    self.address = None
                if self.address:
                    return self
            time.sleep(0.05)
        raise AssertionError("serve did not come up")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(timeout=30) == 0, "serve must end cleanly on SIGTERM"


def main(only):
    """Runs the tests, or `only` those, and ends the process. A test returns why it was skipped, or nothing."""
    passed = failed = skipped = 0
    for function in TESTS:
        if only and function.__name__ not in only:
            continue
        work = pathlib.Path(tempfile.mkdtemp(prefix="lode-clients-"))
        started = time.monotonic()
        try:
            reason = function(work)
        except Exception:
            traceback.print_exc()
            for log in sorted(work.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-4000:]}", file=sys.stderr)
            failed += 1
            verdict = "FAILED"
        else:
            skipped += bool(reason)
            passed += not reason
            verdict = f"SKIPPED: {reason}" if reason else "ok"
        finally:
            for process in RUNNING:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            RUNNING.clear()
            shutil.rmtree(work, ignore_errors=True)
        print(f"{function.__name__.replace('_', ' ')} .. {verdict} ({time.monotonic() - started:.1f} s)", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(bool(failed))
