"""What a server answers to an SDK, it answers through the proxy: every byte but for ids, times, and the model's name in
messages, and every error as the same exception, its body in OpenAI's envelope."""

import concurrent.futures
import json
import re
import time

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

import servers
from conftest import UPSTREAM

SAID = [{"role": "user", "content": "hi, Zürich"}]
CHAT = {"messages": SAID, "max_tokens": 6, "temperature": 0}
RAW = {"prompt": "hi", "max_tokens": 6, "temperature": 0}
UNKNOWN = {"unknown_to_all": 1.50}
needs = pytest.mark.needs


def plain(text):
    """The text without what differs from answer to answer."""
    text = re.sub(r'("(?:id|item_id|request_id)": ?)"[^"]*"', r'\1"x"', text)
    return re.sub(r'("(?:created|created_at|completed_at)": ?)[\d.]+', r"\g<1>0", text)


def both(clients, ask):
    """The texts of both answers, which come with the same status and type."""
    direct, through = (ask(client) for client in clients)
    assert direct.status_code == through.status_code == 200
    assert direct.headers["content-type"] == through.headers["content-type"]
    return plain(direct.text), plain(through.text)


def same(clients, ask):
    direct, through = both(clients, ask)
    assert through == direct
    assert len(direct) > 20
    return direct


def same_stream(clients, ask):
    """A busy server puts tokens together that it would send one by one, so how the text is cut is left out."""
    direct, through = both(clients, streamed(ask))
    assert folded(through) == folded(direct)
    assert folded(direct)[0]
    return direct


def folded(text):
    """What a stream says all together, and its lines without that, each kind of line once where it stands in a row."""
    cut = r'("(?:content|text|delta)": ?)("(?:[^"\\]|\\.)*")'
    said = "".join(json.loads(match[2]) for match in re.finditer(cut, text))
    lines = [re.sub(r'("sequence_number": ?)\d+', r"\g<1>0", re.sub(cut, r"\1…", line)) for line in text.splitlines() if line]
    # A typed event is two lines.
    lines = [line for place, line in enumerate(lines) if line not in lines[max(place - 2, 0) : place]]
    return said, lines


def chat(**more):
    return lambda client: client.openai.chat.completions.with_raw_response.create(model=client.model, **{**CHAT, **more}).http_response


def completion(**more):
    return lambda client: client.openai.completions.with_raw_response.create(model=client.model, **{**RAW, **more}).http_response


def streamed(ask):
    """The same as a stream, read to its end."""

    def read(client):
        response = ask(client)
        response.read()
        return response

    return read


@needs("chat/completions")
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"seed": 7, "stop": ["zzz"]},
        {"messages": [{"role": "system", "content": "s"}, *SAID, {"role": "assistant", "content": "a"}, *SAID]},
        pytest.param({"messages": [{"role": "user", "content": [{"type": "text", "text": "part"}]}]}, marks=needs("parts")),
        pytest.param({"extra_body": UNKNOWN}, marks=needs("tokenize")),
    ],
)
def test_chat(clients, more):
    answer = json.loads(same(clients, chat(**more)))
    assert answer["usage"]["completion_tokens"] > 0


@needs("chat/completions")
@pytest.mark.parametrize("more", [{}, {"stream_options": {"include_usage": True}}])
def test_chat_stream(clients, more):
    text = same_stream(clients, chat(stream=True, **more))
    assert text.count("data:") > 2


@needs("chat/completions")
def test_stream_helper(clients):
    def text(client):
        with client.openai.chat.completions.stream(model=client.model, **CHAT) as stream:
            return "".join(event.delta for event in stream if event.type == "content.delta")

    direct, through = map(text, clients)
    assert through == direct and direct


@needs("completions")
def test_completion(clients):
    same(clients, completion())
    same_stream(clients, completion(stream=True))


