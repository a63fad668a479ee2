"""lm-eval's own models asked as its tasks ask them; the tasks' data would have to be downloaded."""

import sys

from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

kind, args = sys.argv[1], sys.argv[2]
chat = kind == "local-chat-completions"
import lm_eval.models  # noqa: F401  (registers the models)

model = get_model(kind).create_from_arg_string(args)


def instances(request, *arguments):
    return [Instance(request_type=request, doc={}, arguments=a, idx=i) for i, a in enumerate(arguments)]


question = '[{"role": "user", "content": "3 + 4"}]'
if chat:
    from lm_eval.models.api_models import JsonChatStr

    asked = [(JsonChatStr(question), {"until": ["\n"], "max_gen_toks": 60, "temperature": 0})]
else:
    asked = [("3 + 4 =", {"until": ["\n"], "max_gen_toks": 8, "temperature": 0})]
(answer,) = model.generate_until(instances("generate_until", *asked))
print("answer:", answer)
assert isinstance(answer, str) and (not chat or answer == "3 + 4 = 7"), answer
