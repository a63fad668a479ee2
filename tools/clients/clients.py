"""What programs do with the official Python clients, against a server with `mini`."""

import json
import sys
import traceback
from importlib.metadata import version
from typing import Annotated

from pydantic import BaseModel, Field

base = sys.argv[1]
SUM = [{"role": "user", "content": "3 + 4"}]
STORY = [{"role": "user", "content": "What is the capital of France?"}]
ADD = {
    "name": "add",
    "description": "Adds two numbers.",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}, "b": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
}
failed = 0


class Answer(BaseModel):
    number: Annotated[int, Field(ge=0, le=99)]
    sure: bool


def check(client, what, run):
    global failed
    try:
        run()
        print(f"| {client} {version(client)} | {what} | ok |", flush=True)
    except Exception as error:  # every check is reported
        failed += 1
        traceback.print_exc()
        print(f"| {client} {version(client)} | {what} | FAILED: {error!r} |", flush=True)


def openai_checks():
    import openai

    client = openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0)

    def chat():
        r = client.chat.completions.create(model="mini", messages=SUM, temperature=0, logprobs=True, top_logprobs=2)
        assert r.choices[0].message.content == "3 + 4 = 7" and r.choices[0].finish_reason == "stop"
        assert r.choices[0].logprobs.content[-1].top_logprobs[0].token == "7"
        assert r.usage.completion_tokens == 40 and r.usage.prompt_tokens_details.cached_tokens >= 0

    def stream():
        whole = client.chat.completions.create(model="mini", messages=STORY, temperature=0, max_tokens=24)
        chunks = list(client.chat.completions.create(
            model="mini", messages=STORY, temperature=0, max_tokens=24, stream=True, stream_options={"include_usage": True}))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == whole.choices[0].message.content and chunks[-1].usage.total_tokens == whole.usage.total_tokens

    def completions():
        r = client.completions.create(model="mini", prompt=["Once", "3 + 4"], max_tokens=4, n=2, logprobs=1, seed=1)
        assert len(r.choices) == 4 and len(r.choices[0].logprobs.tokens) <= 4

    def scored():
        r = client.completions.create(model="mini", prompt="3 + 4 =", max_tokens=0, echo=True, logprobs=1)
        scores = r.choices[0].logprobs
        assert "".join(scores.tokens) == r.choices[0].text == "3 + 4 =" and scores.token_logprobs[0] is None

    def shaped():
        for effort in ["none", "medium"]:
            r = client.chat.completions.parse(model="mini", messages=SUM, temperature=0, response_format=Answer, reasoning_effort=effort)
            assert isinstance(r.choices[0].message.parsed, Answer), r
            with client.chat.completions.stream(model="mini", messages=SUM, temperature=0, response_format=Answer, reasoning_effort=effort) as s:
                assert s.get_final_completion().choices[0].message.parsed == r.choices[0].message.parsed
            r = client.responses.parse(model="mini", input="3 + 4", temperature=0, text_format=Answer, reasoning={"effort": effort})
            assert isinstance(r.output_parsed, Answer), r

    def tools():
        tools = [{"type": "function", "function": ADD | {"strict": True}}]
        for choice in ["required", {"type": "function", "function": {"name": "add"}}]:
            ask = dict(model="mini", messages=SUM, temperature=0, tools=tools, tool_choice=choice, parallel_tool_calls=False, logprobs=True)
            r = client.chat.completions.create(**ask)
            (call,) = r.choices[0].message.tool_calls
            assert set(json.loads(call.function.arguments)) == {"a", "b"} and r.choices[0].finish_reason == "tool_calls"
            chunks = [c.choices[0].delta.tool_calls[0] for c in client.chat.completions.create(**ask, stream=True) if c.choices and c.choices[0].delta.tool_calls]
            assert "".join(c.function.arguments or "" for c in chunks) == call.function.arguments
            result = {"role": "tool", "tool_call_id": call.id, "content": "7"}
            r = client.chat.completions.create(model="mini", messages=SUM + [r.choices[0].message.model_dump(exclude_none=True), result], tools=tools, max_tokens=40)
            assert r.usage.prompt_tokens > 10
        flat = [{"type": "function"} | ADD]
        r = client.responses.create(model="mini", input="3 + 4", temperature=0, tools=flat, tool_choice="required", parallel_tool_calls=False)
        call = r.output[-1]
        assert call.type == "function_call" and set(json.loads(call.arguments)) == {"a", "b"}
        with client.responses.stream(model="mini", input="3 + 4", temperature=0, tools=flat, tool_choice="required", parallel_tool_calls=False) as s:
            assert s.get_final_response().output[-1].arguments == call.arguments
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "7"}
        items = [{"role": "user", "content": "3 + 4"}, *[item.model_dump(exclude_none=True) for item in r.output], output]
        assert client.responses.create(model="mini", input=items, tools=flat, max_output_tokens=40).usage.output_tokens > 0

    def responses():
        r = client.responses.create(model="mini", input="3 + 4", temperature=0)
        assert r.output_text == "3 + 4 = 7" and r.status == "completed"
        events = list(client.responses.create(model="mini", input="3 + 4", temperature=0, stream=True))
        assert events[-1].type == "response.completed" and events[-1].response.output_text == "3 + 4 = 7"
        with client.responses.stream(model="mini", input="3 + 4", temperature=0) as s:
            assert s.get_final_response().output_text == "3 + 4 = 7"

    def stateless():
        ask = dict(model="mini", temperature=0, store=False, include=["reasoning.encrypted_content"], metadata={"a": "b"})
        r = client.responses.create(input="3 + 4", **ask)
        thought = r.output[0]
        assert thought.type == "reasoning" and thought.encrypted_content and r.metadata == {"a": "b"}
        back = {"type": "reasoning", "id": thought.id, "summary": [], "encrypted_content": thought.encrypted_content}
        items = [{"role": "user", "content": "3 + 4"}, back, {"role": "assistant", "content": r.output_text}, {"role": "user", "content": "5 + 4"}]
        assert client.responses.create(input=items, **ask).output_text

    def embeddings():
        r = client.embeddings.create(model="mini", input=["a", "b"])
        assert len(r.data) == 2 and abs(sum(x * x for x in r.data[0].embedding) - 1) < 1e-3

    def models():
        assert [m.id for m in client.models.list()] == ["mini"] and client.models.retrieve("mini").id == "mini"

    def errors():
        for run, kind in [
            (lambda: client.chat.completions.create(model="maxi", messages=SUM), openai.NotFoundError),
            (lambda: client.chat.completions.create(model="mini", messages=SUM, extra_body={"colour": 1}), openai.BadRequestError),
        ]:
            try:
                run()
                raise AssertionError("was not refused")
            except kind as error:
                assert error.body["message"] and error.code

    for name, run in [("chat, logprobs, usage", chat), ("chat, streamed", stream), ("completions", completions), ("completions: echo and logprobs of a prompt", scored),
                      ("parse: schemas, whole and streamed, with and without thinking", shaped), ("tools: required, named, streamed, results", tools),
                      ("responses, whole and streamed", responses), ("responses: reasoning sent back, metadata", stateless),
                      ("embeddings (base64)", embeddings), ("models", models), ("errors", errors)]:
        check("openai", name, run)


