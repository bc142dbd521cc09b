"""Many requests at once: each gets its own answer."""

import asyncio

import openai

from expected import user
from served import MODEL, TEXTS, expected


async def test_each_its_own(url):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:

        async def ask(text, stream):
            request = {"model": MODEL, "messages": [user(text)]}
            if not stream:
                return (await client.chat.completions.create(**request)).choices[0].message.content
            chunks = await client.chat.completions.create(**request, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

        found = await asyncio.gather(*(ask(text, stream) for text in TEXTS for stream in (False, True)))
    assert found == [expected(text).text for text in TEXTS for _ in (False, True)]
