"""What unmodified clients do with the native dialect, by Python's standard library alone.

usage: clients.py BASE_URL FOLDER   FOLDER holds the files of acme/tiny@v1 as they were pushed.
"""
import concurrent.futures
import email.parser
import hashlib
import http.client
import json
import pathlib
import random
import socket
import struct
import sys
import urllib.error
import urllib.parse
import urllib.request

base, folder = sys.argv[1], pathlib.Path(sys.argv[2])
host = urllib.parse.urlparse(base).netloc
rev = f"{base}/lode/v1/models/acme/tiny/v1"
path = urllib.parse.urlparse(rev).path
big = (folder / "big.bin").read_bytes()


def get(url, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
        return answer.status, answer.headers, answer.read()


# The list of files is complete, and every file hashes to what the list says.
files = json.loads(get(f"{rev}/files")[2])["files"]
assert [row["path"] for row in files] == sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
for row in files:
    status, headers, body = get(f"{rev}/files/{urllib.parse.quote(row['path'])}")
    assert status == 200 and hashlib.sha256(body).hexdigest() == row["sha256"] == headers["ETag"].strip('"'), row
    assert body == (folder / row["path"]).read_bytes()

# Several ranges are a MIME message.
status, headers, body = get(f"{rev}/files/big.bin", Range="bytes=0-9,1000000-1000099,-5")
message = email.parser.BytesParser().parsebytes(b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body)
parts = [part.get_payload(decode=True) for part in message.get_payload()]
assert status == 206 and parts == [big[:10], big[1000000:1000100], big[-5:]]
assert [part["Content-Range"] for part in message.get_payload()] == [
    f"bytes 0-9/{len(big)}", f"bytes 1000000-1000099/{len(big)}", f"bytes {len(big) - 5}-{len(big) - 1}/{len(big)}"]

# A tensor is the numbers that the file holds at its offset.
row = next(row for row in json.loads(get(f"{rev}/tensors")[2])["tensors"] if row["name"] == "weight")
model = (folder / row["file"]).read_bytes()
size = struct.unpack("<Q", model[:8])[0]
start, end = json.loads(model[8:8 + size])["weight"]["data_offsets"]
status, headers, body = get(f"{rev}/tensors/weight")
assert body == model[8 + size + start:8 + size + end] and row["offset"] == 8 + size + start
assert json.loads(headers["Lode-Shape"]) == row["shape"] and headers["Lode-Dtype"] == row["dtype"]
width = len(body) // row["shape"][0]
assert get(f"{rev}/tensors/weight?rows=3..5")[2] == body[3 * width:5 * width]


# Many clients, each with one connection that it keeps, read at random.
def reader(seed):
    dice, connection = random.Random(seed), http.client.HTTPConnection(host, timeout=30)
    for _ in range(50):
        start = dice.randrange(len(big))
        end = min(len(big), start + dice.choice((1, 1000, 100_000, 1_500_000)))
        connection.request("GET", f"{path}/files/big.bin", headers={"Range": f"bytes={start}-{end - 1}"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 206 and body == big[start:end], (seed, start, end)
    connection.close()
    return 50


with concurrent.futures.ThreadPoolExecutor(16) as pool:
    assert sum(pool.map(reader, range(16))) == 800


# A client that leaves in the middle costs the others nothing, and its connection ends.
def connections():
    page = get(f"{base}/metrics")[2].decode()
    return int(next(line for line in page.splitlines() if line.startswith("lode_http_connections ")).split()[1])


request = f"GET {path}/files/big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
for _ in range(20):
    with socket.create_connection(host.split(":"), timeout=30) as leaver:
        leaver.sendall(request)
        assert leaver.recv(100).startswith(b"HTTP/1.1 200")
for _ in range(1000):
    if connections() <= 1:
        break
else:
    raise AssertionError("connections of clients that left stay open")

# Two requests in one packet are answered in order; the second without a body.
with socket.create_connection(host.split(":"), timeout=30) as pipeline:
    first = f"GET {path}/files/config.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    second = f"HEAD {path}/files/big.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    pipeline.sendall((first + second).encode())
    received = b""
    while more := pipeline.recv(65536):
        received += more
    config = (folder / "config.json").read_bytes()
    assert received.count(b"HTTP/1.1 200 OK") == 2 and config in received
    assert received.endswith(b"\r\n\r\n") and f"content-length: {len(big)}".encode() in received

# Garbage is refused without harm.
for garbage in (b"\0\1\2\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"):
    with socket.create_connection(host.split(":"), timeout=30) as client:
        client.sendall(garbage)
        assert b" 200 " not in client.recv(1000)
try:
    get(f"{rev}/files/none")
    raise AssertionError("a file that does not exist was sent")
except urllib.error.HTTPError as error:
    assert error.code == 404 and json.loads(error.read())["error"]["kind"] == "not_found"
print("ok")
