#!/usr/bin/env python3
"""The parts of swarm.sh: nodes in network namespaces on one bridge, each behind a link that tbf limits.

usage: swarm.py PART WORK TAG    with LODE and MAKE_MODEL set; namespaces are called TAG-.., swarm.sh removes them
Bytes on links are those of the interface counters (headers and acknowledgements included), payload is what `lode status`
counts. A node's memory is its anonymous part, sampled every 50 ms.
"""
import json
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

LODE, MAKE_MODEL = os.environ["LODE"], os.environ["MAKE_MODEL"]
MB = 1_000_000
PART, WORK, TAG = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
RUNS = int(os.environ.get("LODE_SWARM_RUNS", "2"))
MEMORY_BAR = 256


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def ip(*command):
    return run("ip", *command)


class Space:
    """A namespace with one link to the bridge."""

    made = 0

    def __init__(self):
        number = Space.made
        Space.made += 1
        self.name, self.link = f"{TAG}-{number}", f"v{number}"
        self.address = f"10.77.0.{number + 1}"
        ip("netns", "add", self.name)
        ip("link", "add", "e0", "netns", self.name, "type", "veth", "peer", "name", self.link, "netns", f"{TAG}-hub")
        ip("-n", f"{TAG}-hub", "link", "set", self.link, "master", "br0", "up")
        ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", "e0")
        ip("-n", self.name, "link", "set", "lo", "up")
        ip("-n", self.name, "link", "set", "e0", "up")

    def limit(self, up=None, down=None):
        """Bytes a second that leave and that arrive, as the link counts them."""
        for where, device, rate in ((self.name, "e0", up), (f"{TAG}-hub", self.link, down)):
            subprocess.run(["tc", "-n", where, "qdisc", "del", "dev", device, "root"], stderr=subprocess.DEVNULL)
            if rate:
                burst = max(rate // 100, 128 << 10)
                run("tc", "-n", where, "qdisc", "add", "dev", device, "root", "tbf",
                    "rate", f"{rate}bps", "burst", burst, "latency", "50ms")

    def counted(self, way):
        return int(run("ip", "netns", "exec", self.name, "cat", f"/sys/class/net/e0/statistics/{way}_bytes"))

    def sent(self):
        return self.counted("tx")

    def received(self):
        return self.counted("rx")

    def start(self, *command, **options):
        return subprocess.Popen(["ip", "netns", "exec", self.name, *map(str, command)], text=True, **options)


class Node:
    """`lode serve` in a namespace."""

    def __init__(self, space, *options):
        self.space, self.options, self.peak = space, options, 0
        self.home = WORK / f"home{space.name.rsplit('-', 1)[1]}"
        self.process = None

    def serve(self, *options):
        self.options = options or self.options
        log = WORK / f"{self.home.name}.log"
        with open(log, "a") as out:
            before = log.stat().st_size
            self.process = self.space.start(LODE, "--home", self.home, "serve", "--http", "127.0.0.1:0",
                                            "--listen", f"{self.space.address}:0", *self.options, stderr=out)
        while b"ready" not in log.read_bytes()[before:]:
            if self.process.poll() is not None:
                sys.exit(log.read_text())
            time.sleep(0.02)
        threading.Thread(target=self.watch, args=(self.process.pid,), daemon=True).start()
        return self

    def watch(self, pid):
        while True:
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
            except OSError:
                return
            for line in status.splitlines():
                if line.startswith("RssAnon:"):
                    self.peak = max(self.peak, int(line.split()[1]) / 1024)
            time.sleep(0.05)

    def command(self, *command):
        return run(LODE, "--home", self.home, "-q", *command)

    def status(self):
        return json.loads(run(LODE, "--home", self.home, "--json", "status"))

    def payload_sent(self):
        return sum(peer["sent"] for peer in self.status()["peers"])

    def stop(self, sign=signal.SIGTERM):
        if self.process:
            self.process.send_signal(sign)
            self.process.wait()
            self.process = None

    def remove(self):
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)


