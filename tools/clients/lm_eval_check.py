"""lm-eval's own models asked as its tasks ask them; the tasks' data would have to be downloaded, but for ours in `tasks`."""

import sys

import lm_eval
import lm_eval.models  # noqa: F401  (registers the models)
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager

what, kind, args = sys.argv[1:]
model = get_model(kind).create_from_arg_string(args)


def instances(request, *arguments):
    return [Instance(request_type=request, doc={}, arguments=a, idx=i) for i, a in enumerate(arguments)]


def generate():
    if kind == "local-chat-completions":
        from lm_eval.models.api_models import JsonChatStr

        asked = (JsonChatStr('[{"role": "user", "content": "3 + 4"}]'), {"until": ["\n"], "max_gen_toks": 60, "temperature": 0})
    else:
        asked = ("3 + 4 =", {"until": ["\n"], "max_gen_toks": 8, "temperature": 0})
    (answer,) = model.generate_until(instances("generate_until", asked))
    print("answer:", answer)
    assert isinstance(answer, str) and (kind != "local-chat-completions" or answer == "3 + 4 = 7"), answer


def loglikelihood():
    (greedy,) = model.generate_until(instances("generate_until", ("Once upon a", {"until": ["\n"], "max_gen_toks": 4, "temperature": 0})))
    asked = [("Once upon a", greedy), ("Once upon a", " zebra"), ("3 + 4 =", " 7")]
    likely, odd, _ = scores = model.loglikelihood(instances("loglikelihood", *asked))
    print("scores:", scores)
    assert likely[1] and not odd[1] and likely[0] > odd[0], scores
    (rolled,) = model.loglikelihood_rolling(instances("loglikelihood_rolling", ("Once upon a time there was",)))
    assert rolled < 0, rolled


def task():
    results = lm_eval.simple_evaluate(model=model, tasks=["sums"], task_manager=TaskManager(include_path="tasks", include_defaults=False))
    print("accuracy:", results["results"]["sums"]["acc,none"])
    assert results["n-samples"]["sums"]["effective"] == 6 and 0 <= results["results"]["sums"]["acc,none"] <= 1


{"generate": generate, "loglikelihood": loglikelihood, "task": task}[what]()
