"""operations.py typescript|python DOCUMENT FOLDER

Proves that a generated client has every operation of the document.
typescript: writes FOLDER/uses.ts, which the compiler accepts only if FOLDER/schema.ts has them all.
python:     imports every module of the package FOLDER/client and finds each operation's among them.
"""

import importlib
import json
import pathlib
import pkgutil
import re
import sys

METHODS = {"get", "put", "post", "delete", "patch", "head", "options", "trace"}


def operations(document):
    """(path, method, operation id) of each; an operation without an id is an error."""
    return [
        (path, method, operation["operationId"])
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def typescript(found, folder):
    lines = ['import type { operations, paths } from "./schema";']
    for number, (path, method, name) in enumerate(found):
        lines.append(f"export type Operation{number} = operations[{json.dumps(name)}];")
        lines.append(f"export type Path{number} = NonNullable<paths[{json.dumps(path)}][{json.dumps(method)}]>;")
    # If everything were allowed the lines above would prove nothing.
    lines.append("// @ts-expect-error there is no such operation")
    lines.append('export type None = operations["noSuchOperation"];')
    (folder / "uses.ts").write_text("\n".join(lines) + "\n")


def python(found, folder):
    sys.path.insert(0, str(folder))
    client = importlib.import_module("client")
    modules = {}
    for entry in pkgutil.walk_packages(client.__path__, "client."):
        modules[entry.name.rpartition(".")[2]] = importlib.import_module(entry.name)
    for _, _, name in found:
        module = modules.get(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())
        if not (hasattr(module, "sync_detailed") and hasattr(module, "asyncio_detailed")):
            sys.exit(f"the Python client lacks {name}")


kind, document, folder = sys.argv[1:]
found = operations(json.loads(pathlib.Path(document).read_text()))
if not found:
    sys.exit("the document has no operations")
{"typescript": typescript, "python": python}[kind](found, pathlib.Path(folder))
print(f"{kind}: {len(found)} operations")
