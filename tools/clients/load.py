"""256 connections, 1,000 requests: none lost, none wrong. Answers are compared with those that came alone."""

import asyncio
import json
import sys
import time
from urllib.parse import urlparse

url = urlparse(sys.argv[1])
CONNECTIONS, REQUESTS = 256, 1000
QUESTIONS = [f"{a} + {b}" for a in range(10) for b in range(10)] + ["What is the capital of France?", "Tell me a story", "hello"]


def body(question, stream):
    return json.dumps({"model": "mini", "messages": [{"role": "user", "content": question}], "temperature": 0.8, "seed": 5,
                       "max_tokens": 24, "stream": stream}).encode()


async def read_body(reader, headers):
    if headers.get("transfer-encoding") == "chunked":
        parts = []
        while (size := int((await reader.readline()).strip(), 16)) > 0:
            parts.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        return b"".join(parts)
    return await reader.readexactly(int(headers["content-length"]))


class Connection:
    async def open(self):
        self.reader, self.writer = await asyncio.open_connection(url.hostname, url.port)

    async def ask(self, question, stream):
        data = body(question, stream)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n\r\n"
        self.writer.write(head.encode() + data)
        status = int((await self.reader.readline()).split()[1])
        headers = {}
        while line := (await self.reader.readline()).strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        text = (await read_body(self.reader, headers)).decode()
        if status != 200:
            return status, text, headers
        if not stream:
            return 200, json.loads(text)["choices"][0]["message"]["content"], headers
        assert text.endswith("data: [DONE]\n\n"), text[-200:]
        chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        return 200, "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks), headers


def resident(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) // 1024 for line in f if line.startswith("VmRSS"))


async def main():
    alone, one = {}, Connection()
    await one.open()
    for question in QUESTIONS:
        status, alone[question], _ = await one.ask(question, False)
        assert status == 200, alone[question]
    pid = sys.argv[2] if len(sys.argv) > 2 else None
    before = resident(pid) if pid else 0
    todo = asyncio.Queue()
    for i in range(REQUESTS):
        todo.put_nowait(i)
    wrong, retries, times = [], 0, []

    async def work():
        nonlocal retries
        connection = Connection()
        await connection.open()
        while not todo.empty():
            i = todo.get_nowait()
            question, begun = QUESTIONS[i % len(QUESTIONS)], time.monotonic()
            while True:
                status, text, headers = await connection.ask(question, i % 2 == 0)
                if status != 429:
                    break
                retries += 1
                await asyncio.sleep(float(headers["retry-after"]))
            times.append(time.monotonic() - begun)
            if status != 200 or text != alone[question]:
                wrong.append((question, status, text, alone[question]))

    begun = time.monotonic()
    outcomes = await asyncio.gather(*(work() for _ in range(CONNECTIONS)), return_exceptions=True)
    lost = [o for o in outcomes if o is not None]
    seconds = time.monotonic() - begun
    times.sort()
    print(f"{REQUESTS} requests over {CONNECTIONS} connections in {seconds:.1f} s: {len(times)} answered, {len(wrong)} wrong, "
          f"{len(lost)} connections lost, {retries} asked to come again; median {times[len(times) // 2]:.2f} s, slowest {times[-1]:.2f} s")
    if pid:
        print(f"resident before {before} MiB, after {resident(pid)} MiB")
    for item in wrong[:3] + lost[:3]:
        print(item)
    sys.exit(1 if wrong or lost or len(times) != REQUESTS else 0)


asyncio.run(main())
