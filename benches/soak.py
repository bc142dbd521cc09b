#!/usr/bin/env python3
"""Random traffic against a daemon for some minutes: its memory must come to rest, and nothing may be left over.

    soak.py URL PID [MINUTES]

URL is a daemon that serves one model of the candle backend, without keys; PID is its process. Half of the requests are
streamed, a fifth of those are left in the middle, some share their beginning, some ask for several choices. Every half
minute the resident memory is noted. At the end all blocks of the KV cache must be free, and the last third of the notes must
not lie more than 2 % above the middle third. Needs Python alone.
"""

import http.client
import json
import random
import sys
import threading
import time
import urllib.parse

WORDS = "tell me a story about the small grey cat that went to sea and why is the sky blue hello thanks again".split()
BEGINNINGS = ["", "You are a patient teacher. " * 8, "Answer as a pirate would, at length. " * 6]


def connect(url):
    return http.client.HTTPConnection(url.hostname, url.port, timeout=120)


def body(dice, model):
    words = dice.choices(WORDS, k=dice.randint(1, 60))
    messages = [{"role": "user", "content": " ".join(words)}]
    beginning = dice.choice(BEGINNINGS)
    if beginning:
        messages.insert(0, {"role": "system", "content": beginning})
    return {
        "model": model,
        "messages": messages,
        "max_tokens": dice.randint(1, 120),
        "temperature": dice.choice([0, 0.7, 1.2]),
        "n": dice.choice([1, 1, 1, 2, 4]),
        "stream": dice.random() < 0.5,
    }


def work(url, model, until, seed, counts):
    dice = random.Random(seed)
    while time.time() < until:
        asked = body(dice, model)
        connection = connect(url)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(asked), {"content-type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                counts["refused"] += 1
                answer.read()
            elif asked["stream"] and dice.random() < 0.2:
                answer.read(dice.randint(1, 2000))
                counts["left"] += 1
            else:
                whole = answer.read()
                counts["whole" if not asked["stream"] or whole.endswith(b"data: [DONE]\n\n") else "cut"] += 1
        finally:
            connection.close()


def resident(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def metrics(url):
    connection = connect(url)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    values = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.split("{")[0], line.rsplit(" ", 1)[1]
            values[name] = values.get(name, 0) + int(value)
    return values


def main():
    url, pid = urllib.parse.urlsplit(sys.argv[1]), int(sys.argv[2])
    minutes = float(sys.argv[3]) if len(sys.argv) > 3 else 10
    connection = connect(url)
    connection.request("GET", "/v1/models")
    model = json.load(connection.getresponse())["data"][0]["id"]
    until = time.time() + minutes * 60
    counts = {"whole": 0, "left": 0, "refused": 0, "cut": 0}
    workers = [threading.Thread(target=work, args=(url, model, until, seed, counts)) for seed in range(16)]
    for worker in workers:
        worker.start()
    notes = []
    while time.time() < until:
        time.sleep(min(30, max(0, until - time.time())))
        notes.append(resident(pid))
        print(f"{notes[-1] / 1024:.1f} MiB, {counts}", flush=True)
    for worker in workers:
        worker.join()
    time.sleep(1)
    end = metrics(url)
    third = len(notes) // 3
    middle, last = notes[third : 2 * third], notes[2 * third :]
    print({name: end[name] for name in sorted(end)})
    growth = max(last) / max(middle) - 1
    print(f"resident: {min(notes) / 1024:.1f} to {max(notes) / 1024:.1f} MiB, last third {growth:+.2%} on the middle")
    held = end["sconce_kv_blocks_used"] + end["sconce_sequences_running"] + end["sconce_sequences_waiting"]
    if held or counts["refused"] or counts["cut"] or growth > 0.02:
        sys.exit("the soak failed")


if __name__ == "__main__":
    main()