def anthropic_checks():
    import anthropic

    client = anthropic.Anthropic(base_url=base, api_key="none", max_retries=0)

    def message():
        r = client.messages.create(model="mini", max_tokens=60, messages=SUM, extra_body={"temperature": 0})
        thought, text = r.content
        assert thought.type == "thinking" and text.text == "3 + 4 = 7"
        assert r.stop_reason == "end_turn" and r.usage.output_tokens == 40

    def stream():
        with client.messages.stream(model="mini", max_tokens=24, messages=STORY, extra_body={"temperature": 0}) as s:
            text = "".join(s.text_stream)
            final = s.get_final_message()
        assert text == final.content[0].text and final.usage.output_tokens > 1

    def tools():
        tools = [{"name": "add", "description": "Adds.", "input_schema": ADD["parameters"]}]
        for choice in [{"type": "any", "disable_parallel_tool_use": True}, {"type": "tool", "name": "add"}]:
            ask = dict(model="mini", max_tokens=300, messages=SUM, tools=tools, tool_choice=choice, extra_body={"temperature": 0})
            r = client.messages.create(**ask)
            block = r.content[-1]
            assert r.stop_reason == "tool_use" and set(block.input) == {"a", "b"}
            with client.messages.stream(**ask) as s:
                assert s.get_final_message().content[-1].input == block.input
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block.id, "content": "7"}]}
        r = client.messages.create(model="mini", max_tokens=40, messages=SUM + [{"role": "assistant", "content": [block.model_dump()]}, result], tools=tools)
        assert r.usage.output_tokens > 0

    def thinking():
        r = client.messages.create(model="mini", max_tokens=100, messages=SUM, thinking={"type": "enabled", "budget_tokens": 5}, extra_body={"temperature": 0})
        whole = client.messages.create(model="mini", max_tokens=100, messages=SUM, extra_body={"temperature": 0})
        assert whole.content[0].thinking.startswith(r.content[0].thinking) and len(r.content[0].thinking) < len(whole.content[0].thinking)

    def count():
        assert client.messages.count_tokens(model="mini", messages=SUM).input_tokens > 3

    def models():
        assert [m.id for m in client.models.list()] == ["mini"] and client.models.retrieve("mini").display_name == "mini"

    def errors():
        try:
            client.messages.create(model="maxi", max_tokens=1, messages=SUM)
            raise AssertionError("was not refused")
        except anthropic.NotFoundError as error:
            assert error.body["error"]["type"] == "not_found_error"

    for name, run in [("messages", message), ("messages, streamed", stream), ("tools: any, named, streamed, results", tools),
                      ("thinking with a budget", thinking), ("count_tokens", count), ("models", models), ("errors", errors)]:
        check("anthropic", name, run)


