"""The reference: what a small OpenAI-compatible server in Python looks like, with sconce's echo for a model.

pydantic models in and out, the key checked by a dependency, a stream as a StreamingResponse of `json.dumps` lines. It
does less than sconce (no request ids, no limits, no log line a request, few fields), and what it does it does in the
cheapest of the usual ways.
"""

import asyncio
import json
import re
import secrets
import time
import uuid
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    api_key: str
    model_id: str = "gpt-oss-20b"
    echo_delay_ms: int = 0


class Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None


class ChatRequest(BaseModel):
    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool = False
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None


class Choice(BaseModel):
    index: int = 0
    message: Message
    finish_reason: Literal["stop", "length"] = "stop"


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatResponse(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


settings = Settings()
app = FastAPI()
bearer = HTTPBearer(auto_error=False)

# Echo's tokens: up to four ASCII characters, ending before white space, or one other character.
TOKEN = re.compile(r"[\x00-\x7f][\x00-\x08\x0b-\x1f!-\x7f]{0,3}|[^\x00-\x7f]")


async def check_key(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
    if given is None or not secrets.compare_digest(given.credentials.encode(), settings.api_key.encode()):
        raise HTTPException(401, "invalid API key")


def last_user_message(request: ChatRequest) -> str:
    return next((m.content or "" for m in reversed(request.messages) if m.role == "user"), "")


async def events(model: str, answer: str):
    head = {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
    }

    def event(delta: dict, finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"

    yield event({"role": "assistant"})
    for piece in TOKEN.findall(answer):
        if settings.echo_delay_ms:
            await asyncio.sleep(settings.echo_delay_ms / 1000)
        yield event({"content": piece})
    yield event({}, "stop")
    yield "data: [DONE]\n\n"


@app.post("/v1/chat/completions", dependencies=[Depends(check_key)], response_model=ChatResponse)
async def chat(request: ChatRequest):
    if request.model != settings.model_id:
        raise HTTPException(404, f"the model '{request.model}' does not exist")
    answer = f"Echo from {request.model}: {last_user_message(request)}"
    if request.stream:
        return StreamingResponse(events(request.model, answer), media_type="text/event-stream")
    # A guess at the count costs next to nothing; sconce counts its tokens.
    prompt = sum(len(m.content or "") for m in request.messages) // 4
    completion = len(answer) // 4
    return ChatResponse(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=request.model,
        choices=[Choice(message=Message(role="assistant", content=answer))],
        usage=Usage(
            prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
        ),
    )
