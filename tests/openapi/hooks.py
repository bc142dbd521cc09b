"""What Schemathesis has to be told about the document, and a check of our own."""

import schemathesis
from schemathesis.generation import GenerationMode

DONE = {"enum": ["[DONE]"]}


@schemathesis.hook
def before_load_schema(context, document):
    """Says of each event stream what OpenAPI 3.0 has no words for.

    The document gives the JSON in an event's `data`, as OpenAI's own document does. Schemathesis looks at events as
    OpenAPI 3.2 describes them, `data` being a string with content: so each stream gets that schema here, and every
    event of every answer is held against the document. The last one, `[DONE]`, is no JSON.
    """
    for operation in operations(document):
        for response in operation["responses"].values():
            stream = response.get("content", {}).get("text/event-stream")
            if stream:
                stream["schema"] = event(stream["schema"])


def operations(document):
    return [operation for item in document["paths"].values() for operation in item.values() if "responses" in operation]


def event(chunk):
    if chunk.get("type") == "array":  # poem-openapi writes a stream as an array of what it carries
        chunk = chunk["items"]
    payload = {"type": "string", "contentMediaType": "application/json", "contentSchema": chunk}
    return {"type": "object", "required": ["data"], "properties": {"data": {"anyOf": [DONE, payload]}}}


@schemathesis.check
def refusal_names_its_field(context, response, case):
    """A request that fits the schema may be refused only with the name of the field that is to blame."""
    fits = case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE
    if fits and response.status_code == 400:
        assert response.json()["error"]["param"], f"refused without a param: {response.text}"
