"""Asks the server at URL for the vectors of all sentences, one by one and together, and compares.

    check.py URL
"""

import base64
import concurrent.futures
import json
import math
import pathlib
import struct
import sys
import time
import urllib.error
import urllib.request

from sentences import sentences

# Half floats cost about 1e-7 of it.
COSINE = 0.9999


def ask(url, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as response:
        return json.load(response)


def ready(url):
    while True:
        try:
            return ask(url, "/health")
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            time.sleep(0.1)


def vectors(url, texts, form="base64"):
    answer = ask(url, "/v1/embeddings", {"model": "minilm", "input": texts, "encoding_format": form})
    assert [row["index"] for row in answer["data"]] == list(range(len(answer["data"])))
    return [row["embedding"] for row in answer["data"]], answer["usage"]["prompt_tokens"]


def floats(coded, kind, size):
    data = base64.b64decode(coded)
    return struct.unpack(f"<{len(data) // size}{kind}", data)


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def main():
    url = sys.argv[1]
    texts = sentences()
    reference = json.loads(pathlib.Path(__file__).with_name("reference.json").read_text())["vectors"]
    assert len(texts) == len(reference) == len(set(texts)) == 200
    ready(url)
    single = [vectors(url, text) for text in texts]
    alone = [made[0] for made, _ in single]
    lengths = [count for _, count in single]
    worst = 1.0
    for text, coded, expected in zip(texts, alone, reference):
        own, other = floats(coded, "f", 4), floats(expected, "e", 2)
        assert len(own) == 384 and abs(math.fsum(x * x for x in own) - 1) < 1e-5, text
        same = cosine(own, other)
        assert same >= COSINE, f"{same} {text!r}"
        worst = min(worst, same)
    print(f"200 vectors of {min(lengths)} to {max(lengths)} tokens, cosine at least {worst:.8f}")

    together, count = vectors(url, texts)
    assert together == alone and count == sum(lengths)
    backwards, _ = vectors(url, texts[::-1])
    assert backwards[::-1] == alone
    with concurrent.futures.ThreadPoolExecutor(16) as crowd:
        parts = [texts[i:i + 7] for i in range(0, len(texts), 7)]
        made = crowd.map(lambda part: vectors(url, part)[0], parts)
        assert [vector for part in made for vector in part] == alone
    numbers, _ = vectors(url, texts[:20], "float")
    assert all(struct.pack("<384f", *vector) == base64.b64decode(coded) for vector, coded in zip(numbers, alone))
    print("the same bytes alone, together, backwards, and in a crowd of requests")


main()
