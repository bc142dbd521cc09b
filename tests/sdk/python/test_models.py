"""The list of models, and requests that name one of several."""

import pytest

from echo import answer
from expected import user
from served import MODEL
from server import Server


@pytest.fixture(scope="module")
def several():
    with Server("--set", 'models."org/name".backend=echo', "--set", "models.second.backend=echo") as server:
        yield server.url


def test_list(client):
    page = client.call(lambda api: api.models.list())
    assert page.object == "list"
    [model] = page.data
    assert (model.id, model.object) == (MODEL, "model")
    assert model.created > 0
    assert model.owned_by


def test_iteration(client):
    assert [model.id for model in client.collect(lambda api: api.models.list())] == [MODEL]


def test_retrieve(client):
    assert client.call(lambda api: api.models.retrieve(MODEL)).id == MODEL


def test_an_id_with_a_slash(connect, several):
    client = connect(several, max_retries=0)
    assert {"org/name", "second"} <= {model.id for model in client.collect(lambda api: api.models.list())}
    assert client.call(lambda api: api.models.retrieve("org/name")).id == "org/name"


def test_the_slash_may_be_left_unescaped(connect, several):
    client = connect(several, max_retries=0)
    for path in ("/models/org/name", "/models/org%2Fname"):
        found = client.call(lambda api, path=path: api.get(path, cast_to=object))
        assert found["id"] == "org/name", path


@pytest.mark.parametrize("model", ["org/name", "second"])
def test_the_named_model_answers(connect, several, model):
    client = connect(several, max_retries=0)
    completion = client.call(lambda api: api.chat.completions.create(model=model, messages=[user("hi")]))
    assert completion.model == model
    assert completion.choices[0].message.content == answer("hi", model)
