"""One way to speak to both clients of openai-python, so that each test runs on both."""

import asyncio
import inspect

import openai

KEY = "any-key"  # the server has no keys unless a test gives it some


class SyncApi:
    name = "sync"

    def client(self, url, **options):
        return openai.OpenAI(base_url=f"{url}/v1", **{"api_key": KEY, **options})

    def call(self, request, client):
        return request(client)

    def collect(self, request, client):
        """Every item of a stream."""
        return list(request(client))

    def events(self, request, client):
        """The events of a stream helper, and its final answer."""
        with request(client) as stream:
            return list(stream), stream.get_final_completion()

    def close(self):
        pass


class AsyncApi:
    name = "async"

    def __init__(self):
        # One loop for all calls of a test: the client keeps connections that belong to their loop.
        self.runner = asyncio.Runner()

    def client(self, url, **options):
        return openai.AsyncOpenAI(base_url=f"{url}/v1", **{"api_key": KEY, **options})

    def call(self, request, client):
        async def run():
            found = request(client)
            return await found if inspect.isawaitable(found) else found

        return self.runner.run(run())

    def collect(self, request, client):
        async def run():
            found = request(client)
            stream = await found if inspect.isawaitable(found) else found
            return [item async for item in stream]

        return self.runner.run(run())

    def events(self, request, client):
        async def run():
            async with request(client) as stream:
                return [event async for event in stream], await stream.get_final_completion()

        return self.runner.run(run())

    def close(self):
        self.runner.close()


class Bound:
    """A client with the server it speaks to."""

    def __init__(self, api, url, **options):
        self.api = api
        self.url = url
        self.client = api.client(url, **options)

    def with_options(self, **options):
        return Bound(self.api, self.url, **options)

    def call(self, request):
        return self.api.call(request, self.client)

    def collect(self, request):
        return self.api.collect(request, self.client)

    def events(self, request):
        return self.api.events(request, self.client)

    def close(self):
        self.api.call(lambda client: client.close(), self.client)