@needs("tokenize")  # vLLM
@needs("completions")
def test_completions_with_what_only_some_have(clients):
    same(clients, chat(logprobs=True, top_logprobs=3, n=2, seed=5, temperature=0.5, logit_bias={"5": -100}))
    same(clients, completion(prompt=["a", "b"], echo=True, logprobs=2))
    same(clients, completion(prompt=[5, 6, 7], extra_body={"top_k": 1, "min_tokens": 2, "ignore_eos": True}))
    same(clients, chat(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": ["a", "b"]}}}))


@needs("responses")
@needs("tokenize")
def test_responses(clients):
    def ask(**more):
        def asked(client):
            create = client.openai.responses.with_raw_response.create
            return create(model=client.model, input="hi, Zürich", max_output_tokens=16, temperature=0, **more).http_response

        return asked

    same(clients, ask())
    text = same_stream(clients, ask(stream=True))
    assert "event: response.completed" in text or "event: response.incomplete" in text


@needs("messages")
def test_messages(clients):
    for path, more in [("messages", {}), ("messages", {"stream": True}), ("messages/count_tokens", {})]:
        body = {"max_tokens": 4, "temperature": 0, "messages": SAID, **more}
        ask = lambda client: client.post(path, body)  # noqa: E731, B023
        (same_stream if "stream" in more else same)(clients, ask)


@needs("tokenize")
def test_tokens(clients):
    text = same(clients, lambda client: client.post("tokenize", {"prompt": "hi, Zürich", "add_special_tokens": False}))
    tokens = json.loads(text)["tokens"]
    text = same(clients, lambda client: client.post("detokenize", {"tokens": tokens}))
    assert json.loads(text)["prompt"] == "hi, Zürich"


@needs("embeddings")
@pytest.mark.parametrize("more", [{}, {"encoding_format": "float"}, {"input": ["a", "b"]}])
def test_embeddings(clients, more):
    def ask(client):
        create = client.openai.embeddings.with_raw_response.create
        return create(model=client.model, **{"input": "hi", **more}).http_response

    same(clients, ask)


@needs("rerank")
def test_rerank_and_score(clients):
    documents = {"query": "a", "documents": ["b", "c"]}
    ranked = json.loads(same(clients, lambda client: client.post("rerank", documents)))
    assert len(ranked["results"]) == 2
    pairs = {"text_1": "a", "text_2": ["b", "c"]}
    assert len(json.loads(same(clients, lambda client: client.post("score", pairs)))["data"]) == 2


@needs("chat/completions")
def test_many_at_a_time(clients):
    """Eight streams of different texts at a time come back each to whom it belongs."""

    def ask(client, number):
        request = chat(stream=True, messages=[{"role": "user", "content": f"number {number}"}])
        return folded(plain(streamed(request)(client).text))

    direct, through = clients
    alone = [ask(direct, number) for number in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda number: ask(through, number), range(8)))
    assert together == alone


WRONG = {
    "temperature": {"temperature": -1},
    "messages": {"messages": "no list"},
    "empty": {"messages": []},
    "too many": {"max_tokens": 10_000_000},
    "type": {"max_tokens": "many"},
    "unknown": {"extra_body": UNKNOWN},
}


def refused(client, **body):
    with pytest.raises(openai.APIStatusError) as caught:
        client.openai.chat.completions.create(**{"model": client.model, **CHAT, **body})
    return caught.value


def said(body):
    """The message of an error of any shape."""
    body = body if isinstance(body, dict) else {}
    detail = body.get("detail")
    if isinstance(detail, list):
        return detail[0]["msg"]
    return detail or body.get("message") or (body.get("error") or {}).get("message")


@needs("chat/completions")
@pytest.mark.parametrize("wrong", WRONG)
def test_errors(clients, wrong):
    direct, through = clients
    try:
        direct.openai.chat.completions.create(**{"model": direct.model, **CHAT, **WRONG[wrong]})
    except openai.APIStatusError as error:
        expected = error
    else:
        pytest.skip("this server takes that")
    error = refused(through, **WRONG[wrong])
    assert (type(error), error.status_code) == (type(expected), expected.status_code)
    envelope = error.response.json()["error"]
    assert list(envelope) == ["message", "type", "param", "code"]
    assert envelope["code"] is None or isinstance(envelope["code"], str)
    print(expected.response.text, "->", error.response.text)
    if message := said(expected.response.json() if "json" in expected.response.headers["content-type"] else None):
        assert message in envelope["message"]


@needs("chat/completions")
def test_unknown_models(clients):
    direct, through = clients
    # Unknown to sconce, known to sconce and unknown to the upstream, and without an upstream.
    error = refused(through, model="nope")
    assert isinstance(error, openai.NotFoundError) and error.code == "model_not_found"
    if UPSTREAM != "llama_cpp":  # which takes every name
        error = refused(through, model="ghost")
        assert error.status_code == refused(direct, model="ghost").status_code
        assert list(error.response.json()["error"]) == ["message", "type", "param", "code"]
    error = refused(through, model="gone")
    assert error.status_code == 503 and error.response.headers["retry-after"] == "1"


@needs("chat/completions")
@needs("tokenize")
def test_a_client_that_leaves_ends_its_request_there(clients):
    direct, through = clients

    def running():
        families = text_string_to_metric_families(httpx.get(f"{direct.url}/metrics").text)
        return sum(sample.value for family in families if family.name == "vllm:num_requests_running" for sample in family.samples)

    long = {**CHAT, "max_tokens": 1900, "extra_body": {"ignore_eos": True}}
    stream = through.openai.chat.completions.create(model=through.model, stream=True, **long)
    next(iter(stream))
    stream.close()
    until = time.monotonic() + 30
    while running():
        assert time.monotonic() < until, "it goes on"
        time.sleep(0.05)


def test_models_are_discovered(upstream):
    url, model = upstream
    listed = httpx.get(f"{url}/v1/models")
    assert listed.status_code == 200
    if model not in (row["id"] for row in listed.json()["data"]):
        pytest.skip("this server does not list the model that it serves")
    with servers.sconce("backend=proxy", f"proxy.base_url={url}/v1", "proxy.discover_interval=1s") as front:
        client = openai.OpenAI(base_url=f"{front}/v1", api_key="none", max_retries=0)
        rows = {row.id: row for row in client.models.list()}
        assert list(rows) == [row["id"] for row in listed.json()["data"]]
        assert rows[model].owned_by == listed.json()["data"][0]["owned_by"]
        assert client.models.retrieve(model).id == model


def test_metrics_are_read_by_prometheus(clients, proxied):
    families = {family.name: family for family in text_string_to_metric_families(httpx.get(f"{proxied}/metrics").text)}
    times = families["sconce_upstream_first_byte_seconds"]
    assert times.type == "histogram"
    counts = {sample.name: sample.value for sample in times.samples if sample.labels["model"] == "tiny"}
    requests = {tuple(sample.labels.items()): sample.value for sample in families["sconce_upstream_requests"].samples}
    assert requests[("model", "tiny"), ("upstream", "default")] >= counts[f"{times.name}_count"]