class Pull:
    """`lode pull` by a node, which keeps what it got."""

    def __init__(self, node, tickets):
        self.node, self.seconds, self.events, self.done, self.code = node, None, [], None, None
        self.start = time.monotonic()
        sources = [word for ticket in tickets for word in ("--from", ticket)]
        self.process = subprocess.Popen(
            [LODE, "--home", str(node.home), "--json", "pull", "bench/model@v1", *sources],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            if event.get("event") == "progress":
                self.events.append(event)
            elif "event" not in event:
                self.done = event
        self.code = self.process.wait()
        self.seconds = time.monotonic() - self.start

    def wait(self):
        self.thread.join()
        if self.code:
            sys.exit(f"{self.node.home.name}: {self.done} {self.process.stderr.read()}")
        return self.done


def bridge():
    ip("-n", f"{TAG}-hub", "link", "set", "lo", "up")
    if "br0" not in ip("-n", f"{TAG}-hub", "link"):
        ip("-n", f"{TAG}-hub", "link", "add", "br0", "type", "bridge")
        ip("-n", f"{TAG}-hub", "link", "set", "br0", "up")


def model(size):
    """A model of so many bytes in one shard: its folder, its file, and the bytes of all files."""
    folder = WORK / "model"
    shutil.rmtree(folder, ignore_errors=True)
    run(MAKE_MODEL, "--size", size, "--shards", 1, folder)
    files = [path for path in folder.iterdir() if path.is_file()]
    return folder, max(files, key=lambda path: path.stat().st_size), sum(path.stat().st_size for path in files)


def publish(node, folder):
    node.command("push", folder, "bench/model", "--in-place", "--public", "--tag", "v1")
    node.serve()
    return node.command("share", "bench/model").strip()


def memory(nodes):
    peak = max(node.peak for node in nodes)
    print(f"\npeak anonymous memory of a node: {peak:.0f} MiB (bar {MEMORY_BAR})\n")


def verdict(what, found, bar, least):
    met = found >= bar if least else found <= bar
    print(f"{what}: {found:.3f} (bar: at {'least' if least else 'most'} {bar}){'' if met else ' MISSED'}")


def dropped(node):
    """What peers of a node's downloads were dropped for."""
    return [peer["dropped"] for peer in node.status()["peers"] if peer.get("dropped")]


def fill(nodes, tickets):
    """Lets nodes get the model over links without limits."""
    pulls = [Pull(node, tickets) for node in nodes]
    for pull in pulls:
        pull.wait()


def three():
    folder, _, size = model("1GiB")
    spaces = [Space() for _ in range(4)]
    providers, receiver = [Node(space) for space in spaces[:3]], Node(spaces[3])
    ticket = publish(providers[0], folder)
    fill([provider.serve() for provider in providers[1:]], [ticket])
    tickets = [ticket] + [node.command("share", "bench/model").strip() for node in providers[1:]]
    print("| three providers, 50 MB/s each | run | seconds | MB/s | MB/s on the receiver's link |\n|---|---|---|---|---|")
    found = {"--max-upload 50MB": [], "tbf on the link": []}
    for number in range(RUNS):
        for label, rates in found.items():
            for provider in providers:
                provider.stop()
                provider.space.limit(50 * MB if label.startswith("tbf") else None)
                provider.serve(*(() if label.startswith("tbf") else ("--max-upload", "50MB")))
            tickets = [node.command("share", "bench/model").strip() for node in providers]
            receiver.serve()
            before = receiver.space.received()
            pull = Pull(receiver, tickets)
            pull.wait()
            wire = receiver.space.received() - before
            rates.append(size / pull.seconds / MB)
            print(f"| {label} | {number + 1} | {pull.seconds:.2f} | {rates[-1]:.1f} | "
                  f"{wire / pull.seconds / MB:.1f} |", flush=True)
            receiver.remove()
    print()
    for label, rates in found.items():
        verdict(f"MB/s together, {label}", statistics.median(rates), 142, least=True)
    memory([*providers, receiver])


SEEDER, OTHERS, LEECHERS = 10 * MB, 100 * MB, 11


def swarm_of(spaces):
    spaces[0].limit(SEEDER, OTHERS)
    for space in spaces[1:]:
        space.limit(OTHERS, OTHERS)


def lode_twelve(spaces, folder, size, limited):
    nodes = [Node(space) for space in spaces]
    if limited:
        nodes[0].options = ("--max-upload", "10MB")
    ticket = publish(nodes[0], folder)
    for node in nodes[1:]:
        node.serve()
    before = spaces[0].sent()
    pulls = [Pull(node, [ticket]) for node in nodes[1:]]
    results = [pull.wait() for pull in pulls]
    seconds = max(pull.seconds for pull in pulls)
    wire, payload = spaces[0].sent() - before, nodes[0].payload_sent()
    fetched = sum(result["size_fetched"] for result in results)
    if os.environ.get("LODE_SWARM_LOG"):
        print("# seconds:", " ".join(f"{pull.seconds:.1f}" for pull in pulls),
              "dropped:", sum((dropped(node) for node in nodes), []))
    for node in nodes:
        node.remove()
    return nodes, (seconds, statistics.median(pull.seconds for pull in pulls), wire / size, payload / size,
                   fetched / size / LEECHERS)


def torrent_twelve(spaces, file, size, kind):
    script = pathlib.Path(__file__).with_name("torrent.py")
    torrent = WORK / "model.torrent"
    run(sys.executable, script, "make", file, torrent)
    nodes = []
    for number, space in enumerate(spaces):
        folder = file.parent if number == 0 else WORK / f"torrent{number}"
        folder.mkdir(exist_ok=True)
        # Each is told of every other one, so that nobody waits for a peer exchange.
        peers = [other.address for other in spaces if other is not space] if number else []
        nodes.append(space.start(sys.executable, script, "node", torrent, folder, space.address,
                                 "plain" if number else kind, *peers,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    for node in nodes:
        assert node.stdout.readline() == "ready\n"
    before = spaces[0].sent()
    for node in nodes:
        node.stdin.write("go\n")
        node.stdin.flush()
    seconds = [float(node.stdout.readline().split()[1]) for node in nodes][1:]
    wire = spaces[0].sent() - before
    for number, node in enumerate(nodes):
        node.kill()
        node.wait()
        if number:
            shutil.rmtree(WORK / f"torrent{number}")
    return max(seconds), statistics.median(seconds), wire / size


def twelve():
    folder, file, size = model("256M")
    ideal = size / SEEDER
    spaces = [Space() for _ in range(LEECHERS + 1)]
    swarm_of(spaces)
    try:
        import libtorrent  # noqa: F401
        torrents = True
    except ImportError:
        torrents = False
    print(f"| twelve nodes, {size / MB:.0f} MB, seeder at 10 MB/s (ideal {ideal:.1f} s) | run | last done, s | median done, s | "
          "seeder's link / model | seeder's payload / model | received / copies |\n|---|---|---|---|---|---|---|")
    kinds = {kind: [] for kind in ("lode", "lode, --max-upload 10MB too", "libtorrent", "libtorrent, super-seeding")}
    every = []
    for number in range(RUNS):
        for kind, rows in kinds.items():
            if kind.startswith("libtorrent"):
                if not torrents:
                    continue
                rows.append(torrent_twelve(spaces, file, size, "super" if "super" in kind else "plain"))
            else:
                nodes, row = lode_twelve(spaces, folder, size, "too" in kind)
                every += nodes
                rows.append(row)
            row = [f"{value:.2f}" for value in rows[-1]] + ["", ""]
            print(f"| {kind} | {number + 1} | {' | '.join(row[:5])} |", flush=True)
    print()
    median = {kind: [statistics.median(column) for column in zip(*rows)] for kind, rows in kinds.items() if rows}
    best = min((row[0] for kind, row in median.items() if kind.startswith("libtorrent")), default=None)
    for kind, row in median.items():
        if kind.startswith("lode"):
            verdict(f"{kind}: bytes on the seeder's link / model", row[2], 1.2, least=False)
            verdict(f"{kind}: time / ideal", row[0] / ideal, 1.35, least=False)
            if best:
                verdict(f"{kind}: time / libtorrent's better one", row[0] / best, 1.0, least=False)
    memory(every)


def killed():
    folder, _, size = model("256M")
    spaces = [Space() for _ in range(LEECHERS + 1)]
    swarm_of(spaces)
    nodes = [Node(space) for space in spaces]
    ticket = publish(nodes[0], folder)
    for node in nodes[1:]:
        node.serve()
    pulls = [Pull(node, [ticket]) for node in nodes[1:]]
    victim, pull = nodes[5], pulls[4]
    before = victim.space.received()
    while not pull.events or pull.events[-1]["done"] < 0.4 * size:
        time.sleep(0.02)
    victim.stop(signal.SIGKILL)
    pull.thread.join()
    # Bytes that were verified when it was last said; more may have come until the kill.
    had = pull.events[-1]["done"]
    victim.serve()
    again = Pull(victim, [ticket])
    for other in pulls:
        if other is not pull:
            other.wait()
    result = again.wait()
    rest = max(other.seconds for other in pulls if other is not pull)
    wire = victim.space.received() - before
    victim.command("verify", "bench/model@v1")
    print("| a leecher of twelve killed at 40 % | |\n|---|---|")
    print(f"| the others were done after | {rest:.1f} s |")
    print(f"| the killed one had, when it last said so | {had / MB:.1f} MB |")
    print(f"| it held when it began again | {result['size_held'] / MB:.1f} MB |")
    print(f"| it fetched after that | {result['size_fetched'] / MB:.1f} MB |")
    print(f"| both lives on its link, headers, proofs and acknowledgements included | {wire / MB:.1f} MB |")
    print(f"| the model | {size / MB:.1f} MB |\n")
    verdict("fetched again at most / (16 MiB a stream of one peer)", (wire - size) / (4 * (16 << 20)), 1.0, least=False)
    verdict("the others: time / ideal", rest / (size / SEEDER), 1.35, least=False)
    memory(nodes)


def damage(node):
    """Other bytes in every group of what a node owns, as its sidecar's size and time have it."""
    for path in node.home.rglob("*"):
        if path.is_file() and path.stat().st_size > 100 * MB:
            times = path.stat()
            with open(path, "r+b") as file:
                for at in range(0, times.st_size, 16 << 10):
                    file.seek(at + 77)
                    old = file.read(1)
                    file.seek(at + 77)
                    file.write(bytes([old[0] ^ 0x55]))
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            return
    sys.exit(f"no container in {node.home}")


def liars():
    folder, _, size = model("512M")
    rate, half = 15 * MB, 4
    spaces = [Space() for _ in range(2 * half + 2)]
    providers = [Node(space) for space in spaces[:2 * half]]
    receivers = [Node(space) for space in spaces[2 * half:]]
    ticket = publish(providers[0], folder)
    fill([provider.serve() for provider in providers[1:]], [ticket])
    honest, lying = providers[:half], providers[half:]
    for node in providers:
        node.stop()
    for node in lying:
        damage(node)
    for node in providers:
        node.space.limit(rate, OTHERS)
        node.serve()
    tickets = {node: node.command("share", "bench/model").strip() for node in providers}
    print(f"| {half} providers of {rate / MB:.0f} MB/s, two receivers | run | seconds | MB/s | liars dropped by each |\n|---|---|---|---|---|")
    found = {"honest": [], "with as many liars": []}
    for number in range(RUNS):
        for kind, rates in found.items():
            of = honest if kind == "honest" else providers
            for node in lying:
                node.stop()
            if of is providers:
                for node in lying:
                    node.serve()
                tickets |= {node: node.command("share", "bench/model").strip() for node in lying}
            for node in receivers:
                node.space.limit(OTHERS, OTHERS)
                node.serve()
            sources = [tickets[node] for node in of]
            random.Random(number).shuffle(sources)
            pulls = [Pull(node, sources) for node in receivers]
            for pull in pulls:
                pull.wait()
            seconds = max(pull.seconds for pull in pulls)
            rates.append(len(pulls) * size / seconds / MB)
            drops = [sum("wrong bytes" in reason for reason in dropped(node)) for node in receivers]
            print(f"| {kind} | {number + 1} | {seconds:.2f} | {rates[-1]:.1f} | {' and '.join(map(str, drops))} |", flush=True)
            for node in receivers:
                node.remove()
    print()
    goodput = {kind: statistics.median(rates) for kind, rates in found.items()}
    verdict("goodput with liars / without", goodput["with as many liars"] / goodput["honest"], 0.9, least=True)
    memory([*providers, *receivers])


print(f"\n## {PART}\n", flush=True)
bridge()
try:
    {"three": three, "twelve": twelve, "killed": killed, "liars": liars}[PART]()
finally:
    for made in range(Space.made):
        name = f"{TAG}-{made}"
        for pid in run("ip", "netns", "pids", name).split():
            os.kill(int(pid), signal.SIGKILL)
        ip("netns", "del", name)
    for home in WORK.glob("home*"):
        shutil.rmtree(home, ignore_errors=True) if home.is_dir() else None