def ollama_checks():
    import ollama

    client = ollama.Client(host=base)
    greedy = {"temperature": 0, "num_predict": 60}

    def chat():
        assert client.chat("mini", SUM, options=greedy).message.content == "3 + 4 = 7"
        parts = list(client.chat("mini", STORY, options=greedy, stream=True))
        whole = client.chat("mini", STORY, options=greedy)
        assert "".join(p.message.content for p in parts) == whole.message.content and parts[-1].done

    def generate():
        assert client.generate("mini", "3 + 4", options=greedy, keep_alive="5m").response == "3 + 4 = 7"

    def shaped():
        for think in [True, False]:
            r = client.chat("mini", SUM, options=greedy | {"num_predict": 300}, format=Answer.model_json_schema(), think=think)
            Answer.model_validate_json(r.message.content)

    def tools():
        r = client.chat("mini", SUM, options=greedy, tools=[{"type": "function", "function": ADD}])
        assert r.done

    def lists():
        assert client.list().models[0].model == "mini" and client.ps().models[0].model == "mini"
        assert "completion" in client.show("mini").capabilities

    def scored():
        r = client.chat("mini", SUM, options=greedy, logprobs=True, top_logprobs=2)
        assert len(r.logprobs) >= 39 and r.logprobs[-1].logprob <= 0 and len(r.logprobs[-1].top_logprobs) == 2
        parts = client.chat("mini", SUM, options=greedy, logprobs=True, stream=True)
        assert sum(len(p.logprobs or []) for p in parts) == len(r.logprobs)

    def embed():
        assert len(client.embed("mini", ["a", "b"]).embeddings) == 2
        assert len(client.embed("mini", ["a", "word " * 20000], truncate=True).embeddings) == 2

    def errors():
        try:
            client.show("maxi")
            raise AssertionError("was not refused")
        except ollama.ResponseError as error:
            assert error.status_code == 404 and "mini" in error.error

    for name, run in [("chat, whole and streamed", chat), ("generate", generate), ("format: a schema, with and without thinking", shaped),
                      ("tools", tools), ("list, ps, show", lists), ("embed, with a text that is cut", embed), ("log-probabilities", scored), ("errors", errors)]:
        check("ollama", name, run)


def langchain_checks():
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    model = ChatOpenAI(model="mini", base_url=f"{base}/v1", api_key="none", temperature=0)

    def chat():
        r = model.invoke("3 + 4")
        assert r.content == "3 + 4 = 7" and r.usage_metadata["output_tokens"] == 40

    def stream():
        assert "".join(c.content for c in model.stream("3 + 4")) == "3 + 4 = 7"

    def shaped():
        for method in ["json_schema", "function_calling"]:
            assert isinstance(model.with_structured_output(Answer, method=method).invoke("3 + 4"), Answer)

    def tools():
        bound = model.bind_tools([{"type": "function", "function": ADD}], tool_choice="add")
        (call,) = bound.invoke("3 + 4").tool_calls
        assert call["name"] == "add" and set(call["args"]) == {"a", "b"}

    def embed():
        e = OpenAIEmbeddings(model="mini", base_url=f"{base}/v1", api_key="none", check_embedding_ctx_length=False)
        assert len(e.embed_documents(["a", "b"])) == 2

    for name, run in [("invoke", chat), ("stream", stream), ("with_structured_output: schema and tool", shaped),
                      ("bind_tools", tools), ("embeddings", embed)]:
        check("langchain-openai", name, run)


openai_checks()
anthropic_checks()
ollama_checks()
langchain_checks()
sys.exit(failed > 0)
