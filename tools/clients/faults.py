"""What clients and the world do wrong, against the real program with `mini`. After each fault another request must be answered
rightly, and nothing of the fault may still be running."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

program = sys.argv[1]
MINI = pathlib.Path(__file__).resolve().parents[2] / "crates/facade/assets/mini.gguf"
SUM = {"model": "mini", "messages": [{"role": "user", "content": "3 + 4"}], "temperature": 0}
LONG = {"model": "mini", "prompt": "x", "max_tokens": 20000, "ignore_eos": True, "stream": True}
failed = 0


def start():
    server = subprocess.Popen([program, "serve", "mini", "--port", "0", "--log", "off", "--grace", "2"], stderr=subprocess.PIPE, text=True)
    address = server.stderr.readline().split("//")[1].strip()
    host, port = address.rsplit(":", 1)
    return server, (host, int(port))


server, where = start()


def post(path, body, timeout=60):
    request = urllib.request.Request(f"http://{where[0]}:{where[1]}{path}", json.dumps(body).encode())
    return urllib.request.urlopen(request, timeout=timeout).read().decode()


def raw(path, body):
    data = json.dumps(body).encode()
    connection = socket.create_connection(where)
    connection.sendall(f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
    return connection


def running():
    text = urllib.request.urlopen(f"http://{where[0]}:{where[1]}/metrics").read().decode()
    line = next(l for l in text.splitlines() if l.startswith("vllm:num_requests_running"))
    return float(line.split()[-1])


def healthy():
    answer = json.loads(post("/v1/chat/completions", SUM))
    assert answer["choices"][0]["message"]["content"] == "3 + 4 = 7", answer
    for _ in range(100):
        if running() == 0:
            return
        time.sleep(0.1)
    raise AssertionError("something is still running")


def check(what, run):
    global failed
    try:
        detail = run() or ""
        healthy()
        print(f"| {what} | ok {detail}|", flush=True)
    except Exception as error:
        failed += 1
        print(f"| {what} | FAILED: {error!r} |", flush=True)


def killed_clients():
    code = ("import socket,json,sys;d=json.dumps(%r).encode();s=socket.create_connection(%r);"
            "s.sendall(b'POST /v1/completions HTTP/1.1\\r\\nhost: localhost\\r\\ncontent-length: %%d\\r\\n\\r\\n'%%len(d)+d);s.recv(999);print(1,flush=True);s.recv(1);"
            "import time;time.sleep(99)") % (LONG, where)
    code = code.replace("True", "True")
    children = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(8)]
    for child in children:
        child.stdout.readline()
        child.kill()
        child.wait()


def half_open():
    idle = [socket.create_connection(where) for _ in range(50)]
    half = []
    for connection in (socket.create_connection(where) for _ in range(50)):
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
        half.append(connection)
    healthy()
    for connection in idle + half:
        connection.close()


def slow_readers():
    readers = [raw("/v1/completions", LONG | {"max_tokens": 3000, "logprobs": 5}) for _ in range(8)]
    begun = time.monotonic()
    answer = json.loads(post("/v1/chat/completions", SUM))
    assert answer["choices"][0]["message"]["content"] == "3 + 4 = 7"
    took = time.monotonic() - begun
    for reader in readers:
        reader.close()
    return f"(another answer beside 8 of them after {took:.1f} s) "


def garbage():
    for data in [b"\x00\xff\xfe garbage\r\n\r\n", b"GET /" + b"a" * 100000, b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
                 b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzzz\r\n", b"\r\n" * 1000]:
        connection = socket.create_connection(where)
        connection.settimeout(10)
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
        except OSError:
            pass
    for body in ["[" * 100000, '{"messages": ' + "[" * 5000, '{"a":1e999}', '"x"', "", "\ud83d".encode("utf-8", "surrogatepass").decode("latin-1")]:
        request = urllib.request.Request(f"http://{where[0]}:{where[1]}/v1/chat/completions", body.encode("utf-8", "replace"), method="POST")
        try:
            urllib.request.urlopen(request, timeout=30)
            raise AssertionError("garbage was taken")
        except urllib.error.HTTPError as error:
            assert error.code == 400, error.code


def large_body():
    connection = socket.create_connection(where)
    size = 100 << 20
    connection.sendall(f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {size}\r\n\r\n".encode())
    try:
        for _ in range(100):
            connection.sendall(b"x" * (1 << 20))
    except OSError:
        pass
    connection.settimeout(20)
    assert b" 413 " in connection.recv(4096)[:20]
    with open(f"/proc/{server.pid}/status") as f:
        peak = next(int(l.split()[1]) // 1024 for l in f if l.startswith("VmHWM"))
    return f"(413; peak of the server {peak} MiB) "


def terminated():
    global server
    told, lock = [], threading.Lock()

    def reader():
        connection = raw("/v1/completions", LONG)
        text = b""
        while data := connection.recv(65536):
            text += data
        with lock:
            told.append(b"shutting_down" in text or b"[DONE]" in text)

    threads = [threading.Thread(target=reader) for _ in range(16)]
    for thread in threads:
        thread.start()
    time.sleep(1.5)
    begun = time.monotonic()
    server.send_signal(signal.SIGTERM)
    code = server.wait(timeout=30)
    for thread in threads:
        thread.join(timeout=10)
    took = time.monotonic() - begun
    assert code == 0 and told == [True] * 16, (code, told)
    globals()["server"], globals()["where"] = start()
    return f"(16 streams all finished or told; ended with 0 after {took:.1f} s) "


class Other:
    """A server of its own, for faults that are about how a server is started."""

    def __init__(self, *flags, stderr):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.base = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([program, "serve", *flags, "--port", str(port), "--grace", "2"], stderr=stderr)
        for _ in range(200):
            try:
                urllib.request.urlopen(self.base + "/health", timeout=5)
                return
            except OSError:
                assert self.process.poll() is None, f"it ended with {self.process.returncode}"
                time.sleep(0.1)
        raise AssertionError("it does not get ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def post(self, path, body):
        """Status and text."""
        request = urllib.request.Request(self.base + path, json.dumps(body).encode())
        try:
            return 200, urllib.request.urlopen(request, timeout=60).read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def sum(self, model="mini"):
        status, text = self.post("/v1/chat/completions", SUM | {"model": model})
        assert status == 200 and "3 + 4 = 7" in text, (status, text)


def lost_file():
    with tempfile.TemporaryDirectory() as folder:
        for how in ["truncated", "deleted"]:
            file = pathlib.Path(folder) / f"{how}.gguf"
            shutil.copy(MINI, file)
            with Other(f"file={file}", "mini", "--log", "off", stderr=subprocess.DEVNULL) as other:
                other.sum("file")
                if how == "truncated":
                    os.truncate(file, 1000)
                else:
                    file.unlink()
                other.sum("file")
                status, text = other.post("/v1/embeddings", {"model": "file", "input": "x"})
                assert status == 200, (status, text)
                # Out of memory, it cannot be loaded again, and says why; the others go on.
                assert other.post("/api/chat", {"model": "file", "messages": [], "keep_alive": 0})[0] == 200
                time.sleep(2.5)
                status, text = other.post("/v1/chat/completions", SUM | {"model": "file"})
                assert status >= 500 and str(file) in text, (status, text)
                other.sum()
    return "(served from memory; once unloaded, an error that names the file, and the other model answers) "


def shortened_while_loading():
    """Cuts the file at other moments of its loading, from the first byte of the request to after the answer. The longer a
    model loads, the more there is to hit: give one as the second argument."""
    refused = 0
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "cut.gguf"
        whole = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else MINI
        shutil.copy(whole, file)
        rounds = 8 if len(sys.argv) > 2 else 40
        with Other(f"cut={file}", "mini", "--lazy", "--log", "off", stderr=subprocess.DEVNULL) as other:
            ask = {"model": "cut", "prompt": "x", "max_tokens": 1}
            begun = time.monotonic()
            status, text = other.post("/v1/completions", ask)
            assert status == 200, (status, text)
            takes = time.monotonic() - begun
            for turn in range(rounds):
                assert other.post("/api/chat", {"model": "cut", "messages": [], "keep_alive": 0})[0] == 200
                while "cut" in [m["name"].split(":")[0] for m in json.loads(urllib.request.urlopen(other.base + "/api/ps").read())["models"]]:
                    time.sleep(0.1)
                cutter = threading.Timer(takes * turn / rounds, lambda: os.truncate(file, whole.stat().st_size // 3))
                cutter.start()
                status, text = other.post("/v1/completions", ask)
                cutter.join()
                assert status == 200 or (status >= 500 and str(file) in text), (status, text)
                refused += status != 200
                other.sum()
                replacement = pathlib.Path(folder) / "next.gguf"
                shutil.copy(whole, replacement)
                replacement.rename(file)
    return f"({rounds} times at other moments; {refused} refused with the file's name, the others were loaded by then) "


def full_log():
    with open("/dev/full", "w") as full, Other("mini", stderr=full) as other:
        for _ in range(20):
            other.sum()


def unread_log():
    read, write = os.pipe()
    with Other("mini", stderr=write) as other:
        os.close(write)
        for _ in range(2000):
            urllib.request.urlopen(other.base + "/api/version", timeout=5).read()
        other.sum()
    os.close(read)
    return "(2,000 requests, which is more than the pipe holds) "


print("| fault | outcome |\n|---|---|")
check("8 clients killed (SIGKILL) mid-stream", killed_clients)
check("50 idle and 50 half-sent connections", half_open)
check("8 readers that read nothing", slow_readers)
check("garbage on the socket and in bodies", garbage)
check("a body of 100 MB", large_body)
check("the model's file truncated, and deleted, while it is served", lost_file)
check("the model's file truncated while it is loaded", shortened_while_loading)
check("a log on a full disk (/dev/full)", full_log)
check("a log that nobody reads", unread_log)
check("SIGTERM with 16 streams under way", terminated)
server.kill()
sys.exit(failed > 0)
